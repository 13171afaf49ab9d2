"""Distances between coded rows, all pairs in one matrix product, and kernel densities from them.

Two rows are as far apart as the sum of their columns' distances, and the kernel is a bandwidth
below 1 to that power. For levels this is the kernel of Aitchison & Aitken (Biometrika 1976), for
ordered bins that of Wang & van Ryzin (Biometrika 1981) cut after the neighbouring bin: those
farther off are as strange as another level. Not normalised: attacks compare densities at the same
row, where that is a constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.attacks.rows import Codes, one_hot
from twinweave.tables.column import Column

Floats = NDArray[np.float64]
Distances = NDArray[np.float32]

NEXT = 0.5
"""Distance between neighbouring bins; between any other two codes that differ it is 1."""

PAIRS = 4_000_000
"""Of rows, at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric:
    """How far apart rows of these columns are."""

    columns: tuple[Column, ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(c.size for c in self.columns)

    @cached_property
    def tables(self) -> tuple[Distances, ...]:
        """Of each column, (size + 1, size + 1) between its codes, ABSENT last."""
        return tuple(_between_codes(c) for c in self.columns)

    def between(self, rows: Codes, others: Codes) -> Iterator[Distances]:
        """(some of rows, others) distances, in parts that fit in memory, in order."""
        indicator = one_hot(others, self.sizes).T
        step = max(1, PAIRS // max(len(others), 1))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            # Every row's distances to every code, so that one product adds the columns up.
            own = [table[codes] for table, codes in zip(self.tables, part.T, strict=True)]
            yield np.concatenate(own, axis=1) @ indicator


def _between_codes(column: Column) -> Distances:
    apart = 1 - np.eye(column.size + 1, dtype=np.float32)
    if column.is_numeric:
        first = np.arange(column.bin_count - 1)
        apart[first, first + 1] = apart[first + 1, first] = NEXT
    return apart


@dataclass(frozen=True, kw_only=True, eq=False)
class Density:
    """The kernel density of rows, up to a constant. bandwidth: within (0, 1)."""

    metric: Metric
    rows: Codes = field(repr=False)
    bandwidth: float

    def log(self, at: Codes) -> Floats:
        """(len(at),) its logarithm."""
        parts = [self._log(apart) for apart in self.metric.between(at, self.rows)]
        return np.concatenate(parts)

    def _log(self, apart: Distances) -> Floats:
        near = apart.min(axis=1, keepdims=True)
        scale = np.float32(np.log(self.bandwidth))
        sums = np.exp((apart - near) * scale).sum(axis=1, dtype=np.float64)
        return np.asarray(np.log(sums / len(self.rows)) + float(scale) * near[:, 0])
