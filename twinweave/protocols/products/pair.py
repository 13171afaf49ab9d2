"""The secure product of two parties: its public shape, the same at server and parties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from twinweave.errors import ProtocolError
from twinweave.protocols.products.blocks import BlockLayout, BlockSet, layout_of
from twinweave.protocols.ring import Ring, dtype_of, ring_bits
from twinweave.spec import RunSpec
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.contingency import Cells
from twinweave.tables.schema import JointSchema
from twinweave.workload.queries import Query

MOST_ENTRIES, MOST_MASKED = 1 << 28, 1 << 33
"""Of a product, and of a masked matrix: what a party takes on."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """X_P^T X_Q of a first party P and a second party Q, in run order. bits: of the ring."""

    first: BlockLayout
    second: BlockLayout
    n_slots: int
    bits: int

    def __post_init__(self) -> None:
        dtype_of(self.bits)
        if self.n_slots < 1 or self.first.party == self.second.party:
            raise ProtocolError("a secure product joins two different parties on a spine.")
        if prod(self.shape) > MOST_ENTRIES or self.n_slots * max(self.shape) > MOST_MASKED:
            raise ProtocolError(
                f"the product of {self.first.party!r} and {self.second.party!r} is larger than a "
                "party computes. Ask for fewer or coarser tables."
            )

    @property
    def parties(self) -> tuple[str, str]:
        return self.first.party, self.second.party

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the product and of each share."""
        return self.first.width, self.second.width

    def layout(self, party: str) -> BlockLayout:
        return self.first if self.is_first(party) else self.second

    def other(self, party: str) -> BlockLayout:
        """The layout of the party's peer."""
        return self.second if self.is_first(party) else self.first

    def is_first(self, party: str) -> bool:
        if party not in self.parties:
            raise ProtocolError(f"party {party!r} has no part in this product. Check the plan.")
        return party == self.first.party

    def cells(self, query: Query) -> Cells:
        """The cells of a table between the two. Raises ProtocolError where it is not of these."""
        return Cells(axes=tuple(self.layout(s.party).axis(s) for s in query.sides))

    def unmatched(self, share: Ring, own: str) -> Ring:
        """A party's end of what says that no slot holds two different users: ring (MARKS,).

        share: its share of the product. The ends of both are equal in that case, and in no
        other but with probability 2**-64 (`matching`).
        """
        first, second = self.first, self.second
        z: Ring = share[first.marks, second.present] - share[first.present, second.marks]
        return z if self.is_first(own) else np.negative(z)

    def check_blocks(self, blocks: BlockSet, party: str) -> None:
        """Raise ProtocolError unless the matrix is that party's in this product."""
        if blocks.layout != self.layout(party) or blocks.n_slots != self.n_slots:
            raise ProtocolError(f"these blocks are not those of {party!r} in this product.")


def pair_of(
    schema: JointSchema, queries: Sequence[Query], n_slots: int, *, first: str, second: str
) -> Pair:
    """The product that answers all of the queries that cross these two parties.

    Raises ProtocolError when there is none.
    """
    crossing = [q for q in queries if set(q.parties) == {first, second}]
    if not crossing:
        raise ProtocolError(f"no table crosses {first!r} and {second!r}. Leave the pair out.")
    weight = VALUE_UNITS if any(q.weight for q in crossing) else 1
    return Pair(
        first=layout_of(schema, first, crossing),
        second=layout_of(schema, second, crossing),
        n_slots=n_slots,
        bits=ring_bits(n_slots, weight),
    )


def product_of(spec: RunSpec, a: str, b: str, n_slots: int) -> Pair:
    """The product of all tables of a run between two parties, whatever their order.

    Of a table of a pool it answers the two parties' part.
    """
    first, second = sorted((a, b), key=spec.parties.index)
    queries = [p.query.between(first, second) for p in spec.tables.crossing(first, second).values()]
    return pair_of(spec.schema, queries, n_slots, first=first, second=second)
