"""How the numbers of a bin lie within it, as a table of the bins' counts suggests.

A bin is decoded under a density that meets those of its neighbours at its edges: a long last bin
then falls off from the one before it, as amounts do, and is not uniform up to the public bound.
The mass of every bin is kept exactly. Nothing is fitted on data: the counts are released ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST = 0.5
"""Users that a bin counts for, at least, where the densities at its edges are found."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Densities:
    """Of each bin on [0, 1], a mixture of up to four: uniform, (p + 1)(1 - t)^p, (p + 1) t^p, and
    6 t (1 - t).

    shares: float64 (4, bins), in that order, sum 1 over the first axis. powers: p, (bins,), 0 or
    more.
    """

    shares: Floats = field(repr=False)
    powers: Floats = field(repr=False)

    @property
    def means(self) -> Floats:
        """Mean place within each bin: (bins,)."""
        low, high = 1 / (self.powers + 2), (self.powers + 1) / (self.powers + 2)
        even, falling, rising, bump = self.shares
        return np.asarray(even / 2 + falling * low + rising * high + bump / 2)

    def draw(self, bins: NDArray[np.integer[Any]], rng: np.random.Generator) -> Floats:
        """A place within [0, 1) of each number's bin: (n,). bins: (n,)."""
        upper = self.shares.cumsum(axis=0)[:-1]
        kind = (rng.random(len(bins)) >= upper[:, bins]).sum(axis=0)
        u, power = rng.random(len(bins)), self.powers[bins]
        root = (1 - u) ** (1 / (power + 1))
        bump = 0.5 - np.sin(np.arcsin(1 - 2 * u) / 3)
        places = np.choose(kind, [u, 1 - root, root, bump])
        return np.asarray(np.clip(places, 0.0, np.nextafter(1.0, 0.0)))


def densities(counts: Floats, widths: Floats) -> Densities:
    """Densities of the bins that are continuous at their edges as far as one edge tells.

    At an edge log density is interpolated from the bins on either side, each extrapolated by its
    step from the bin beyond it where that goes the same way. Between the values at its edges a
    bin's density is monotone where its mean lies between them, and else a trough or a bump. At
    the outer end of the first and the last bin it falls to zero from a denser neighbour; in a bin
    denser than its only neighbour it rises to the end as steeply as from bin to bin.

    counts: (bins,) users, none negative. widths: (bins,) above 0, whole numbers for an integer.
    """
    mean = np.maximum(counts, LEAST) / widths
    if len(mean) == 1:
        return Densities(shares=np.array([[1.0], [0.0], [0.0], [0.0]]), powers=np.zeros(1))
    inner = _at_edges(np.log(mean), widths)
    first, last = (_outer(inner[i], mean[[i, j]], widths[[i, j]]) for i, j in ((0, 1), (-1, -2)))
    return _mixture(np.append(first, inner) / mean, np.append(inner, last) / mean)


def _at_edges(log_mean: Floats, widths: Floats) -> Floats:
    """Density at every inner edge: (bins - 1,)."""
    step = np.diff(log_mean)
    slope = step / (widths[1:] + widths[:-1])  # half a step, a unit of width
    from_left, from_right = log_mean[:-1].copy(), log_mean[1:].copy()
    from_left[1:] += slope[:-1] * widths[1:-1]
    from_right[:-1] -= slope[1:] * widths[1:-1]
    low = np.minimum(log_mean[:-1], log_mean[1:])
    high = np.maximum(log_mean[:-1], log_mean[1:])
    from_left, from_right = from_left.clip(low, high), from_right.clip(low, high)
    near = widths[1:] / (widths[1:] + widths[:-1])  # the narrower bin is nearer to the edge
    return np.asarray(np.exp(near * from_left + (1 - near) * from_right))


def _outer(edge: float, mean: Floats, widths: Floats) -> float:
    """Density at the outer end of a bin. edge: at its inner one. mean, widths: its own and its
    neighbour's, (2,)."""
    if mean[0] <= edge:
        return 0.0
    steps = 2 * widths[0] / widths.sum()  # from bin to bin, across the bin
    power = max(steps * np.log(mean[0] / mean[1]), 1.0)
    return float(edge + (power + 1) * (mean[0] - edge))


def _mixture(left: Floats, right: Floats) -> Densities:
    """Of densities of mean 1 with these values at 0 and at 1."""
    low, high = np.minimum(left, right), np.maximum(left, right)
    between = (low < 1) & (high > 1)
    trough = ~between & (high + low >= 2) & (low >= 1) & (high > 1)
    powers = np.zeros(len(left))
    powers[between] = (high - 1)[between] / (1 - low)[between]
    powers[trough] = (high + low)[trough] - 1
    line = ~between & ~trough
    powers[line] = 1.0
    even = np.where(trough, 0.0, low)
    falling, rising = ((a - even) / (powers + 1) for a in (left, right))
    shares = np.stack([even, falling, rising, 1 - even - falling - rising]).clip(0.0)
    return Densities(shares=shares / shares.sum(axis=0), powers=powers)
