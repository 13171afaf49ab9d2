"""A party's side of the cross tables: one-hot and weighted blocks over the spine's slots.

The layout follows from the public schema and workload alone, so every party and the server
derive the same one; only `build_blocks` touches data. Beside the blocks stand the columns that
show who shares a slot (`matching`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.products.matching import MARKS, WITNESS
from twinweave.protocols.ring import Ring, dtype_of
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.contingency import Axis
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.queries import Query, Side, Summed, axis_of, side_positions


@dataclass(frozen=True, kw_only=True)
class BlockLayout:
    """Which columns of a party's matrix belong to which side. Public.

    axes: of each side; its block has a column for each position of the axis. Behind them come
    `present` and `marks`.
    """

    party: str
    sides: tuple[Side, ...]
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        if len(self.sides) != len(self.axes) or len(set(self.sides)) != len(self.sides):
            raise ProtocolError("a layout lists each side once, with its axis.")
        if not self.sides or {s.party for s in self.sides} != {self.party}:
            raise ProtocolError("a layout needs a side, and only sides of its own party.")

    @property
    def width(self) -> int:
        """Number of columns of the party's matrix."""
        return self.present + WITNESS

    @cached_property
    def present(self) -> int:
        """The column that says where the party holds somebody."""
        return sum(axis.size for axis in self.axes)

    @property
    def marks(self) -> slice:
        """The columns of the marks of whom it holds."""
        return slice(self.present + 1, self.width)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First column of each side's block."""
        return tuple(accumulate((axis.size for axis in self.axes[:-1]), initial=0))

    def axis(self, side: Side) -> Axis:
        return self.axes[self._index(side)]

    def span(self, side: Side) -> slice:
        """Columns of a side's block. Raises ProtocolError for a side that is not in it."""
        offset = self.offsets[self._index(side)]
        return slice(offset, offset + self.axis(side).size)

    def _index(self, side: Side) -> int:
        if side not in self.sides:
            raise ProtocolError(
                f"party {self.party!r} did not take {', '.join(side.columns) or side.weight!r} "
                "into the secure product. Name every table before it starts."
            )
        return self.sides.index(side)


def layout_of(schema: JointSchema, party: str, queries: Iterable[Query]) -> BlockLayout:
    """The party's distinct sides among the queries, in order of first appearance."""
    sides = tuple(dict.fromkeys(s for q in queries for s in q.sides if s.party == party))
    return BlockLayout(party=party, sides=sides, axes=tuple(axis_of(schema, s) for s in sides))


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockSet:
    """A party's matrix over the spine, one non-zero entry a block and row. Private.

    positions: int32 (n_slots, n_blocks), column of the entry of each block; the last WITNESS
        blocks are one column each.
    weights: block index -> uint32 (n_slots,) entries of a weighted block; 1 elsewhere.
    """

    layout: BlockLayout
    positions: NDArray[np.int32] = field(repr=False)
    weights: Mapping[int, NDArray[np.uint32]] = field(repr=False)

    @property
    def n_slots(self) -> int:
        return int(self.positions.shape[0])

    def add_to(self, matrix: Ring, rows: slice) -> None:
        """Add the rows of this matrix in place to a dense (rows, width) chunk."""
        index = np.arange(matrix.shape[0])[:, None]
        # A row's blocks occupy different columns, so no target repeats within one call.
        matrix[index, self.positions[rows]] += self.entries(rows, matrix.dtype)

    def product_t(self, matrix: Ring, rows: slice) -> Ring:
        """(this matrix)[rows].T @ matrix in the matrix's ring: (width, q), exact."""
        from scipy.sparse import csr_array  # too slow to import for every message

        block: NDArray[np.int32] = self.positions[rows]
        ends = np.arange(block.shape[0] + 1, dtype=np.int32) * np.int32(block.shape[1])
        entries = self.entries(rows, matrix.dtype).ravel()
        sparse = csr_array((entries, block.ravel(), ends), shape=(len(block), self.layout.width))
        product: Ring = sparse.T @ matrix
        return product

    def dense(self, bits: int = 64) -> Ring:
        """The whole (n_slots, width) matrix. For tests and small tables."""
        matrix = np.zeros((self.n_slots, self.layout.width), dtype=dtype_of(bits))
        self.add_to(matrix, slice(0, self.n_slots))
        return matrix

    def entries(self, rows: slice, dtype: DTypeLike) -> NDArray[Any]:
        """What stands at the positions of some rows: 1, or the weight."""
        entries = np.ones(self.positions[rows].shape, dtype=dtype)
        for block, values in self.weights.items():
            entries[:, block] = values[rows]
        return entries


def build_blocks(
    schema: Schema,
    layout: BlockLayout,
    *,
    n_slots: int,
    slots: NDArray[np.int64],
    codes: NDArray[np.int32],
    units: Mapping[Summed, NDArray[np.integer[Any]]],
    marks: NDArray[np.uint32],
) -> BlockSet:
    """Place a party's encoded rows on the spine.

    slots: (n_rows,) distinct, 0..n_slots-1. codes: (n_rows, n_columns) discrete codes in the
    order of schema.coded_columns. units: what a side sums -> (n_rows,) integers 0..VALUE_UNITS.
    marks: (n_rows, MARKS). Raises ProtocolError on a wrong shape, a repeated slot or a code
    outside its column.
    """
    slots = np.asarray(slots, dtype=np.int64)
    codes = np.asarray(codes)
    _check_rows(schema, n_slots, slots, codes)
    if marks.shape != (len(slots), MARKS):
        raise ProtocolError(f"every row has {MARKS} marks. Align the tables again.")
    positions, weights = _witness(layout, n_slots, slots, marks)
    for block, side in enumerate(layout.sides):
        offset = layout.offsets[block]
        positions[:, block] = offset + layout.axes[block].elsewhere
        positions[slots, block] = offset + side_positions(schema, side, codes)
        if side.summed is not None:
            weights[block] = np.zeros(n_slots, dtype=np.uint32)
            weights[block][slots] = _weights(side.summed, units, len(slots))
    return BlockSet(layout=layout, positions=positions, weights=weights)


def _witness(
    layout: BlockLayout, n_slots: int, slots: NDArray[np.int64], marks: NDArray[np.uint32]
) -> tuple[NDArray[np.int32], dict[int, NDArray[np.uint32]]]:
    """Positions and weights, of which those of presence and marks are filled in."""
    n_sides = len(layout.sides)
    positions = np.empty((n_slots, n_sides + WITNESS), dtype=np.int32)
    positions[:, n_sides:] = np.arange(layout.present, layout.width)
    entries = np.zeros((WITNESS, n_slots), dtype=np.uint32)
    entries[0, slots] = 1
    entries[1:, slots] = marks.T
    return positions, dict(enumerate(entries, start=n_sides))


def random_blocks(layout: BlockLayout, n_slots: int, rng: np.random.Generator) -> BlockSet:
    """Count blocks of full tables at uniform positions, for benchmarks, marked alike.

    Raises ProtocolError on weights.
    """
    if any(side.weight for side in layout.sides):
        raise ProtocolError("random blocks are counts. Leave weighted sides out.")
    marks = np.ones((n_slots, MARKS), dtype=np.uint32)
    positions, weights = _witness(layout, n_slots, np.arange(n_slots), marks)
    for block, (offset, axis) in enumerate(zip(layout.offsets, layout.axes, strict=True)):
        positions[:, block] = offset + rng.integers(0, axis.size, n_slots)
    return BlockSet(layout=layout, positions=positions, weights=weights)


def _weights(
    summed: Summed, units: Mapping[Summed, NDArray[np.integer[Any]]], n_rows: int
) -> NDArray[np.uint32]:
    column, _ = summed
    if summed not in units or units[summed].shape != (n_rows,):
        raise ProtocolError(f"no amounts for value column {column!r}. Encode the table again.")
    amounts = np.asarray(units[summed], dtype=np.int64)
    if n_rows and (amounts.min() < 0 or amounts.max() > VALUE_UNITS):
        raise ProtocolError(f"value column {column!r}: amounts outside 0..{VALUE_UNITS}.")
    return amounts.astype(np.uint32)


def _check_rows(
    schema: Schema, n_slots: int, slots: NDArray[np.int64], codes: NDArray[np.int32]
) -> None:
    if slots.ndim != 1 or codes.shape != (len(slots), len(schema.coded_names)):
        raise ProtocolError("codes are one row a slot and one column a coded column.")
    if len(slots) and (slots.min() < 0 or slots.max() >= n_slots):
        raise ProtocolError("a slot lies outside the spine. Align the tables again.")
    if len(np.unique(slots)) != len(slots):
        raise ProtocolError("two rows share a slot. Align the tables again.")
    for index, column in enumerate(schema.coded_columns):
        if len(codes) and not 0 <= codes[:, index].min() <= codes[:, index].max() < column.size:
            raise ProtocolError(f"column {column.name!r}: a code outside its levels. Encode again.")
