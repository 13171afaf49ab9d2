"""Every measured cell as a product of a few features of a row: what the fit compares.

A row's features are, for each party, the one-hot blocks of its columns (zero where the party
is absent) and of their groups of levels that coarse tables ask for, one *absent* bit, and last a
constant one. Any cell of any count table is the mean of a product of features; those with the
same extra factors come from one Gram matrix, coarse tables' from one of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import UnionLayout
from twinweave.tables.contingency import ABSENT, Axis
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Grouping, Query, Side, groups_in

Index = NDArray[np.int64]
Unit = tuple[int, ...]
"""Indices of a party, or of the members of a pool, at any of which a row is present."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gram:
    """Cells that share their extra factors: features[:, left] * factors . features[:, right].

    target, precision: float32 (left, right); precision 0 where nothing was measured.
    """

    factors: tuple[int, ...]
    left: Index = field(repr=False)
    right: Index = field(repr=False)
    target: NDArray[np.float32] = field(repr=False)
    precision: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Marginals:
    """The features, and the measured cells as entries of Gram matrices of them.

    sources: for each unit, the one-hot positions its feature block copies. groups: float32
    (positions of all these, groups), 1 where a group that follows the blocks has a level. fixed:
    float32 (rows, units + 1), absent bits and the constant one, behind them.
    """

    units: tuple[Unit, ...]
    sources: tuple[Index, ...] = field(repr=False)
    groups: NDArray[np.float32] = field(repr=False)
    fixed: NDArray[np.float32] = field(repr=False)
    grams: tuple[Gram, ...] = field(repr=False)


def marginals(
    layout: UnionLayout, measurements: Sequence[Measurement], presence: NDArray[np.bool_]
) -> Marginals:
    """Lay out the count measurements; sums of values, and sides without columns, are left aside.

    Several measurements of one cell are averaged by precision.
    """
    counts = [
        m
        for m in measurements
        if m.query.weight is None and all(side.columns for side in m.query.sides)
    ]
    sides = (layout.members(s) for m in measurements for s in m.query.sides)
    units = tuple(dict.fromkeys((*layout.units, *sides)))
    features = _Features(layout, units, _by_use(layout, measurements), counts)
    found: dict[tuple[bool, tuple[int, ...]], list[_Entries]] = {}
    for m in counts:
        coarse = any(side.groups for side in m.query.sides)
        for factors, entries in _entries(features, layout, m):
            found.setdefault((coarse, factors), []).append(entries)
    absent = np.stack([~presence[:, unit].any(axis=1) for unit in units], axis=1)
    fixed = np.hstack([absent, np.ones((len(presence), 1))]).astype(np.float32)
    return Marginals(
        units=units,
        sources=tuple(features.sources),
        groups=features.groups,
        fixed=fixed,
        grams=tuple(_gram(factors, entries) for (_, factors), entries in found.items()),
    )


def _by_use(layout: UnionLayout, measurements: Sequence[Measurement]) -> list[str]:
    """The columns, those that the most tables of three columns and more have first."""
    large = (m.query.columns for m in measurements if len(m.query.columns) > 2)
    usage = Counter(column for columns in large for column in columns)
    return sorted(layout.names, key=lambda n: (-usage[n], layout.size[n], layout.names.index(n)))


class _Features:
    """Where each feature of a row sits.

    rank: of each feature, the place of its column in `order`; absent bits and the constant one
    come last. Of a cell's features those of the last two ranks span the Gram matrix.
    """

    def __init__(
        self,
        layout: UnionLayout,
        units: Sequence[Unit],
        order: Sequence[str],
        counts: Sequence[Measurement],
    ) -> None:
        self.sources: list[Index] = []
        self.start: dict[tuple[Unit, str, Grouping], int] = {}
        ranks: list[int] = []
        for unit in units:
            held = np.flatnonzero(layout.held_by(layout.parties[unit[0]]))
            for i in held:
                self.start[unit, layout.names[i], ()] = len(ranks)
                ranks += [order.index(layout.names[i])] * layout.sizes[i]
            blocks = [np.arange(layout.offsets[i], layout.offsets[i + 1]) for i in held]
            self.sources.append(np.concatenate([np.arange(0), *blocks]))
        self.groups = self._group(layout, counts, order, ranks)
        self.absent = {unit: len(ranks) + i for i, unit in enumerate(units)}
        self.one = len(ranks) + len(units)
        self.rank = np.array(ranks + [len(order)] * (len(units) + 1))

    def _group(
        self,
        layout: UnionLayout,
        counts: Sequence[Measurement],
        order: Sequence[str],
        ranks: list[int],
    ) -> NDArray[np.float32]:
        """Places for the groups of coarse tables behind the blocks: the Marginals' groups."""
        plain = len(ranks)
        blocks = [np.zeros((plain, 0), dtype=np.float32)]
        for side in (side for m in counts for side in m.query.sides):
            unit = layout.members(side)
            for name, grouping in zip(side.columns, side.groups, strict=False):
                if (unit, name, grouping) in self.start:
                    continue
                first = self.start[unit, name, ()]
                if grouping == tuple(range(len(grouping))):
                    self.start[unit, name, grouping] = first
                    continue
                self.start[unit, name, grouping] = len(ranks)
                block = np.zeros((plain, groups_in(grouping)), dtype=np.float32)
                block[first + np.arange(len(grouping)), grouping] = 1
                blocks.append(block)
                ranks += [order.index(name)] * block.shape[1]
        return np.hstack(blocks)

    def of_axis(self, axis: Axis, unit: Unit, side: Side) -> Index:
        """The features whose product is each position of a side's axis: (size, columns).

        The constant one fills what a position does not need.
        """
        groups = dict(zip(side.columns, side.groups, strict=False))
        codes = axis.codes()
        found = codes + [self.start[unit, name, groups.get(name, ())] for name in axis.names]
        gone = codes == ABSENT
        found[gone] = self.one
        found[gone[:, 0], 0] = self.absent[unit]
        return found

    def of_cells(self, layout: UnionLayout, query: Query) -> Index:
        """The features whose product is each opened cell, by rank: (n_opened, 3 or more)."""
        cells = query.cells(layout.size)
        units = [layout.members(side) for side in query.sides]
        if not query.is_cross:
            units *= len(cells.axes)
        sides = query.sides if query.is_cross else query.sides * len(cells.axes)
        parts = zip(cells.axes, units, sides, strict=True)
        axes = [self.of_axis(axis, unit, side) for axis, unit, side in parts]
        places = cells.positions().T
        own = [of[place] for of, place in zip(axes, places, strict=True)]
        ones = np.full((len(own[0]), 2), self.one)
        found = np.hstack([*own, ones])
        order = np.lexsort((found, self.rank[found]), axis=1)
        return np.take_along_axis(found, order, axis=1)


_Entries = tuple[Index, Index, NDArray[np.float64], NDArray[np.float64]]
"""Left and right features of some cells, their measured values and their precision."""


def _entries(
    features: _Features, layout: UnionLayout, m: Measurement
) -> Iterator[tuple[tuple[int, ...], _Entries]]:
    """A table's opened cells by their extra factors, in order of first appearance."""
    terms = features.of_cells(layout, m.query)
    extra = np.maximum((terms != features.one).sum(axis=1) - 2, 0)
    factors = np.where(np.arange(terms.shape[1]) < extra[:, None], terms, -1)
    left, right = np.take_along_axis(terms, extra[:, None] + [0, 1], axis=1).T
    values = m.by_sides.cells.opened(m.values)
    precision = np.full(len(values), 1 / m.variance)
    _, first, group = np.unique(factors, axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    for start in np.sort(first):
        own = group == group[start]
        key = tuple(factors[start, : extra[start]].tolist())
        yield key, (left[own], right[own], values[own], precision[own])


def _gram(factors: tuple[int, ...], entries: Sequence[_Entries]) -> Gram:
    a, b, value, precision = map(np.concatenate, zip(*entries, strict=True))
    left, row = np.unique(a, return_inverse=True)
    right, col = np.unique(b, return_inverse=True)
    weight = np.zeros((len(left), len(right)))
    total = np.zeros_like(weight)
    np.add.at(weight, (row, col), precision)
    np.add.at(total, (row, col), precision * value)
    target = np.divide(total, weight, out=np.zeros_like(weight), where=weight > 0)
    return Gram(
        factors=factors,
        left=left,
        right=right,
        target=target.astype(np.float32),
        precision=weight.astype(np.float32),
    )
