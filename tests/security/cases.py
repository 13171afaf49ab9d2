"""Every case of a world: one alteration at one place of an otherwise honest run.

`of_a_server` and `of_a_party` list them, `play` plays one and says what is wrong.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from server.generator import first_weights
from strategies import records
from strategies.weave import Stages, conduct
from tests.security import hostile
from tests.security.covered import NAMED, faults
from tests.security.grid import (
    REQUESTS,
    Alteration,
    Batch,
    Delivery,
    Deviating,
    Place,
    Recording,
    instead,
    like,
    request_of,
)
from tests.security.worlds import World
from tests.whole_run import remembered
from twinweave.errors import AppError
from twinweave.protocols import party, wire
from twinweave.protocols.channel import keys as channel
from twinweave.spec import RunSpec

SECONDS = 20
"""Of processor time that a case may take: one that takes longer is a fault too."""

FINISHED = "finished"


@dataclass(frozen=True)
class Case:
    """What deviates, and in which world.

    planned: what becomes of the specification that the server plans; None where nothing does.
    older: whether another run came before on the same nodes, for the alteration to use.
    liar: a party that deviates, on the wire or (patched) inside.
    """

    world: World
    alteration: Alteration
    older: bool = False
    planned: Callable[[RunSpec], RunSpec | None] | None = None
    liar: str = ""
    patched: Callable[[pytest.MonkeyPatch, Deviating], None] | None = None

    def __str__(self) -> str:
        return f"{self.world.name} | {self.alteration.place} | {self.alteration.name}"


def play(case: Case) -> list[str] | None:
    """What is wrong after a case: see `covered.faults`. None where it had nothing to alter."""
    world, log = case.world, list[Delivery]()
    spec = world.spec() if case.planned is None else case.planned(world.spec())
    if spec is None:
        return None
    with world.sites() as sites, remembered() as states, pytest.MonkeyPatch.context() as patch:
        older = None
        if case.older:
            older = Recording(sites, log)
            conducted(world, older, world.spec())
        grid = Deviating(world, sites, case.alteration, log=log, older=older)
        if case.patched is not None:
            case.patched(patch, grid)
        try:
            with limited(SECONDS):
                end = conducted(world, grid, spec)
        except TimeoutError:
            return [f"took more than {SECONDS} s"]
        except Exception as error:
            # A specification that the server itself cannot plan with is its own trouble.
            end = f"an unexpected {type(error).__name__}" if case.planned is None else ""
        if not grid.applied:
            return None
        found = [] if end in {*NAMED, "AppError", FINISHED, ""} else [f"the run ended in {end}"]
        found += faults(world, sites, log, states)
        if case.liar and end == FINISHED:
            found += overwritten(grid, case.liar)
        return found


def overwritten(grid: Deviating, liar: str) -> Iterator[str]:
    """Tables of the other parties alone that are not as they answered them."""
    (findings,) = grid.findings
    for d in grid.log:
        if d.phase != "query.share" or d.error is not None or d.party == liar:
            continue
        for index, table in d.answer.tables.items():
            same_pass = bool(d.request.step) == findings.spec.two_passes
            if same_pass and not np.array_equal(findings.measurements[int(index)].values, table):
                yield f"table {index} is not what {d.party} answered"


def conducted(world: World, grid: Recording, spec: RunSpec) -> str:
    """A run to its end: FINISHED, or the class of the error that ended it."""
    try:
        conduct(
            grid,
            world.conf,
            Stages(
                begin=lambda measured: first_weights(world.conf, measured),
                finish=grid.findings.append,
            ),
            spec=spec,
        )
    except AppError as error:
        return type(error).__name__
    return FINISHED


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """TimeoutError after so many seconds of processor time."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


# --- a server that deviates ----------------------------------------------------------------


def of_a_server(world: World) -> Iterator[Case]:
    """Every case of a world in which the server deviates, from what an honest run of it says."""
    for place, message in places(honest_run(world)):
        for change in hostile.changes(request_of(message)):
            yield Case(world, Alteration(change.name, place, instead(change.apply, place.party)))
        for name, batch in FLOWS.items():
            yield Case(world, Alteration(name, place, _noted(batch)), older="older" in name)
    accepted = Place("query.setup", 0, "all")
    for name, change in hostile.json_changes(world.spec().dumps()):  # type: ignore[assignment]
        alteration = Alteration(f"planned spec{name}", accepted, _noted(Deviating.honestly))
        yield Case(world, alteration, planned=_planned(change))  # type: ignore[arg-type]


def honest_run(world: World) -> Recording:
    with world.sites() as sites:
        grid = Recording(sites)
        assert conducted(world, grid, world.spec()) == FINISHED
    return grid


def places(grid: Recording) -> Iterator[tuple[Place, Message]]:
    """Each phase at its first and its last batch, at the first and the last party asked, where
    they are not told the same; and the request there."""
    batches: dict[str, list[list[Message]]] = {}
    for batch in grid.batches:
        batches.setdefault(batch[0].metadata.message_type, []).append(batch)
    for phase, of in batches.items():
        for nth in dict.fromkeys((0, len(of) - 1)):
            told = {wire.to_bytes(request_of(m)): m for m in (of[nth][-1], of[nth][0])}
            for message in told.values():
                yield Place(phase, nth, grid.party(message.metadata.dst_node_id)), message


def _planned(change: Callable[[str], str]) -> Callable[[RunSpec], RunSpec | None]:
    """A server that plans with the change, where it leaves a specification at all."""

    def planned(spec: RunSpec) -> RunSpec | None:
        try:
            changed = RunSpec.loads(change(spec.dumps()))
            return changed if changed.dumps() != spec.dumps() else None
        except (AppError, ValueError):  # can only be sent as it is, as other cases do
            return None

    return planned


def _noted(batch: Batch) -> Batch:
    def deliver(grid: Deviating, messages: list[Message]) -> Iterable[str]:
        grid.applied = True
        return batch(grid, messages)

    return deliver


# --- a party that deviates -----------------------------------------------------------------


def of_a_party(world: World) -> Iterator[Case]:
    """Every case of a world in which a party deviates: its replies altered, or what it seals for
    others (which passes, since the seal is its own), or the size of its table, which it signs."""
    grid = honest_run(world)
    replies = {(d.party, d.phase): d.answer for d in reversed(grid.log)}
    liars = (world.parties[0], world.parties[-1])
    for phase, nth in dict.fromkeys((place.phase, place.nth) for place, _ in places(grid)):
        for liar in liars:
            for change in hostile.changes(replies[liar, phase]) if (liar, phase) in replies else ():
                answers = Place(phase, nth, liar)
                batch = answering(change.apply, liar)
                yield Case(world, Alteration(f"answers {change.name}", answers, batch), liar=liar)
    for liar in liars:
        for phase in SEALED_IN:
            for name, value in hostile.byte_changes():
                inside = Alteration(f"seals {name}", Place(phase, 0, liar), Deviating.honestly)
                yield Case(world, inside, liar=liar, patched=_sealing(liar, phase, value))
        for rows in (-1, 0, 1, 2**20, 2**40 - 1, 2**40):
            size = Alteration(f"signs {rows} rows", Place("", 0, liar), Deviating.honestly)
            yield Case(world, size, liar=liar, patched=_signing(liar, rows))


SEALED_IN = ("query.blind", "query.match", "query.share", "query.open", "secure_sum")


def answering(change: Callable[[Any], RecordDict | None], liar: str) -> Batch:
    """A party's answer altered on its way to the server."""

    def batch(grid: Deviating, messages: list[Message]) -> Iterable[str]:
        names = grid.honestly(messages)
        for name, message in zip(names, messages, strict=True):
            if grid.party(message.metadata.dst_node_id) == liar and not grid.failed(name):
                content = change(grid.log[names.index(name) - len(names)].answer)
                if content is not None:
                    grid.applied = True
                    grid._replies[name] = Message(content, reply_to=message)
        return names

    return batch


def _sealing(liar: str, phase: str, change: hostile.Value) -> Any:
    real = channel.seal

    def patched(patch: pytest.MonkeyPatch, grid: Deviating) -> None:
        def seal(plaintext: bytes | memoryview, **told: Any) -> bytes:
            if told["keys"].own == liar and told["phase"].startswith(phase):
                changed = change(bytes(memoryview(plaintext).cast("B")))
                if isinstance(changed, bytes):
                    grid.applied, plaintext = True, changed
            return real(plaintext, **told)

        for module in list(sys.modules.values()):
            if getattr(module, "seal", None) is real:
                patch.setattr(module, "seal", seal)

    return patched


def _signing(liar: str, rows: int) -> Any:
    real = party.make_hello  # type: ignore[attr-defined]

    def patched(patch: pytest.MonkeyPatch, grid: Deviating) -> None:
        def make_hello(identity: Any, own: str, *given: Any, **told: Any) -> Any:
            if own == liar:
                grid.applied, told = True, told | {"rows": rows}
            return real(identity, own, *given, **told)

        patch.setattr(party, "make_hello", make_hello)

    return patched


# --- what is no value ----------------------------------------------------------------------


def _twice(grid: Deviating, batch: list[Message]) -> Iterable[str]:
    grid.honestly(batch)
    return grid.honestly(batch)


def _all_again(grid: Deviating, batch: list[Message]) -> Iterable[str]:
    names = grid.honestly(batch)
    for sent in grid.batches:
        grid.honestly(sent)
    return names


def _exchanged(grid: Deviating, batch: list[Message]) -> Iterable[str]:
    """Each party is asked what the next one should be, and then what it should be itself."""
    for message, other in zip(batch, [*batch[1:], batch[0]], strict=True):
        grid._deliver(like(message, other.content))
    return grid.honestly(batch)


def _to_all(grid: Deviating, batch: list[Message]) -> Iterable[str]:
    for message in batch:
        for node in grid.get_node_ids():
            grid._deliver(like(message, message.content, node=node))
    return grid.honestly(batch)


def _other_phases(grid: Deviating, batch: list[Message]) -> Iterable[str]:
    names = grid.honestly(batch)
    for phase in REQUESTS:
        for message in batch:
            if phase != message.metadata.message_type:
                grid._deliver(like(message, message.content, phase=phase))
    return names


def _forgotten(grid: Deviating, batch: list[Message]) -> Iterable[str]:
    grid._contexts = Recording(grid.sites)._contexts
    return grid.honestly(batch)


def _another_run(grid: Deviating, batch: list[Message]) -> Iterable[str]:
    other = Recording(grid.sites, grid.log)
    other._contexts = grid._contexts
    assert conducted(grid.world, other, grid.world.spec()) in {*NAMED, FINISHED}
    return grid.honestly(batch)


def _older(grid: Deviating, batch: list[Message]) -> Iterable[str]:
    for message in grid.earlier(batch[0].metadata.message_type):
        grid._deliver(message)
    return grid.honestly(batch)


def _older_renamed(grid: Deviating, batch: list[Message]) -> Iterable[str]:
    run = request_of(batch[0]).run
    for message in grid.earlier(batch[0].metadata.message_type):
        grid._deliver(like(message, records.pack(replace(request_of(message), run=run))))
    return grid.honestly(batch)


def _all_older(grid: Deviating, batch: list[Message]) -> Iterable[str]:
    for message in grid.earlier():
        grid._deliver(message)
    return grid.honestly(batch)


FLOWS: dict[str, Batch] = {
    "lost": lambda grid, batch: grid.honestly(batch[1:]),
    "answer lost": lambda grid, batch: grid.honestly(batch)[1:],
    "all lost": lambda grid, batch: [],
    "twice": _twice,
    "in turned order": lambda grid, batch: grid.honestly(batch[::-1])[::-1],
    "all earlier ones again": _all_again,
    "exchanged between the parties": _exchanged,
    "to every party": _to_all,
    "under every other phase": _other_phases,
    "with Flower's contexts forgotten": _forgotten,
    "another run in between": _another_run,
    "the older run's first": _older,
    "the older run's under this run's name": _older_renamed,
    "all of the older run's again": _all_older,
}
"""Messages lost, repeated, out of order, of another run, to another party."""
