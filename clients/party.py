"""A party in the middle of a run: what it remembers, its table, its keys, its guard."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clients.site import Site
from twinweave.errors import ProtocolError
from twinweave.parsing import canonical_json, parse
from twinweave.privacy.events import Event
from twinweave.privacy.guard import Guard, Limit
from twinweave.protocols.channel.hellos import load_hello
from twinweave.protocols.channel.identity import Identity
from twinweave.protocols.channel.keys import Hello, PairKeys, make_hello
from twinweave.protocols.keystream import hkdf
from twinweave.protocols.secure_sum import Progress, SumParty, party_end, peers
from twinweave.spec import RunSpec

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from twinweave.tables.encoding import EncodedTable


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a party keeps between the messages of one run, in its Flower context. Private.

    secret: 32 bytes that every key and mask of the run follows from. fingerprint: whose data
    it is (the guard's key); contents: of the whole table at setup. order: the party's rows
    in the secret order of its tags. slots: its rows' places on the spine (empty before share).
    step: pass through share and open; tables: the second plan, JSON, "" in the first pass.
    model: private state of the training (discriminator, optimiser). sum_shares, sum_rounds:
    what the secure sums need (secure_sum.Progress). answered: number of requests so far.
    """

    run: str
    spec: str
    secret: bytes = field(repr=False)
    fingerprint: str
    contents: str
    answered: int = 0
    hellos: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    seeds: dict[str, bytes] = field(default_factory=dict, repr=False)
    n_slots: int = 0
    step: int = 0
    tables: str = ""
    model: bytes = field(default=b"", repr=False)
    sum_shares: dict[str, bytes] = field(default_factory=dict, repr=False)
    sum_rounds: dict[str, str] = field(default_factory=dict)
    order: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    slots: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)


@dataclass(frozen=True)
class Party:
    """One party's view of one run. Cheap to build: everything heavy is computed on demand."""

    site: Site
    session: Session

    @property
    def name(self) -> str:
        return self.site.party

    @cached_property
    def spec(self) -> RunSpec:
        return RunSpec.loads(self.session.spec)

    @cached_property
    def now(self) -> RunSpec:
        """The specification with the tables of this pass."""
        return self.spec.second(self.session.tables) if self.session.tables else self.spec

    @property
    def events(self) -> list[Event]:
        """Of every table of the run so far, at all parties."""
        second = self.now.plan if self.session.tables else ()
        return [p.event for p in (*self.spec.plan, *second)]

    @cached_property
    def table(self) -> EncodedTable:
        """The encoded table. Raises ProtocolError when it changed since setup."""
        from twinweave.tables.encoding import contents

        table = read_table(self.site, self.session.run)
        if contents(table) != self.session.contents:
            raise ProtocolError("the table changed during the run. Start a new run.")
        return table

    @cached_property
    def hello(self) -> Hello:
        return self._own_key[1]

    def keys(self, peer: str) -> PairKeys:
        """Keys with a peer. Raises ChannelError unless its hello verifies under the pin."""
        if peer not in self.session.hellos:
            raise ProtocolError(f"no hello of {peer!r} in this run. Start a new run.")
        private, own = self._own_key
        theirs = load_hello(self.session.hellos[peer])
        if theirs.party != peer:
            raise ProtocolError(f"the hello under the name {peer!r} is of another party.")
        return PairKeys.agree(private, own, theirs, pins=self.site.pins)

    @cached_property
    def _own_key(self) -> tuple[X25519PrivateKey, Hello]:
        identity = Identity.load(self.site.identity)
        return make_hello(
            identity, self.name, self.session.run, self.spec.digest, run_secret=self.session.secret
        )

    @property
    def summing(self) -> SumParty:
        """This party's end of the secure sums of the training."""
        assert self.spec.training is not None
        kind, plan = self.spec.training.secure_sum, self.spec.sums
        return party_end(
            kind,
            plan=plan,
            own=self.name,
            secret=hkdf(self.session.secret, "secure sums"),
            keys={peer: self.keys(peer) for peer in peers(kind, plan, self.name)},
            progress=Progress(shares=self.session.sum_shares, rounds=self.session.sum_rounds),
        )

    @cached_property
    def guard(self) -> Guard:
        return Guard.open(self.site.guard, party=self.name, folder=self.site.work)

    @property
    def limit(self) -> Limit:
        """What this party accepted for the run as a whole."""
        return Limit(epsilon=self.spec.epsilon, delta=self.spec.delta)


def read_table(site: Site, run: str) -> EncodedTable:
    """Read, clean and encode the party's table; once a run in one process.

    A process can outlive a run, and the table may change between runs.
    """
    return _read_table(canonical_json(site), run)


@lru_cache(maxsize=4)
def _read_table(site: str, run: str) -> EncodedTable:  # noqa: ARG001 (a key of the cache)
    from twinweave.tables.encoding import load_party

    own = parse(Site, json.loads(site))
    return load_party(own.source, own.schema, own.party)
