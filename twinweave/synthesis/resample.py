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


def within(weights: Vector, rows: Rows, patterns: NDArray[np.bool_], shares: Index) -> Vector:
    """The weights, those of each presence pattern in proportion to its share: sum 1.

    patterns: (patterns, parties), each once; shares: (patterns,). Rows resampled by them are
    divided exactly so where that makes whole numbers. A pattern of which there is no row gives
    its share to the others.
    """
    code = 2 ** np.arange(patterns.shape[1])
    order = np.argsort(patterns @ code)
    kind = order[np.searchsorted(patterns @ code, rows.presence @ code, sorter=order)]
    held = np.bincount(kind, weights, len(patterns))
    factor = np.divide(shares, held, out=np.zeros(len(held)), where=held > 0)
    found: Vector = weights * factor[kind]
    found /= found.sum()
    return found


def resample(weights: Vector, rows: Rows, n: int, rng: np.random.Generator) -> Index:
    """Indices of n rows by systematic resampling in the order of the rows' presence and codes.

    A row of weight w appears floor(n w) or ceil(n w) times (Kitagawa 1996, appendix), and so do
    the rows of a presence pattern together; in sorted order the tables of the first columns stay
    closer than by independent draws.
    """
    order = np.lexsort(np.column_stack([rows.codes, rows.presence]).T)
    edges = np.cumsum(weights[order]) * n
    edges[-1] = n
    picks = np.searchsorted(edges, np.arange(n) + rng.random(), side="right")
    return np.asarray(rng.permutation(order[picks.clip(max=len(order) - 1)]))


def exchange(
    chosen: Index,
    weights: Vector,
    presence: NDArray[np.bool_],
    wanted: Sequence[Constraint],
    rounds: int,
    rng: np.random.Generator,
) -> Index:
    """Swap chosen rows for candidates of the same presence, drawn by weight, where that brings all
    tables closer.

    Closer: Pearson's chi-square between the chosen rows' tables and the weighted candidates'
    over all cells of the constraints; cells of priority tables add their chi-square against
    the noise, which in a large table is far smaller than what chance leaves. Each round offers
    swaps for a sixteenth of the rows and makes the best at once, a tenth of them at most: so
    many that all tables together come closer, for each is judged as if it were alone.

    presence: bool (candidates, parties): how many rows each party has stays as it is.
    """
    n, tables = len(chosen), Tables(wanted, len(weights))
    aim = n * tables.sums(weights)
    missing = aim - tables.sums(np.bincount(chosen, minlength=len(weights)).astype(np.float64))
    worth = 1 / (n * tables.sums(weights, power=2) + 1) + _precision(wanted, n)
    alike = _Alike(weights, presence)
    batch = min(BATCH, -(-n // 16))
    out = chosen.copy()
    for _ in range(rounds):
        places = rng.choice(n, batch, replace=False)
        offered = alike.draw(out[places], rng)
        old, new = tables.of(out[places]), tables.of(offered)
        gain = _gain(missing, worth, old, new)
        best = np.argsort(-gain, kind="stable")[: -(-batch // 10)]
        best = best[gain[best] > 1e-12]
        best, missing = _together(best, missing, worth, old, new)
        out[places[best]] = offered[best]
    return out


class _Alike:
    """Draws candidates by weight among those of the same presence."""

    def __init__(self, weights: Vector, presence: NDArray[np.bool_]) -> None:
        self.kind = np.unique(presence, axis=0, return_inverse=True)[1].reshape(-1)
        self.order = np.argsort(self.kind, kind="stable")
        self.edges = np.concatenate([[0.0], np.cumsum(weights[self.order])])
        self.first = np.searchsorted(self.kind[self.order], np.arange(self.kind.max() + 2))

    def draw(self, rows: Index, rng: np.random.Generator) -> Index:
        kind = self.kind[rows]
        first, end = self.first[kind], self.first[kind + 1]
        low, high = self.edges[first], self.edges[end]
        at = np.searchsorted(self.edges, low + rng.random(len(rows)) * (high - low), side="right")
        found: Index = self.order[np.clip(at - 1, first, end - 1)]
        return found


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
