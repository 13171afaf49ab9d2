"""Which group a row is in, among people alike in what may explain a difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.fairness.conf import Enforcement
from twinweave.tables.contingency import ABSENT, Axis

NO_CELL = -1
"""Of a row that no constraint speaks of."""

TOGETHER = "the smaller ones together"


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """Cells of rows that are to be alike: groups, within the strata of admissible columns.

    cell: int64 (rows,), NO_CELL where none. stratum: int64 (cells,). names: of the cells'
    groups. pooled: groups too small for a cell of their own. left_out: strata, or the pooled of
    one, that are too small still, and about which nothing is enforced; both by name. number: the
    cell of every (stratum, group).
    """

    columns: tuple[str, ...]
    cell: NDArray[np.int64] = field(repr=False)
    stratum: NDArray[np.int64] = field(repr=False)
    names: tuple[str, ...]
    pooled: tuple[str, ...]
    left_out: tuple[str, ...]
    number: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.stratum)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Rows that a cell speaks of: bool (rows,)."""
        found: NDArray[np.bool_] = self.cell != NO_CELL
        return found

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of a value of each row, by cell: (cells,)."""
        inside = self.inside
        return np.asarray(
            np.bincount(self.cell[inside], values[inside], len(self)), dtype=np.float64
        )

    def rates(
        self, values: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Weighted mean of a value of each row, by cell: (cells,)."""
        found: NDArray[np.float64] = self.sums(values * weights)
        found /= np.maximum(self.sums(weights), 1e-300)
        return found

    def over_strata(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the cells of a stratum have together, at each of them: (cells,)."""
        return np.asarray(np.bincount(self.stratum, sums)[self.stratum], dtype=np.float64)

    def gap(self, rates: NDArray[np.float64]) -> float:
        """The largest difference of (cells,) rates between two groups of one stratum.

        NaN for a group that has none.
        """
        own = [rates[(self.stratum == s) & ~np.isnan(rates)] for s in np.unique(self.stratum)]
        return float(max((np.ptp(r) for r in own if len(r)), default=0.0))


def concerned(wanted: Enforcement, layout: UnionLayout, rows: Rows) -> NDArray[np.bool_]:
    """Rows that have the label, every sensitive and every admissible column: bool (rows,)."""
    used = [layout.names.index(c) for c in wanted.columns]
    found: NDArray[np.bool_] = (rows.codes[:, used] != ABSENT).all(axis=1)
    return found


def groups(
    wanted: Enforcement,
    columns: Sequence[str],
    layout: UnionLayout,
    rows: Rows,
    people: NDArray[np.float64],
) -> Groups:
    """The groups of some sensitive columns. people: how many each row stands for, (rows,)."""
    inside = np.flatnonzero(concerned(wanted, layout, rows))
    group_axis, group = _positions(wanted, columns, layout, rows, inside)
    strata_axis, stratum = _positions(wanted, wanted.admissible, layout, rows, inside)
    said, given = _names(wanted, group_axis), _names(wanted, strata_axis)
    size = np.zeros((strata_axis.size, group_axis.size))
    np.add.at(size, (stratum, group), people[inside])
    number = np.full(size.shape, NO_CELL, dtype=np.int64)
    cells: list[tuple[int, str]] = []
    pooled: list[str] = []
    left: list[str] = []
    for s in np.flatnonzero(size.sum(axis=1)):
        large = np.flatnonzero(size[s] >= wanted.smallest)
        small = np.flatnonzero((size[s] > 0) & (size[s] < wanted.smallest))
        enough = size[s, small].sum() >= wanted.smallest
        if len(large) + enough < 2:
            left += [_named(said[g], given[s]) for g in np.flatnonzero(size[s])]
            continue
        for g in large:
            number[s, g] = len(cells)
            cells.append((int(s), said[g]))
        if enough:
            number[s, small] = len(cells)
            cells.append((int(s), TOGETHER))
        (pooled if enough else left).extend(_named(said[g], given[s]) for g in small)
    return Groups(
        columns=tuple(columns),
        cell=_cells(number, stratum, group, inside, len(rows)),
        stratum=np.array([s for s, _ in cells], dtype=np.int64),
        names=tuple(_named(name, given[s]) for s, name in cells),
        pooled=tuple(pooled),
        left_out=tuple(left),
        number=number,
    )


def located(
    found: Groups, wanted: Enforcement, layout: UnionLayout, rows: Rows
) -> NDArray[np.int64]:
    """The same cells, of other rows: (rows,), NO_CELL where none."""
    inside = np.flatnonzero(concerned(wanted, layout, rows))
    _, group = _positions(wanted, found.columns, layout, rows, inside)
    _, stratum = _positions(wanted, wanted.admissible, layout, rows, inside)
    return _cells(found.number, stratum, group, inside, len(rows))


def _cells(
    number: NDArray[np.int64],
    stratum: NDArray[np.int64],
    group: NDArray[np.int64],
    inside: NDArray[np.int64],
    n: int,
) -> NDArray[np.int64]:
    cell = np.full(n, NO_CELL, dtype=np.int64)
    cell[inside] = number[stratum, group]
    return cell


def _positions(
    wanted: Enforcement,
    columns: Sequence[str],
    layout: UnionLayout,
    rows: Rows,
    inside: NDArray[np.int64],
) -> tuple[Axis, NDArray[np.int64]]:
    axis = Axis(names=tuple(columns), sizes=tuple(len(wanted.levels[c]) for c in columns))
    if not columns:
        return axis, np.zeros(len(inside), dtype=np.int64)
    codes = rows.codes[inside][:, [layout.names.index(c) for c in columns]]
    return axis, axis.positions(codes)


def _names(wanted: Enforcement, axis: Axis) -> list[str]:
    if not axis.names:
        return [""]
    levels = [wanted.levels[c] for c in axis.names]
    return [
        ", ".join(names[code] for names, code in zip(levels, place, strict=True))
        for place in axis.codes()
    ]


def _named(group: str, stratum: str) -> str:
    return f"{group} ({stratum})" if stratum else group
