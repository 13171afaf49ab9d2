"""How far apart groups' rates are, with an honest interval.

Fairness differences are ranges, max - min over groups: never negative, so that a percentile
bootstrap of them would exclude zero even where all groups are treated alike. Instead all
pairwise differences get simultaneous intervals (studentised maximum by bootstrap: Beran 1988,
"Balanced simultaneous confidence sets", JASA 83), and the range's interval runs from the
largest lower end, or 0, to the largest upper end. With two groups it is the interval of one
signed difference, folded at 0; with more it covers at least at its level.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.finding import Finding

DRAWS = 2000

Floats = NDArray[np.float64]


def spread(rates: Floats, draws: Floats, level: float) -> Finding:
    """The largest difference between two groups' rates, over all families of rates.

    rates: (families, groups), such as true and false positive rates, NaN for a group that has
    none; value: the largest range of a family. draws: (draws, families, groups), replicates
    whose deviation from their own mean stands for the error of `rates`.
    """
    first, second = np.triu_indices(rates.shape[1], k=1)
    apart = np.abs(rates[:, first] - rates[:, second]).ravel()
    known = ~np.isnan(apart)
    apart = apart[known]
    replicate = (draws[:, :, first] - draws[:, :, second]).reshape(len(draws), -1)[:, known]
    deviation = np.abs(replicate - replicate.mean(axis=0))
    error = np.maximum(replicate.std(axis=0), 1e-12)
    reach = np.quantile((deviation / error).max(axis=1), level) * error
    low, high = float((apart - reach).max()), float((apart + reach).max())
    return Finding(value=float(apart.max()), interval=(max(low, 0.0), min(high, 1.0)))


def multinomial(
    counts: NDArray[np.integer[Any]], rng: np.random.Generator, *, worth: float = 1.0
) -> Floats:
    """Replicates of a table of counts, (DRAWS, *counts.shape): its rows, drawn again.

    worth: effective over actual number of rows. Cell probabilities are smoothed by half a
    row (Jeffreys), or a rate of 0 or 1 would look as if it were known exactly.
    """
    smooth = counts.ravel() + 0.5
    n = max(round(worth * float(counts.sum())), 1)
    drawn = rng.multinomial(n, smooth / smooth.sum(), size=DRAWS)
    return drawn.reshape(DRAWS, *counts.shape).astype(np.float64)
