"""The one assertion: what left a party is covered by its charges and by what it accepted.

`faults` looks at every delivery of one or several runs on the same nodes and says what is wrong:

- a reply that is no named error and none that the party may give;
- two different answers under one name, or a table whose event is not in the book exactly once;
- a charge for a request that was refused, or for nothing that left. An update that diverged is
  drawn and private before it is found out of the sum's range: its error counts as what left;
- a book that composes to more than the run's accepted epsilon, or than the guard's limit;
- a table without its noise; shares and updates that are not uniform; a sum of too few parties;
- an id, its hash, a coded row, an exact table, or a secret, in what the server can read.

It is silent on a right build, but for one case in 10**9 or fewer: a case makes at most four
statistical checks at SHARP (leaks.py), and needles are chosen as there.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from tests.e2e.leaks import GIVEN, SHARP
from tests.e2e.needles import Numbers, needles_of, search, with_noise
from tests.security.grid import Delivery, Row, Sites, book  # type: ignore[attr-defined]
from tests.security.worlds import World
from tests.statistics import p_levels, p_variance, plausible
from tests.whole_run import readable
from twinweave.errors import BY_NAME, MOST_CHARACTERS
from twinweave.privacy import accountant
from twinweave.privacy.events import Event
from twinweave.protocols import wire
from twinweave.protocols.products.opening import coins_of
from twinweave.protocols.products.pair import product_of
from twinweave.protocols.products.state import in_pass
from twinweave.protocols.secure_sum import rounds
from twinweave.protocols.secure_sum.updates import sums_of
from twinweave.protocols.training.plan import TrainingPlan, terms_of
from twinweave.spec import RunSpec
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query

NAMED = set(BY_NAME) - {"AppError", "InternalError"}
COUNTERS = ("step", "hop", "round")
SLACK = 1 + 2e-6
LARGE = 2.0
"""Noise of this standard deviation or more is close to normal; of less no p-value is asked."""


def faults(
    world: World, sites: Sites, log: Sequence[Delivery], states: Mapping[str, Any]
) -> list[str]:
    """What is wrong, in words; empty for a sound build. states: as of `remembered`."""
    return [
        *_errors(sites, log),
        *Releases(world, sites, log).faults(),
        *_readable(world, log, states),
    ]


# --- errors ------------------------------------------------------------------------------


def _errors(sites: Sites, log: Iterable[Delivery]) -> Iterator[str]:
    for d in log:
        if d.error is None:
            continue
        name, text = d.error
        if name not in NAMED:
            yield f"{d.party} in {d.phase}: {name}: {text}\n{sites.logged(d.party)[-3000:]}"
        if not text.isprintable() or len(text) > MOST_CHARACTERS + 100:
            yield f"{d.party} in {d.phase}: the text of {name} is raw or long"
        if d.charged and not _diverged(d):
            yield f"{d.party} in {d.phase}: charged, and refused with {name}: {text}"


# --- releases and charges ----------------------------------------------------------------


@dataclass(frozen=True)
class Releases:
    """What left the parties, beside their books."""

    world: World
    sites: Sites
    log: Sequence[Delivery]

    @cached_property
    def answered(self) -> dict[tuple[str, ...], list[Delivery]]:
        """(party, run, phase, counters) -> deliveries with an answer, one for each other bytes."""
        found: dict[tuple[str, ...], dict[bytes, Delivery]] = defaultdict(dict)
        for d in self.log:
            if d.error is None:
                request = d.request
                counters = (str(getattr(request, c)) for c in COUNTERS if hasattr(request, c))
                found[d.party, request.run, d.phase, *counters][wire.to_bytes(d.answer)] = d
        return {key: list(of.values()) for key, of in found.items()}

    @cached_property
    def accepted(self) -> dict[tuple[str, str], RunSpec]:
        """(party, run) -> the specification that it accepted."""
        return {
            key[:2]: RunSpec.loads(of[0].request.spec)  # type: ignore[misc]
            for key, of in self.answered.items()
            if key[2] == "query.setup"
        }

    @cached_property
    def books(self) -> dict[str, list[Row]]:
        return {party: book(self.sites, party) for party in self.sites.of}

    def faults(self) -> Iterator[str]:
        due: dict[tuple[str, str, str], Counter[Event]] = {}
        for key, of in self.answered.items():
            if len(of) > 1:
                yield f"{' '.join(key)}: {len(of)} different answers"
            found = list(self._released(key, of[0]))
            yield from (f"{' '.join(key)}: {x}" for x in found if isinstance(x, str))
            if events := Counter(x for x in found if isinstance(x, Event)):
                due[key[0], key[1], _charged_as(of[0])] = events
        for d in filter(_diverged, self.log):
            step = TrainingPlan.loads(d.request.plan).event(d.party, rounds=1)
            due[d.party, d.request.run, _charged_as(d)] = Counter([step])
        yield from self._charges(due)
        yield from self._budgets()
        yield from self._noise()
        yield from self._uniform()
        yield from self._sums()

    def _pass(self, party: str, run: str, step: int) -> RunSpec:
        """The specification with the tables of a pass."""
        spec = self.accepted[party, run]
        if not step:
            return spec
        share = self.answered[party, run, "query.share", str(step)][0]
        return spec.second(share.request.plan)

    def _released(self, key: tuple[str, ...], d: Delivery) -> Iterator[Event | str]:
        """The events of what left in an answer; or what is wrong with it."""
        party, run = key[:2]
        if (party, run) not in self.accepted:
            yield "answered without a specification"
        elif d.phase == "query.match":
            counting = self.accepted[party, run].tables.counting if d.request.hop == 1 else ()
            if d.answer.noise.shape != (len(counting),):
                yield "noise of other counts than the specification's"
            yield from counting
        elif d.phase == "query.share":
            spec = self._pass(party, run, d.request.step)
            for name in ("local", "pooled"):
                own = getattr(spec.tables, name)(party)
                given = d.answer.tables if name == "local" else d.answer.pooled
                if set(given) != {str(i) for i in own}:
                    yield f"other {name} tables than the specification's"
                yield from (p.event for p in own.values())
        elif d.phase == "query.open":
            spec = self._pass(party, run, d.request.step)
            for index in d.answer.shares:
                planned = spec.plan[int(index)]
                if not planned.query.is_cross or party not in planned.query.parties:
                    yield f"a share of table {index}, which is not its own"
                yield planned.event
        elif d.phase == "train.generator":
            yield TrainingPlan.loads(d.request.plan).event(party, rounds=1)

    def _charges(self, due: Mapping[tuple[str, str, str], Counter[Event]]) -> Iterator[str]:
        booked = {
            (p, run, phase): Counter(e) for p, of in self.books.items() for run, phase, e in of
        }
        for key in due.keys() | {k for k, events in booked.items() if events}:
            if due.get(key) != booked.get(key):
                yield f"{' '.join(key)}: {due.get(key)} left, {booked.get(key)} is in the book"

    def _budgets(self) -> Iterator[str]:
        for party, rows in self.books.items():
            for run in {row[0] for row in rows}:
                spec = self.accepted[party, run]
                events = [e for row in rows if row[0] == run for e in row[2]]
                if (found := _epsilon(events, spec.delta)) > spec.epsilon * SLACK:
                    yield f"{party}: run {run} costs {found}, {spec.epsilon} was accepted"
            guard = self.world.deployment.sites[party]["guard"]
            events = [e for row in rows for e in row[2]]
            if guard["mode"] == "on" and _epsilon(events, guard["delta"]) > guard["epsilon"]:
                yield f"{party}: more than its guard allows"

    def _shared(self) -> Iterator[tuple[RunSpec, Delivery]]:
        for key, of in self.answered.items():
            if key[2] == "query.share":
                yield self._pass(key[0], key[1], of[0].request.step), of[0]

    def _noise(self) -> Iterator[str]:
        found = []
        for spec, d in self._shared():
            for index, table in d.answer.tables.items():
                planned = spec.plan[int(index)]
                sd = planned.variance**0.5
                if sd >= LARGE:
                    exact = _exact(self.world, planned.query)
                    found.append(((table - exact) / sd).ravel())
        if found and not plausible(p_variance(np.concatenate(found)), SHARP):
            yield "tables without their noise"

    def _uniform(self) -> Iterator[str]:
        parts: dict[str, list[np.ndarray]] = defaultdict(list)  # type: ignore[type-arg]
        for _, d in self._shared():
            for part in d.answer.pooled.values():
                parts["a pooled table"].append(_nibbles(part.ravel(), 64))
        for key, of in self.answered.items():
            party, run, phase = key[:3]
            if phase == "query.open":
                spec = self._pass(party, run, of[0].request.step)
                share = self.answered[party, run, "query.share", key[3]][0]
                for index, array in of[0].answer.shares.items():
                    high = _high(spec, int(index), share.request.n_slots, array)
                    parts["shares"].append(high)
            if phase == "train.generator" and self._summed_by(party, run) == "masking":
                parts["an update"].append(_nibbles(of[0].answer.words, 32))
        for name, values in parts.items():
            if not plausible(p_levels(np.concatenate(values), 16), SHARP):
                yield f"not uniform: {name}"

    def _summed_by(self, party: str, run: str) -> str:
        return self.accepted[party, run].trained.secure_sum

    # --- secure sums ---------------------------------------------------------------------

    def _sums(self) -> Iterator[str]:
        trained = {(key[1], key[3]) for key in self.answered if key[2] == "train.generator"}
        for run, number in trained:
            yield from self._sum_of(run, number)

    def _sum_of(self, run: str, number: str) -> Iterator[str]:
        uploads = {
            p: d for p in self.sites.of if (d := self._one(p, run, "train.generator", number))
        }
        spec = self.accepted[next(iter(uploads)), run]
        plan, kind = sums_of(spec), spec.trained.secure_sum
        answers = {p: d for p in uploads if (d := self._one(p, run, "train.reveal", number))}
        least = plan.min_alive if kind == "masking" else rounds.least_in_sum(plan)
        for party, d in answers.items():
            alive = d.request.alive
            if (
                sum(alive.values()) < least
                or not alive.get(party)
                or set(alive) != set(spec.parties)
            ):
                yield f"{party} helped to open a sum of {alive}"
        if kind == "masking":
            told = {p: self._terms(p, run, d) for p, d in uploads.items()}
            alive_at = {p: d.request.alive for p, d in answers.items()}
            if plan.needs_everyone:
                alive_at = {p: dict.fromkeys(plan.parties, True) for p in uploads}
            for group in _openable(plan, told, alive_at):
                if len(group) < min(plan.honest_in_any_sum, len(plan.parties)):
                    yield f"the sum over {group} alone can be opened"

    def _one(self, *key: str) -> Delivery | None:
        return self.answered.get(key, [None])[0]

    def _terms(self, party: str, run: str, d: Delivery) -> str:
        asked = d.request
        blind = self._one(party, run, "query.blind")
        assert blind is not None
        hellos = blind.request.hellos
        return terms_of({"hellos": hash(str(hellos))}, asked.plan, asked.weights, asked.one_way)


def _openable(
    plan: Any, told: Mapping[str, str], alive_at: Mapping[str, Mapping[str, bool]]
) -> Iterator[tuple[str, ...]]:
    """Groups of uploads whose masks all cancel, or were told to the server (masking.py)."""

    def self_mask(u: str) -> bool:
        near = plan.neighbours[u]
        return sum(alive_at.get(v, {}).get(u, False) for v in near) >= plan.shares_needed

    def pair_mask(u: str, v: str) -> bool:
        """Whether the server knows the seed with which u masked against v."""
        by_u = not alive_at.get(u, {v: True})[v]
        by_v = v in told and told[u] == told[v] and not alive_at.get(v, {u: True})[u]
        return by_u or by_v

    for size in range(1, len(told) + 1):
        for group in combinations(sorted(told), size):
            if all(self_mask(u) for u in group) and all(
                (v in group and told[u] == told[v]) or pair_mask(u, v)
                for u in group
                for v in plan.neighbours[u]
            ):
                yield group


def _diverged(d: Delivery) -> bool:
    """Whether all that left of a private step is that its update is out of range."""
    return d.phase == "train.generator" and d.error is not None and d.error[0] == "DivergedError"


def _charged_as(d: Delivery) -> str:
    """The name of a release in the book."""
    request = d.request
    if d.phase == "train.generator":
        return f"{d.phase}/{request.round}"
    if d.phase == "query.match":
        return d.phase
    name = in_pass(d.phase, request.step)
    return f"{name}, hop {request.hop}" if getattr(request, "hop", 1) > 1 else name


def _epsilon(events: Iterable[Event], delta: float) -> float:
    mechanisms = sorted((e.mechanism for e in events), key=repr)
    return _composed(tuple(mechanisms), delta)


@lru_cache(maxsize=512)
def _composed(mechanisms: tuple[Any, ...], delta: float) -> float:
    return accountant.epsilon_of_mechanisms(mechanisms, delta)


def _nibbles(words: np.ndarray, bits: int) -> np.ndarray:  # type: ignore[type-arg]
    return (words >> np.uint64(bits - 4).astype(words.dtype)).astype(np.int64) & 15


def _high(spec: RunSpec, index: int, n_slots: int, array: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The highest four bits that mean something."""
    flat, bits = array.ravel(), array.dtype.itemsize * 8
    planned = spec.plan[index]
    if planned.coins is not None:
        dealt = coins_of(product_of(spec, *planned.query.parties, n_slots), {index: planned})  # type: ignore[arg-type, call-arg]
        flat, bits = flat & dealt[index].low_bits, 8 * dealt[index].width
    return _nibbles(flat, bits)


# --- what the server can read ------------------------------------------------------------


def _readable(world: World, log: Sequence[Delivery], states: Mapping[str, Any]) -> Iterator[str]:
    seen: dict[bytes, str] = {}
    for d in log:
        for where, data in readable([d.reply]):
            name = where.rsplit(" ", 1)[1]
            general = name.split("/")[0] + ("/*" if "/" in name else "")
            if d.error is None and general not in GIVEN[d.phase] | {"arrays.pooled/*"}:
                yield f"{d.party} in {d.phase}: an unknown field {general}"
            seen[data] = where
    wanted = dict(_wanted(world))
    wanted["secret"] = [s for state in states.values() for s in _secrets(state)]
    for name in search(list(seen), wanted):
        yield f"readable: {name}"


_KNOWN: dict[World, dict[str, list[bytes]]] = {}


def _wanted(world: World) -> dict[str, list[bytes]]:
    """Byte strings of a world that must not occur, whatever the run."""
    if world not in _KNOWN:
        local = [p for p in world.spec().plan if not p.query.is_cross and not p.query.is_pooled]
        sd = min([p.variance**0.5 for p in local], default=1.0)
        noisy = [with_noise(max(sd, 0.5), 10**5)]
        _KNOWN[world] = {
            "id": [],
            "hash of an id": [],
            "coded rows": [],
            "exact table": [n for p in world.spec().plan for n in _tables(world, p, noisy)],
        }
        for labels in world.clear.labels.values():
            ids = [str(name).encode() for name in labels.index]
            _KNOWN[world]["id"] += ids
            for how in (hashlib.sha256, hashlib.sha512, hashlib.blake2b):
                _KNOWN[world]["hash of an id"] += [how(one).digest() for one in ids]
            codes = np.stack([labels[c].astype("category").cat.codes for c in labels], axis=1)
            for dtype in ("u1", "<i4", "<i8"):
                _KNOWN[world]["coded rows"] += needles_of(
                    codes, (dtype,), noisy, range(0, len(codes), 8)
                )
    return _KNOWN[world]


def _tables(world: World, planned: PlannedQuery, noisy: Sequence[Numbers]) -> list[bytes]:
    exact = _exact(world, planned.query)
    return needles_of(exact.reshape(1, -1), ("<i8", "<i4", "<f8", "<f4"), noisy)


def _exact(world: World, query: Query) -> np.ndarray:  # type: ignore[type-arg]
    """The oracle's table; of coarse columns the sum over the levels of each group."""
    fine = replace(query, sides=tuple(replace(side, groups=()) for side in query.sides))
    table = world.clear.table(fine)
    if query.is_cross:
        return table
    for axis, grouping in enumerate(query.sides[0].groups):
        groups = np.array(grouping)
        coarse = np.zeros((groups.max() + 1, *np.moveaxis(table, axis, 0).shape[1:]))
        np.add.at(coarse, groups, np.moveaxis(table, axis, 0))
        table = np.moveaxis(coarse, 0, axis)
    return table


def _secrets(state: Any) -> Iterator[bytes]:
    """The secrets of a party's state, however deep in it."""
    for field in fields(state):
        value = getattr(state, field.name)
        if is_dataclass(value):
            yield from _secrets(value)
        elif field.name in ("secret", "model") and len(value) >= 8:
            yield value[:64]
        elif field.name == "shares":
            yield from (share for share in value.values() if len(share) >= 8)
