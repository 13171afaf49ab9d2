"""Whole rows from weighted candidates, closer to the weighted tables than chance would leave them.

No privacy cost: the candidates' own tables are the aim, not the measurements' noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows
from twinweave.synthesis.tilting import Constraint, Tables

Vector = NDArray[np.float64]
Index = NDArray[np.int64]

BATCH = 4000
"""Rows considered for an exchange at once, at most."""

LEAST_NOISE = 25.0
"""Variance, in rows, below which a priority cell counts no more: rows are whole."""


def resample(weights: Vector, rows: Rows, n: int, rng: np.random.Generator) -> Index:
    """Indices of n rows by systematic resampling in the order of the rows' codes.

    A row of weight w appears floor(n w) or ceil(n w) times (Kitagawa 1996, appendix); in
    sorted order the tables of the first columns stay closer than by independent draws.
    """
    order = np.lexsort(np.column_stack([rows.codes, rows.presence]).T)
    edges = np.cumsum(weights[order]) * n
    edges[-1] = n
    picks = np.searchsorted(edges, np.arange(n) + rng.random(), side="right")
    return np.asarray(rng.permutation(order[picks.clip(max=len(order) - 1)]))


def exchange(
    chosen: Index,
    weights: Vector,
    wanted: Sequence[Constraint],
    rounds: int,
    rng: np.random.Generator,
) -> Index:
    """Swap chosen rows for candidates drawn by weight where that brings all tables closer.

    Closer: Pearson's chi-square between the chosen rows' tables and the weighted candidates'
    over all cells of the constraints; cells of priority tables add their chi-square against
    the noise, which in a large table is far smaller than what chance leaves. Each round offers
    swaps for a sixteenth of the rows and makes the best at once, a tenth of them at most: so
    many that all tables together come closer, for each is judged as if it were alone.
    """
    n, tables = len(chosen), Tables(wanted, len(weights))
    aim = n * tables.sums(weights)
    missing = aim - tables.sums(np.bincount(chosen, minlength=len(weights)).astype(np.float64))
    worth = 1 / (n * tables.sums(weights, power=2) + 1) + _precision(wanted, n)
    edges = np.cumsum(weights)
    batch = min(BATCH, -(-n // 16))
    out = chosen.copy()
    for _ in range(rounds):
        places = rng.choice(n, batch, replace=False)
        offered = np.searchsorted(edges, rng.random(batch) * edges[-1]).clip(max=len(weights) - 1)
        old, new = tables.of(out[places]), tables.of(offered)
        gain = _gain(missing, worth, old, new)
        best = np.argsort(-gain, kind="stable")[: -(-batch // 10)]
        best = best[gain[best] > 1e-12]
        best, missing = _together(best, missing, worth, old, new)
        out[places[best]] = offered[best]
    return out


def _precision(wanted: Sequence[Constraint], n: int) -> Vector:
    """Inverse variance of the noise of priority cells in rows, 0 of the others: (targets,)."""
    return np.concatenate([c.priority / np.maximum(c.variance * n**2, LEAST_NOISE) for c in wanted])


def _together(
    best: Index,
    missing: Vector,
    worth: Vector,
    old: tuple[Index, Vector],
    new: tuple[Index, Vector],
) -> tuple[Index, Vector]:
    """The first of the swaps, halved until they gain together, and what then is missing."""
    before = worth @ missing**2
    while len(best):
        after = missing.copy()
        np.add.at(after, old[0][:, best], old[1][:, best])
        np.subtract.at(after, new[0][:, best], new[1][:, best])
        if worth @ after**2 < before:
            return best, after
        best = best[: len(best) // 2]
    return best, missing


def _gain(
    missing: Vector, worth: Vector, old: tuple[Index, Vector], new: tuple[Index, Vector]
) -> Vector:
    """What each swap alone takes off the chi-square: (rows,)."""
    (a, x), (b, y) = old, new
    same = a == b
    y = np.where(same, y - x, y)  # one cell changes, by the difference
    x = np.where(same, 0.0, x)
    off = worth[b] * y * (2 * missing[b] - y) - worth[a] * x * (2 * missing[a] + x)
    gained: Vector = off.sum(axis=0)
    return gained
