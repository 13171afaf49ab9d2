"""From counts of hits to a finding: two rates, and an interval of their difference."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.audit.results import LEVEL, AttackFinding
from twinweave.workload.audit import HIT_CELLS

LEAST = 30
"""Rows used, and rows set aside, below which nothing is said of their rates."""


def hit_table(used: NDArray[np.bool_], aside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Which rows an attack hit -> its table: int64 (HIT_CELLS,), as `workload.audit` orders it."""
    cells = [used.sum(), (~used).sum(), aside.sum(), (~aside).sum()]
    table = np.array(cells, dtype=np.int64)
    assert table.shape == (HIT_CELLS,)
    return table


def finding_of_hits(
    name: str, table: NDArray[np.int64], *, threshold: float, variance: float = 0.0
) -> AttackFinding | None:
    """The attack's rates; None where too few rows stand in its table, beside the noise.

    table: of HIT_CELLS counts, each with noise of this variance. The interval is that of Agresti
    and Caffo (2000, The American Statistician 54): one hit and one miss are added to each group;
    the noise enters by the delta method.
    """
    from scipy.stats import norm

    cells = np.maximum(table.astype(np.float64), 0.0)
    sizes = np.array([cells[:2].sum(), cells[2:].sum()])
    if sizes.min() < max(LEAST, 3 * sqrt(2 * variance)):
        return None
    rates = (cells[[0, 2]] + 1) / (sizes + 2)
    spread = rates * (1 - rates) / (sizes + 2)
    noise = variance * ((1 - rates) ** 2 + rates**2) / (sizes + 2) ** 2
    half = float(norm.ppf((1 + LEVEL) / 2)) * sqrt(float((spread + noise).sum()))
    middle = float(rates[0] - rates[1])
    success, control = (float(r) for r in cells[[0, 2]] / sizes)
    return AttackFinding(
        name=name,
        success=success,
        control=control,
        interval=(max(middle - half, -1.0), min(middle + half, 1.0)),
        threshold=threshold,
        used=round(float(sizes[0])),
        aside=round(float(sizes[1])),
    )
