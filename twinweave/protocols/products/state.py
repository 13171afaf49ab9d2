"""A party in one pass through share and open: its state, and what every kind of product asks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from twinweave.protocols.alignment.party import Aligned
from twinweave.protocols.party import Party
from twinweave.protocols.products.blocks import BlockSet, build_blocks
from twinweave.protocols.products.matching import marks_of
from twinweave.protocols.products.pair import Pair, product_of
from twinweave.protocols.ring import Ring
from twinweave.spec import RunSpec
from twinweave.workload.plan import PlannedQuery

AGREE, SHARE, OPEN = "query.agree", "query.share", "query.open"


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A party that sent its masked matrices of a pass.

    step: pass through share and open; tables: the second plan, JSON, "" in the first pass.
    slots: int64 (rows,), its rows' places on the spine. seeds: dealt, by peer; coin_seeds:
    dealt, by table. sent: hash of what it sealed for each peer.
    """

    aligned: Aligned
    step: int
    tables: str
    n_slots: int
    slots: NDArray[np.int64] = field(repr=False)
    seeds: dict[str, bytes] = field(repr=False)
    coin_seeds: dict[str, bytes] = field(repr=False)
    sent: dict[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """A party that accepted a second plan. tables: its JSON."""

    shared: Shared
    tables: str


@dataclass(frozen=True)
class Pass:
    """A party in one pass."""

    party: Party
    state: Shared

    @cached_property
    def spec(self) -> RunSpec:
        """The specification with the tables of this pass."""
        spec = self.party.spec
        return spec.second(self.state.tables) if self.state.tables else spec

    @cached_property
    def peers(self) -> tuple[str, ...]:
        """Parties with which this one computes a product."""
        return self.spec.tables.peers(self.party.name)

    @property
    def shared_in(self) -> str:
        return in_pass(SHARE, self.state.step)

    @property
    def opened_in(self) -> str:
        return in_pass(OPEN, self.state.step)

    @cached_property
    def _pairs(self) -> dict[str, Pair]:
        own, n_slots = self.party.name, self.state.n_slots
        return {peer: product_of(self.spec, own, peer, n_slots) for peer in self.peers}

    def pair(self, peer: str) -> Pair:
        """The product with the peer."""
        return self._pairs[peer]

    def tables(self, peer: str) -> dict[int, PlannedQuery]:
        """Tables with the peer, by index in the plan."""
        return self.spec.tables.crossing(self.party.name, peer)

    def blocks(self, pair: Pair) -> BlockSet:
        """The own matrix, marked for the pair."""
        table, peer = self.party.table, pair.other(self.party.name).party
        secret = self.party.pair_secret(peer, "marks")
        layout = pair.layout(self.party.name)
        return build_blocks(
            self.party.site.schema,
            layout,
            n_slots=self.state.n_slots,
            slots=self.state.slots,
            codes=table.codes,
            units={s.summed: self.party.units(s.summed) for s in layout.sides if s.summed},
            marks=marks_of(table.ids, self.state.slots, secret),
        )

    def secret(self, peer: str) -> bytes:
        """32 bytes that the peer knows too and the server does not."""
        return self.party.pair_secret(peer, "open cross tables")

    def bound(self, peer: str, own: bytes, theirs: bytes, share: Ring) -> bytes:
        """What the two sealed for each other, and what their shares say of the matching, as one
        hash: the same at both parties where nobody changed a message and no slot holds two
        different users. own: hash of what this party sent; theirs: of what arrived."""
        pair = self.pair(peer)
        sent = (own, theirs) if pair.is_first(self.party.name) else (theirs, own)
        return hash_of(*sent, pair.unmatched(share, self.party.name).tobytes())

    def seal(self, peer: str, phase: str, content: bytes) -> bytes:
        return self.party.seal(peer, phase, self.party.name, content)

    def unseal(self, peer: str, phase: str, sealed: bytes) -> bytes:
        return self.party.unseal(peer, phase, peer, sealed)


def hash_of(*contents: bytes) -> bytes:
    """SHA-256 of these byte strings, one after the other."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.digest()


def in_pass(phase: str, step: int) -> str:
    """Name of a phase in a pass: what messages are sealed for and charges are booked under."""
    return f"{phase}/{step}" if step else phase
