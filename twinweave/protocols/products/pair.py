"""One pass through share and open at a party: what every kind of product needs of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.privacy.guard import Receipt
from twinweave.privacy.mechanisms import draw
from twinweave.protocols.alignment.party import Aligned
from twinweave.protocols.party import Party
from twinweave.protocols.products.blocks import BlockSet, build_blocks
from twinweave.protocols.products.cross_tables import (
    CoinsFirst,
    CoinsSecond,
    OpenPlan,
    Pair,
    open_cells,
    open_shares,
    pair_of,
)
from twinweave.protocols.products.messages import OpenReply, OpenRequest
from twinweave.protocols.ring import Ring
from twinweave.spec import PlannedQuery, RunSpec

SHARE, OPEN = "query.share", "query.open"

Sealed = Mapping[str, Mapping[str, bytes]]
"""Sender -> receiver -> what it sealed."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A party that sent its masked matrices of a pass.

    step: pass through share and open; tables: the second plan, JSON, "" in the first pass.
    slots: int64 (rows,), its rows' places on the spine. seeds: dealt, by peer.
    """

    aligned: Aligned
    step: int
    tables: str
    n_slots: int
    slots: NDArray[np.int64] = field(repr=False)
    seeds: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """shares: noisy, one a table between two parties, in plan order. answer: sealed, or b""."""

    shares: tuple[Ring, ...] = field(repr=False)
    answer: bytes = field(default=b"", repr=False)


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

    @property
    def peers(self) -> tuple[str, ...]:
        """Parties with which this one computes a product."""
        return self.spec.peers(self.party.name)

    @property
    def shared_in(self) -> str:
        return in_pass(SHARE, self.state.step)

    @property
    def opened_in(self) -> str:
        return in_pass(OPEN, self.state.step)

    def pair(self, peer: str) -> Pair:
        return product_of(self.spec, self.party.name, peer, self.state.n_slots)

    def tables(self, peer: str) -> dict[int, PlannedQuery]:
        """Tables with the peer, by index in the plan."""
        return self.spec.crossing(self.party.name, peer)

    def blocks(self, pair: Pair) -> BlockSet:
        """The own matrix."""
        table = self.party.table
        return build_blocks(
            self.party.site.schema,
            pair.layout(pair.role(self.party.name)),
            n_slots=self.state.n_slots,
            slots=self.state.slots,
            codes=table.codes,
            units=table.units,
        )

    def seal(self, peer: str, phase: str, content: bytes | NDArray[np.generic]) -> bytes:
        return self.party.seal(peer, phase, self.party.name, content)

    def arrived(self, peer: str, phase: str, request: OpenRequest) -> bytes:
        """What the peer sealed in that phase. Raises ProtocolError, ChannelError."""
        if peer not in request.sealed:
            raise ProtocolError(
                f"nothing of {peer!r} arrived to open tables with. Start a new run."
            )
        return self.party.unseal(peer, phase, peer, request.sealed[peer])

    def noisy(
        self,
        peer: str,
        pair: Pair,
        share: Ring,
        coins: CoinsFirst | CoinsSecond,
        receipt: Receipt,
    ) -> tuple[Ring, ...]:
        """Shares that the server may see, with this party's noise."""
        return open_shares(
            pair,
            share,
            openings(self.spec, self.party.name, peer),
            pair_secret=self.party.pair_secret(peer, "open cross tables"),
            label=self.opened_in,
            coins=coins,
            noise=self._own_noise(pair, self.tables(peer).values(), receipt),
        )

    def _own_noise(
        self, pair: Pair, planned: Iterable[PlannedQuery], receipt: Receipt
    ) -> list[NDArray[np.int64]]:
        """This party's draw for every table without coins; zeros for a pooled one, which it
        draws for once all products are done. The receipt paid for every table."""
        draws = []
        for p in planned:
            receipt.check(p.event)
            if p.coins is None:
                cells = open_cells(pair, p.query.between(pair.first.party, pair.second.party))
                pooled = p.query.is_pooled
                draws.append(np.zeros(cells, np.int64) if pooled else draw(cells, p.event, receipt))
        return draws


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What the parties' replies to every hop hold together, by party."""

    shares: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict, repr=False)
    dealt: dict[str, dict[str, bytes]] = field(default_factory=dict, repr=False)

    def add(self, replies: Mapping[str, OpenReply]) -> None:
        for party, reply in replies.items():
            self.shares.setdefault(party, {}).update(reply.shares)
            self.dealt.setdefault(party, {}).update(reply.dealt)

    def of(self, party: str, index: int) -> NDArray[Any]:
        """A party's share of a table. Raises ProtocolError where it did not come."""
        if str(index) not in self.shares.get(party, {}):
            raise ProtocolError(f"a share of {party!r} did not arrive. Start a new run.")
        return self.shares[party][str(index)]


def product_of(spec: RunSpec, a: str, b: str, n_slots: int) -> Pair:
    """Public shape of the secure product between two parties, whatever their order."""
    first, second = sorted((a, b), key=spec.parties.index)
    queries = [p.query.between(first, second) for p in spec.crossing(first, second).values()]
    return pair_of(spec.schema, queries, n_slots, first=first, second=second)


def openings(spec: RunSpec, a: str, b: str) -> tuple[OpenPlan, ...]:
    """Terms of the tables between two parties; of a pooled one, of their part of it."""
    tables = spec.crossing(a, b).values()
    return tuple(OpenPlan(query=p.query.between(a, b), coins=p.coins) for p in tables)


def in_pass(phase: str, step: int) -> str:
    """Name of a phase in a pass: what messages are sealed for and charges are booked under."""
    return f"{phase}/{step}" if step else phase


def addressed(receiver: str, senders: Iterable[str], sealed: Sealed) -> dict[str, bytes]:
    """What each sender sealed for the receiver. Raises ProtocolError where something lacks."""
    found = {}
    for sender in senders:
        if receiver not in sealed.get(sender, {}):
            raise ProtocolError(f"party {sender!r} sent nothing for {receiver!r}. Start a new run.")
        found[sender] = sealed[sender][receiver]
    return found
