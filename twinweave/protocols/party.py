"""One party in one run: its table, its keys, its guard. What a protocol's steps work with.

Each step of a protocol is a function of (request, state, site) to (reply, next state). The
states are typed, so that a phase out of its order finds no state to work on:

    Joined -> Introduced -> Aligned -> Shared (-> Agreed -> Shared) (-> Trained ...)
        (-> Released) -> Finished

and each holds the one before it. What leaves is sealed for a peer, blinded by every party, under
masks, or carries noise that the guard has been charged for.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ChannelError, ProtocolError
from twinweave.parsing import canonical_json, parse
from twinweave.privacy.events import Event
from twinweave.privacy.guard import Guard, Limit, Receipt
from twinweave.protocols.channel import keys as channel
from twinweave.protocols.channel.identity import Identity
from twinweave.protocols.channel.keys import Hello, PairKeys, make_hello
from twinweave.protocols.keystream import Keystream, hkdf
from twinweave.site import Site
from twinweave.spec import RunSpec
from twinweave.workload.queries import Summed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from twinweave.tables.cleaning import CleaningReport
    from twinweave.tables.encoding import EncodedTable

log = logging.getLogger("twinweave.party")


@dataclass(frozen=True, kw_only=True)
class Joined:
    """A party that accepted a run's specification. Private.

    spec: its JSON. secret: 32 bytes that every key and mask of the run follows from.
    fingerprint: of the table's ids; contents: of the whole table at setup.
    """

    run: str
    spec: str
    secret: bytes = field(repr=False)
    rows: int
    fingerprint: str
    contents: str


@dataclass(frozen=True, kw_only=True)
class Introduced:
    """A party that holds its peers' signed keys, and knows all that the run may cost.

    hellos: as text, by party, its own included. training: JSON of the TrainingPlan, or "".
    """

    joined: Joined
    hellos: dict[str, str]
    training: str = ""


@dataclass(frozen=True, kw_only=True)
class Released:
    """A party that waits for the synthetic tables; slots, seeds and models are gone."""

    introduced: Introduced


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A party whose part in a run is over: no secret of it is left."""

    run: str


@dataclass
class Answering:
    """The answer to one request in the making. charged: whether the guard was charged for it.

    mark: drawn when the request first came to the party's record of the run.
    """

    mark: str
    charged: bool = False


_ANSWERING: ContextVar[Answering | None] = ContextVar("answering", default=None)


@contextmanager
def answering(mark: str) -> Iterator[Answering]:
    """While a request is answered of which the party's record of the run holds no answer.

    mark: see Answering.

    An answer is on the party's disk before it leaves. So where one lacks in the very record that
    the guard was charged for, nothing of it has left, and to draw now is the first release.
    """
    found = Answering(mark)
    token = _ANSWERING.set(found)
    try:
        yield found
    finally:
        _ANSWERING.reset(token)


@dataclass(frozen=True)
class Party:
    """One party's view of one run. Cheap to build: everything heavy is computed on demand."""

    site: Site
    state: Introduced

    @property
    def name(self) -> str:
        return self.site.party

    @property
    def run(self) -> str:
        return self.state.joined.run

    @property
    def secret(self) -> bytes:
        return self.state.joined.secret

    @cached_property
    def spec(self) -> RunSpec:
        return RunSpec.loads(self.state.joined.spec)

    @property
    def peers(self) -> tuple[str, ...]:
        """Every other party of the run, in run order."""
        return tuple(p for p in self.spec.parties if p != self.name)

    @cached_property
    def table(self) -> EncodedTable:
        """The encoded table. Raises ProtocolError when it changed since setup."""
        from twinweave.tables.encoding import contents

        table = self._rows.used
        if contents(table) != self.state.joined.contents:
            raise ProtocolError("the table changed during the run. Start a new run.")
        return table

    @property
    def aside(self) -> EncodedTable:
        """The rows that were set aside: nothing but the audit may see them."""
        return self._rows.aside

    @property
    def _rows(self) -> Divided:
        return read_rows(self.site, self.run, self.spec.holdout)

    def done(self) -> Released | Finished:
        """The state after the last release, but for the evaluation of a run that has one."""
        return Released(introduced=self.state) if self.spec.audit else Finished(run=self.run)

    def units(self, summed: Summed) -> NDArray[np.int32]:
        """What a weighted side sums of every row: (n,) int32, in units.

        The dither follows from the party's secret of this run, so that it is drawn once: a
        repeated message, both halves of a product and every table find the same units.
        """
        from twinweave.tables.encoding import value_units

        name, clip = summed
        draws = Keystream(hkdf(self.secret, "dither", name, repr(clip)))
        amounts = self.table.amounts[name]
        column = self.site.schema.column(name)
        return value_units(column, amounts, clip, draws.words64(len(amounts)))

    # --- keys ---------------------------------------------------------------------------

    @cached_property
    def hello(self) -> Hello:
        return self._own_key[1]

    @cached_property
    def rows(self) -> dict[str, int]:
        """Every party's table size, as it signed it."""
        return {self.name: self.state.joined.rows} | {p: self._hello(p).rows for p in self.peers}

    def keys(self, peer: str) -> PairKeys:
        """Keys with a peer. Raises ChannelError unless its hello verifies under the pin."""
        private, own = self._own_key
        return PairKeys.agree(private, own, self._hello(peer), pins=self.site.pins)

    def pair_secret(self, peer: str, purpose: str) -> bytes:
        """32 bytes that the peer knows too and the server does not; one for each purpose."""
        return channel.pair_secret(self.keys(peer), purpose)

    def _hello(self, peer: str) -> Hello:
        if peer not in self.state.hellos:
            raise ProtocolError(f"no hello of {peer!r} in this run. Start a new run.")
        theirs = Hello.loads(self.state.hellos[peer])
        if theirs.party != peer:
            raise ProtocolError(f"the hello under the name {peer!r} is of another party.")
        return theirs

    @cached_property
    def _own_key(self) -> tuple[X25519PrivateKey, Hello]:
        joined = self.state.joined
        return make_hello(
            Identity.load(self.site.identity),
            self.name,
            joined.run,
            self.spec.digest,
            rows=joined.rows,
            run_secret=joined.secret,
            holdout=self._holdout_proof,
        )

    @property
    def _holdout_proof(self) -> str:
        """A function of the holdout's key and the run; "" where nobody is set aside."""
        key = self.site.holdout_key
        if key is None or not self.spec.holdout:
            return ""
        return hkdf(bytes.fromhex(key), "holdout", self.run).hex()

    def check_holdout(self) -> None:
        """Raise ChannelError unless every peer sets the same users aside.

        Else users of one party would seem to be unknown to another, and every figure across
        the two would be wrong without a sign.
        """
        if others := [p for p in self.peers if self._hello(p).holdout != self.hello.holdout]:
            raise ChannelError(
                f"{', '.join(map(repr, others))}: `holdout_key` is not that of this party, so that "
                "other users would be set aside. Agree on one, out of band."
            )

    def seal(
        self, peer: str, phase: str, label: str, content: bytes | NDArray[np.generic]
    ) -> bytes:
        """Content, or an array's bytes, for the peer alone; bound to run, phase and label."""
        plain = content if isinstance(content, bytes) else np.ascontiguousarray(content).data
        return channel.seal(plain, keys=self.keys(peer), phase=phase, label=label)

    def unseal(self, peer: str, phase: str, label: str, blob: bytes) -> bytes:
        """Inverse, from the peer. Raises ChannelError."""
        return channel.open_sealed(blob, keys=self.keys(peer), phase=phase, label=label)

    # --- budget -------------------------------------------------------------------------

    @cached_property
    def guard(self) -> Guard:
        site = self.site
        return Guard.open(
            site.guard,
            party=self.name,
            dataset=site.dataset,
            folder=site.work,
            setting=site.guard_setting,
        )

    @property
    def limit(self) -> Limit:
        """What this party accepted for the run as a whole."""
        return self.spec.limit

    def foresee(self, own: Sequence[Event], everyones: Sequence[Event]) -> None:
        """Refuse what does not fit in the guard or the run, before anybody released any of it.

        own: to come at this party. everyones: all of the run at every party, so far and to come.
        Raises BudgetError; spends nothing.
        """
        self.spec.within_budget(everyones)
        self.guard.check(run=self.run, events=own, run_limit=self.limit)

    def charge(self, phase: str, events: Sequence[Event]) -> Receipt:
        """Charge the guard for what is about to be released: the receipt every release takes.

        The charge is bound to the secret of this record of the run and to the mark of the request:
        a record that was deleted and set up anew, or set back by a backup to before the request
        came, gets nothing under the old charge. Where the process died after a charge and
        before its answer was stored, nothing was released, and the charge stands for the answer
        that is drawn now (`answering`).
        Raises BudgetError; ProtocolError where it was charged before and its answer is lost.
        """
        here = _ANSWERING.get()
        mark = here.mark if here else ""
        receipt = self.guard.spend(
            fingerprint=self.state.joined.fingerprint,
            run=self.run,
            phase=phase,
            request_hash=hkdf(self.secret, "charge", self.spec.digest, mark).hex(),
            events=events,
            run_limit=self.limit,
        )
        if here is not None:
            here.charged = True
        elif not receipt.fresh:
            raise ProtocolError(f"{phase}: charged before and its answer is lost. Start a new run.")
        return replace(receipt, fresh=True)


@dataclass(frozen=True, kw_only=True)
class Divided:
    """A party's rows: those that a run is about, and those set aside for its audit.

    fingerprint: of the ids of both.
    """

    used: EncodedTable = field(repr=False)
    aside: EncodedTable = field(repr=False)
    fingerprint: str


def read_rows(site: Site, run: str, holdout: float) -> Divided:
    """Read, clean, encode and divide the party's table; once a run in one process.

    A process can outlive a run, and the table may change between runs. holdout: part of the
    users that is set aside, under the site's key.
    """
    return _divided(canonical_json(site), run, holdout)


def tell_cleaning(site: Site, run: str) -> None:
    """What cleaning changed in the party's table, to the party's own log and nowhere else."""
    report = _read_table(canonical_json(site), run)[1]
    for line in report.lines():
        log.info("cleaning: %s", line)
    for line in report.warnings():
        log.warning("cleaning: %s", line)


@lru_cache(maxsize=4)
def _divided(site: str, run: str, holdout: float) -> Divided:
    from twinweave.tables.encoding import fingerprint
    from twinweave.tables.holdout import divide

    table, key = _read_table(site, run)[0], parse(Site, json.loads(site)).holdout_key
    used, aside = divide(table, bytes.fromhex(key) if key else None, holdout)
    return Divided(used=used, aside=aside, fingerprint=fingerprint(table))


@lru_cache(maxsize=4)
def _read_table(
    site: str,
    run: str,  # noqa: ARG001 (a key of the cache)
) -> tuple[EncodedTable, CleaningReport]:
    from twinweave.tables.loading import load_reported

    own = parse(Site, json.loads(site))
    return load_reported(own.source, own.schema, own.party)
