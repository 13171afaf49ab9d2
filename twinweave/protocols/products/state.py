"""A party in one pass through share and open: its state, and what every kind of product asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.alignment.party import Aligned
from twinweave.protocols.party import Party
from twinweave.protocols.products.blocks import BlockSet, build_blocks
from twinweave.protocols.products.messages import OpenRequest
from twinweave.protocols.products.pair import Pair, product_of
from twinweave.spec import RunSpec
from twinweave.workload.plan import PlannedQuery

SHARE, OPEN = "query.share", "query.open"


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
        return self.spec.tables.peers(self.party.name)

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
        return self.spec.tables.crossing(self.party.name, peer)

    def blocks(self, pair: Pair) -> BlockSet:
        """The own matrix."""
        table = self.party.table
        return build_blocks(
            self.party.site.schema,
            pair.layout(self.party.name),
            n_slots=self.state.n_slots,
            slots=self.state.slots,
            codes=table.codes,
            units=table.units,
        )

    def secret(self, peer: str) -> bytes:
        """32 bytes that the peer knows too and the server does not."""
        return self.party.pair_secret(peer, "open cross tables")

    def seal(self, peer: str, phase: str, content: bytes | NDArray[np.generic]) -> bytes:
        return self.party.seal(peer, phase, self.party.name, content)

    def arrived(self, peer: str, phase: str, request: OpenRequest) -> bytes:
        """What the peer sealed in that phase. Raises ProtocolError, ChannelError."""
        if peer not in request.sealed:
            raise ProtocolError(f"nothing of {peer!r} came to open tables with. Start a new run.")
        return self.party.unseal(peer, phase, peer, request.sealed[peer])


def in_pass(phase: str, step: int) -> str:
    """Name of a phase in a pass: what messages are sealed for and charges are booked under."""
    return f"{phase}/{step}" if step else phase
