"""How well an attack tells rows that were used from rows that were not, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.finding import Interval
from twinweave.analysis.lift.intervals import Rate, difference, quantile

Floats = NDArray[np.float64]

REPLICATES = 2000
"""Of a bootstrap."""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """What an attack reached on used rows and on others. interval: of success - control."""

    success: float
    control: float
    interval: Interval


def area(used: Floats, aside: Floats, level: float) -> Contrast:
    """Area under the ROC curve of the scores, beside 1/2.

    The chance that a used row scores higher than one that was set aside, ties counting half.
    Interval: DeLong, DeLong & Clarke-Pearson (Biometrics 1988), by mid-ranks.
    """
    from scipy.stats import rankdata

    n, m = len(used), len(aside)
    ranks = rankdata(np.concatenate([used, aside]))
    above = (ranks[:n] - rankdata(used)) / m  # of the others, below each used row
    below = 1 - (ranks[n:] - rankdata(aside)) / n  # of the used rows, above each other
    value = float(above.mean())
    error = np.sqrt(above.var(ddof=1) / n + below.var(ddof=1) / m)
    half = quantile(level) * float(error)
    apart = value - 0.5
    return Contrast(
        success=value, control=0.5, interval=(max(apart - half, -0.5), min(apart + half, 0.5))
    )


def at_few_false_alarms(
    used: Floats, aside: Floats, rate: float, level: float, rng: np.random.Generator
) -> Contrast:
    """True positives at the score from which on `rate` of the rows set aside are, or fewer.

    Carlini et al. ("Membership inference attacks from first principles", 2022) say why that, and
    not the area, is what an attack is worth. Interval: a bootstrap of both sets at once. The
    share of others from their own k-th largest score on is Beta(k, m - k + 1), which moves the
    threshold; the used rows above it are then binomial. That takes scores without ties, so that
    these are broken at random: an attacker who has to name rows draws lots among equal ones.
    """
    n, m = len(used), len(aside)
    most = max(1, int(rate * m))
    scores = np.concatenate([used, aside])
    place = np.empty(n + m)
    place[np.lexsort((rng.random(n + m), scores))] = np.arange(n + m)
    used, aside = place[:n], place[n:]
    ordered = np.sort(aside)[::-1]
    own = np.sort(used)

    def above(cut: NDArray[np.int64]) -> Floats:
        return np.asarray(1 - np.searchsorted(own, ordered[cut]) / n)

    success, control = float(above(np.array(most - 1))), most / m
    shares = rng.beta(most, m - most + 1, REPLICATES)
    cuts = np.clip(np.ceil(shares * m).astype(np.int64) - 1, 0, m - 1)
    hits = rng.binomial(n, above(cuts)) / n
    low, high = np.quantile(hits - control, [(1 - level) / 2, (1 + level) / 2])
    return Contrast(success=success, control=control, interval=(float(low), float(high)))


def rates(hits: int, n: int, others: int, m: int, level: float) -> Contrast:
    """hits of n used rows beside others of m rows set aside.

    Interval: Newcombe's hybrid score method (Statistics in Medicine 1998, method 10).
    """
    used, aside = _share(hits, n), _share(others, m)
    interval = difference(used, aside, quantile(level))
    return Contrast(success=used.mean, control=aside.mean, interval=interval)


def means(used: Floats, aside: Floats, level: float) -> Contrast:
    """Means of scores within [0, 1], with Welch's interval of their difference."""
    error = np.sqrt(used.var(ddof=1) / len(used) + aside.var(ddof=1) / len(aside))
    success, control = float(used.mean()), float(aside.mean())
    half = quantile(level) * float(error)
    return Contrast(
        success=success,
        control=control,
        interval=(success - control - half, success - control + half),
    )


def wilson(hits: int, n: int, level: float) -> Interval:
    """Wilson's score interval of a share (JASA 1927)."""
    return _share(hits, n).limits(quantile(level))


def _share(hits: int, n: int) -> Rate:
    """Counted without noise."""
    return Rate(n=n, total=hits, var_n=0.0, var_total=0.0, cov=0.0)
