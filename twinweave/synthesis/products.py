"""Every measured cell as a product of a few features of a row: what the fit compares.

A row's features are, for each party, the one-hot blocks of its columns (zero where the party
is absent) and one *absent* bit, and last a constant one. Any cell of any count table is the
mean of a product of features; those with the same extra factors come from one Gram matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import UnionLayout
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Side


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """Cells that share their extra factors: features[:, left] * factors . features[:, right].

    target, precision: float32 (left, right); precision 0 where nothing was measured.
    """

    factors: tuple[int, ...]
    left: NDArray[np.int64] = field(repr=False)
    right: NDArray[np.int64] = field(repr=False)
    target: NDArray[np.float32] = field(repr=False)
    precision: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class CellProducts:
    """The features, and the slices over them.

    sources: for each party or pool, the one-hot positions its feature block copies; units: which
    parties it is, at any of which a row is present. fixed: float32 (rows, units + 1), absent
    bits and the constant one, behind the blocks.
    """

    units: tuple[tuple[int, ...], ...]
    sources: tuple[NDArray[np.int64], ...] = field(repr=False)
    fixed: NDArray[np.float32] = field(repr=False)
    slices: tuple[Slice, ...] = field(repr=False)


class _Features:
    """Where each feature of a row sits."""

    def __init__(self, layout: UnionLayout, units: Sequence[tuple[int, ...]]) -> None:
        self.layout = layout
        self.sources: list[NDArray[np.int64]] = []
        self._start: dict[tuple[tuple[int, ...], str], int] = {}
        position = 0
        for unit in units:
            chosen = []
            for i in np.flatnonzero(layout.held_by(layout.parties[unit[0]])):
                self._start[unit, layout.names[i]] = position
                position += layout.sizes[i]
                chosen.append(np.arange(layout.offsets[i], layout.offsets[i + 1]))
            self.sources.append(np.concatenate(chosen) if chosen else np.arange(0))
        self.absent = {unit: position + i for i, unit in enumerate(units)}
        self.one = position + len(units)

    def block(self, unit: tuple[int, ...], column: str) -> NDArray[np.int64]:
        size = self.layout.sizes[self.layout.names.index(column)]
        return self._start[unit, column] + np.arange(size)

    def side(self, side: Side, with_absent: bool) -> list[tuple[int, ...]]:
        """The features whose product is each position of the side's block, *absent* last."""
        unit = self.layout.members(side)
        blocks = [self.block(unit, c).tolist() for c in side.columns]
        places = [tuple(p) for p in product(*blocks)]
        return [*places, (self.absent[unit],)] if with_absent else places


def cell_products(
    layout: UnionLayout, measurements: Sequence[Measurement], presence: NDArray[np.bool_]
) -> CellProducts:
    """Lay out the count measurements; sums of values, and sides without columns, are left aside.

    Several measurements of one cell are averaged by precision.
    """
    sides = (layout.members(s) for m in measurements for s in m.query.sides)
    units = tuple(dict.fromkeys((*layout.units, *sides)))
    features = _Features(layout, units)
    usage = Counter(c for m in measurements if len(m.query.columns) > 2 for c in m.query.columns)
    rank = {n: (-usage[n], layout.sizes[i], i) for i, n in enumerate(layout.names)}
    owner = np.zeros(features.one + 1, dtype=np.int64)  # column of a feature, for the order
    for (_, name), start in features._start.items():
        i = layout.names.index(name)
        owner[start : start + layout.sizes[i]] = sorted(rank, key=rank.__getitem__).index(name)
    owner[features.one - len(units) :] = len(rank)
    found: dict[tuple[int, ...], list[tuple[int, int, float, float]]] = {}
    for m in measurements:
        if m.query.weight is None and all(s.columns for s in m.query.sides):
            for places, value in _cells(features, m):
                ordered = sorted(places, key=lambda f: (owner[f], f))
                *factors, a, b = [*ordered, features.one, features.one][: max(2, len(ordered))]
                found.setdefault(tuple(factors), []).append((a, b, value, 1 / m.variance))
    absent = np.stack([~presence[:, unit].any(axis=1) for unit in units], axis=1)
    fixed = np.hstack([absent, np.ones((len(presence), 1))]).astype(np.float32)
    return CellProducts(
        units=units,
        sources=tuple(features.sources),
        fixed=fixed,
        slices=tuple(_slice(factors, cells) for factors, cells in found.items()),
    )


def _cells(features: _Features, m: Measurement) -> Iterator[tuple[tuple[int, ...], float]]:
    """(features whose product is the cell, measured value), [absent, absent] left out."""
    sides = [features.side(s, m.query.is_cross) for s in m.query.sides]
    values = m.values.reshape(-1).tolist()
    last = len(values) - 1 if m.query.is_cross else len(values)
    for k, parts in enumerate(product(*sides)):
        if k != last:
            yield tuple(f for part in parts for f in part), values[k]


def _slice(factors: tuple[int, ...], cells: list[tuple[int, int, float, float]]) -> Slice:
    a, b, value, precision = (np.array(x) for x in zip(*cells, strict=True))
    left, row = np.unique(a, return_inverse=True)
    right, col = np.unique(b, return_inverse=True)
    weight = np.zeros((len(left), len(right)))
    total = np.zeros_like(weight)
    np.add.at(weight, (row, col), precision)
    np.add.at(total, (row, col), precision * value)
    target = np.divide(total, weight, out=np.zeros_like(weight), where=weight > 0)
    return Slice(
        factors=factors,
        left=left,
        right=right,
        target=target.astype(np.float32),
        precision=weight.astype(np.float32),
    )
