"""Do the synthetic rows tell what the measurements tell?

The server has no private row to compare with, so noisy tables are the reference: a distance
of zero would mean that the noise was copied, and a distance near what the noise alone makes
means that nothing is left to learn from the table. Post-processing: costs no privacy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.population import row_counts
from twinweave.workload.measurement import Measurement, of_rows

WORST = 5

TOLERATED = 1.5
"""Mean chi-square a cell up to which synthetic and noisy tables agree as far as noise lets see."""

TOLERATED_ALONE = 2.0
"""The same of one priority table: few cells vary more."""


@dataclass(frozen=True, kw_only=True)
class TableFidelity:
    """One measured table of counts.

    ways: columns in it. tvd: total variation distance, half the sum of absolute differences
    between synthetic and noisy counts over the synthetic total. noise_tvd: its expectation,
    were the synthetic table the true one: 1/2 cells sd sqrt(2 / pi) / total.
    chi2: mean over cells of squared difference over noise variance, about 1 at the truth.
    mse, cosine: mean squared difference and cosine similarity of the two as shares. Weak: most
    cells are small in any two tables of such columns.
    priority: whether lift or audit stand on it.
    """

    name: str
    priority: bool
    ways: int
    cells: int
    tvd: float
    noise_tvd: float
    chi2: float
    mse: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class WaysFidelity:
    """Means over all tables with the same number of columns."""

    ways: int
    tables: int
    tvd: float
    noise_tvd: float
    chi2: float
    mse: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class FidelityReport:
    """tables: as measured. worst: names, largest chi2 first. chi2: over all cells of all.

    unmet: names of the priority tables from which the rows differ by more than noise explains.
    """

    by_ways: tuple[WaysFidelity, ...]
    chi2: float
    worst: tuple[str, ...]
    unmet: tuple[str, ...]
    tables: tuple[TableFidelity, ...] = field(repr=False)

    @property
    def agrees(self) -> bool:
        """Whether the tables, and each priority table, differ by no more than noise explains."""
        return self.chi2 <= TOLERATED and not self.unmet

    def table(self, name: str) -> TableFidelity:
        return next(t for t in self.tables if t.name == name)


def fidelity(
    layout: UnionLayout, rows: Rows, measurements: Sequence[Measurement], users: float
) -> FidelityReport:
    """Compare every measured table of counts with the same table of the synthetic rows.

    users: of the union, whom all rows together stand for. Sums of values are left aside:
    the lift speaks of them.
    """
    each = users / max(len(rows), 1)
    counted = [m for m in of_rows(measurements, layout.names) if m.query.weight is None]
    tables = tuple(_table(layout, rows, m, each) for m in counted)
    cells = sum(t.cells for t in tables)
    return FidelityReport(
        by_ways=tuple(_ways(n, tables) for n in sorted({t.ways for t in tables})),
        chi2=sum(t.chi2 * t.cells for t in tables) / max(cells, 1),
        worst=tuple(t.name for t in sorted(tables, key=lambda t: -t.chi2)[:WORST]),
        unmet=tuple(t.name for t in tables if t.priority and t.chi2 > TOLERATED_ALONE),
        tables=tables,
    )


def _table(layout: UnionLayout, rows: Rows, m: Measurement, each: float) -> TableFidelity:
    """One table's opened cells. each: users that a row stands for."""
    cells = m.by_sides.cells
    noisy = cells.opened(m.values)
    synthetic = cells.opened(row_counts(m.query, layout, rows)) * each
    total = max(float(synthetic.sum()), 1.0)
    apart = synthetic - noisy
    variance = max(m.variance, 1e-9)
    return TableFidelity(
        name=m.query.name,
        priority=m.query.priority,
        ways=len(m.query.columns),
        cells=len(noisy),
        tvd=float(np.abs(apart).sum()) / 2 / total,
        noise_tvd=len(noisy) * sqrt(2 / pi * variance) / 2 / total,
        chi2=float((apart**2).mean()) / variance,
        mse=float((apart**2).mean()) / total**2,
        cosine=_cosine(synthetic, noisy),
    )


def _ways(ways: int, tables: Sequence[TableFidelity]) -> WaysFidelity:
    own = [t for t in tables if t.ways == ways]
    return WaysFidelity(
        ways=ways,
        tables=len(own),
        tvd=float(np.mean([t.tvd for t in own])),
        noise_tvd=float(np.mean([t.noise_tvd for t in own])),
        chi2=float(np.mean([t.chi2 for t in own])),
        mse=float(np.mean([t.mse for t in own])),
        cosine=float(np.mean([t.cosine for t in own])),
    )


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size else 0.0
