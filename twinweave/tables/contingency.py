"""Contingency tables with named axes: the one module that knows in which order cells are.

A table counts users by some columns, or sums an amount over them. An axis stands for one column,
or for all columns that one side brings into a table across two, row-major over their codes. The
last position of such a side's axis may be *absent*: for users whom the side does not hold. In a
table of which both axes have it, the cell [absent, absent] would count users whom nobody holds:
it is zero by definition and never opened, and it is the last cell of all.

Values travel with the variance of their noise, and cells whose noise is independent are added
up together with it. The shape of the interface follows mbi's `Domain` and `Factor` (McKenna et
al., private-pgm); differs: noise variances, several columns an axis, and *absent*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.tables.column import Column

ABSENT = -1
"""Code of a column for a user whom none of its holders holds, and at the *absent* position."""

Floats = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a table: every combination of its columns' codes, *absent* last.

    names, sizes: its columns and how many codes, or groups of codes, each has; an axis of no
    column has one position. absent: how the last position is called, None where there is none.
    """

    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    absent: str | None = None

    @classmethod
    def whole(cls, size: int, absent: str | None) -> Axis:
        """An axis of `size` positions in all, whose columns are not told apart."""
        return cls(sizes=(size - (absent is not None),), absent=absent)

    @property
    def present(self) -> int:
        """Number of positions, *absent* not counted."""
        return prod(self.sizes)

    @property
    def size(self) -> int:
        return self.present + (self.absent is not None)

    @property
    def elsewhere(self) -> int:
        """Where a user stands whom the side lacks: *absent*, or anywhere, as one without weight."""
        return self.size - 1

    def split(self) -> tuple[Axis, ...]:
        """An axis for each column, without *absent*: those of a side's own table."""
        pairs = zip(self.names, self.sizes, strict=True)
        return tuple(Axis(names=(n,), sizes=(s,)) for n, s in pairs) or (Axis(),)

    def positions(
        self, codes: NDArray[np.integer[Any]], present: NDArray[np.bool_] | None = None
    ) -> Index:
        """Position of every row: int64 (n,). The inverse of `codes`.

        codes: (n, columns of the axis); of any value where `present`, bool (n,), is false: such
        a row is *absent*. Raises ValueError where the axis does not have that.
        """
        place = np.zeros(len(codes), dtype=np.int64)
        for size, own in zip(self.sizes, codes.T, strict=True):
            place *= size
            place += own
        if present is None:
            return place
        if self.absent is None and not present.all():
            raise ValueError("rows are absent from an axis that does not count them")
        return np.where(present, place, self.present)

    def codes(self) -> Index:
        """The columns' codes at every position, ABSENT at the last: int64 (size, columns)."""
        held = np.indices(self.sizes).reshape(len(self.sizes), self.present).T
        gone = np.full((self.size - self.present, len(self.sizes)), ABSENT)
        return np.concatenate([held, gone])

    def labels(self, levels: Mapping[str, Sequence[str]]) -> list[str]:
        """Name of every position: "region=north, visit=1". levels: each column's own names."""
        named = [[f"{name}={level}" for level in levels[name]] for name in self.names]
        absent = [] if self.absent is None else [self.absent]
        return [", ".join(place) for place in product(*named)] + absent


@dataclass(frozen=True, kw_only=True)
class Cells:
    """All cells of a table, row-major over its axes."""

    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def n_opened(self) -> int:
        """Number of cells that are opened: all but [absent, absent], the last, if there is one."""
        return self.size - (len(self.axes) == 2 and all(a.absent is not None for a in self.axes))

    def opened(self, table: NDArray[Any]) -> NDArray[Any]:
        """The opened cells of a table, in order: (n_opened,)."""
        return self.flat(table)[: self.n_opened]

    def flat(self, table: NDArray[Any]) -> NDArray[Any]:
        """All cells of a table, in order: (size,)."""
        return table.reshape(self.size)

    def table(self, cells: NDArray[Any]) -> NDArray[Any]:
        """The table of its opened, or of all, cells; what was never opened is 0."""
        missing = self.size - cells.size
        if missing not in (0, self.size - self.n_opened):
            raise ValueError(f"{cells.size} cells for a table that opens {self.n_opened}")
        return np.append(cells, np.zeros(missing, dtype=cells.dtype)).reshape(self.shape)

    def of(self, positions: Sequence[Index]) -> Index:
        """The cell of every row, int64 (n,): its place among all cells.

        positions: on each axis, (n,). A row that is absent everywhere is at `n_opened`.
        """
        return Axis(sizes=self.shape).positions(np.array(positions).T)

    def count(self, places: Index, weights: NDArray[Any] | None = None) -> NDArray[Any]:
        """How many rows, or how much weight, is in each cell: int64, or float64, of `shape`.

        places: of each row among all cells, (n,), as `of` gives them.
        """
        return np.bincount(places, weights, minlength=self.size).reshape(self.shape)

    def alone(self, axis: int, counts: NDArray[Any]) -> NDArray[Any]:
        """The table of users who are on one of two axes and absent from the other, 0 elsewhere.

        counts: of its positions but *absent*, in order. All 0 where the other axis has no *absent*.
        """
        table = np.zeros(self.shape, dtype=counts.dtype)
        other = self.axes[1 - axis]
        if other.absent is not None:
            at: list[int | slice] = [slice(self.axes[axis].present)] * 2
            at[1 - axis] = other.present
            table[*at] = counts.ravel()
        return table

    def positions(self) -> Index:
        """Position on each axis of every opened cell: int64 (n_opened, axes)."""
        return Axis(sizes=self.shape).codes()[: self.n_opened]

    def labels(self, levels: Mapping[str, Sequence[str]]) -> list[str]:
        """Name of every cell: "segment=test, visit=1", "segment=test, shop: absent"."""
        axes = [axis.labels(levels) for axis in self.axes]
        return [", ".join(filter(None, cell)) for cell in product(*axes)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Contingency:
    """A table and its noise. values: float64 of `cells.shape`, unbiased.

    variance: of the noise in each cell, one for all or an array of the same shape.
    """

    cells: Cells
    values: Floats = field(repr=False)
    variance: float | Floats = field(repr=False)

    def __post_init__(self) -> None:
        if self.values.shape != self.cells.shape:
            raise ValueError(f"values {self.values.shape} for a table of {self.cells.shape}")

    @property
    def variances(self) -> Floats:
        """The noise's variance in each cell; 0 in the cell that is never opened."""
        every = np.broadcast_to(np.asarray(self.variance, dtype=np.float64), self.cells.shape)
        return np.asarray(self.cells.table(self.cells.opened(every)))

    @property
    def total(self) -> tuple[float, float]:
        """The sum of all cells, and its noise's variance."""
        return float(self.values.sum()), float(self.variances.sum())

    def project(self, *axes: tuple[str, ...]) -> Contingency:
        """The table over some columns alone: an axis for each argument, of the columns it names.

        Users who are absent from an axis with a named column are left out, everyone else is
        summed. A column that two axes have is taken from the first. Raises ValueError for a
        column that the table lacks.
        """
        named = [name for axis in axes for name in axis]
        asked = [not set(axis.names).isdisjoint(named) for axis in self.cells.axes]
        parts = [
            part
            for axis, needed in zip(self.cells.axes, asked, strict=True)
            for part in (axis.split() if needed else (Axis(sizes=(axis.size,)),))
        ]
        places = [part.names for part in parts]
        order = [places.index((name,)) for name in named]
        rest = [i for i in range(len(parts)) if i not in order]
        size = {name: parts[i].size for name, i in zip(named, order, strict=True)}
        cells = Cells(axes=tuple(Axis(names=a, sizes=tuple(size[n] for n in a)) for a in axes))
        within = self._within(asked)

        def folded(table: Floats) -> Floats:
            apart = table[within].reshape([p.size for p in parts]).transpose(*order, *rest)
            summed = apart.sum(axis=tuple(range(len(order), apart.ndim)))
            return np.asarray(summed.reshape(cells.shape))

        return Contingency(cells=cells, values=folded(self.values), variance=folded(self.variances))

    def over(self, names: Sequence[str]) -> Contingency:
        """The table over some of its columns, everyone summed: *absent* stays where it is.

        An axis that keeps no column and has no *absent* goes. Differs from `project`, which
        leaves out who is absent.
        """
        places, axes = [], []
        for axis in self.cells.axes:
            kept = [i for i, name in enumerate(axis.names) if name in names]
            own = Axis(
                names=tuple(axis.names[i] for i in kept),
                sizes=tuple(axis.sizes[i] for i in kept),
                absent=axis.absent,
            )
            held = np.arange(axis.size) < axis.present if axis.absent is not None else None
            places.append(own.positions(axis.codes()[:, kept], held))
            axes.append(own)
        whole = Cells(axes=tuple(axes))
        grid = np.meshgrid(*places, indexing="ij")
        at = whole.of([positions.ravel() for positions in grid])
        cells = Cells(axes=tuple(a for a in axes if a.names or a.absent is not None))

        def summed(table: Floats) -> Floats:
            return np.asarray(whole.count(at, table.ravel()).reshape(cells.shape))

        return Contingency(cells=cells, values=summed(self.values), variance=summed(self.variances))

    def present(self) -> Contingency:
        """The table of the users who are absent from no axis."""
        axes = tuple(Axis(names=a.names, sizes=a.sizes) for a in self.cells.axes)
        within = self._within([True] * len(axes))
        return Contingency(
            cells=Cells(axes=axes), values=self.values[within], variance=self.variances[within]
        )

    def absent(self, axis: int) -> Contingency:
        """The table, over the other axes, of the users who are absent from this one alone."""
        others = tuple(
            Axis(names=a.names, sizes=a.sizes) for i, a in enumerate(self.cells.axes) if i != axis
        )
        gone: list[Any] = list(self._within([True] * len(self.cells.axes)))
        gone[axis] = self.cells.axes[axis].present
        return Contingency(
            cells=Cells(axes=others), values=self.values[*gone], variance=self.variances[*gone]
        )

    def _within(self, asked: Sequence[bool]) -> tuple[slice, ...]:
        """Of every axis that is asked the positions but *absent*; all of another."""
        pairs = zip(self.cells.axes, asked, strict=True)
        return tuple(slice(axis.present if needed else axis.size) for axis, needed in pairs)


def group_of(column: Column, groups: int) -> Index:
    """The group of every code, int64 (size,): equal runs of neighbouring codes, in order.

    From the public schema alone. Special numbers and missing, where the column has them, are
    groups of their own beside the `groups` of the rest. 0 groups: every code is its own.
    """
    apart = len(column.special) + column.has_missing_level
    own = column.size - apart
    if not 0 < groups < own:
        return np.arange(column.size)
    return np.append(np.arange(own) * groups // own, groups + np.arange(apart))


def grouped_labels(column: Column, grouping: Sequence[int]) -> tuple[str, ...]:
    """Name of every group: its only code's, the first and last of neighbours: "north … west", or
    the first of others: "north and 3 more".

    grouping: the group of every code.
    """
    of, labels = np.array(grouping), column.labels
    named = []
    for group in range(of.max() + 1):
        members = np.flatnonzero(of == group)
        first, last, n = int(members[0]), int(members[-1]), len(members)
        run = f"{labels[first]} … {labels[last]}" if last - first + 1 == n else ""
        named.append(labels[first] if n == 1 else run or f"{labels[first]} and {n - 1} more")
    return tuple(named)
