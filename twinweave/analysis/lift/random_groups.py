"""How noisy totals of random groups spread, and the factor that an interval may reckon with.

The noise's known variance is taken off. A spread of so many groups is itself uncertain: without
noise a Student quantile allows for it; with noise, what does follows from the distribution of the
estimate (`Spread.factor`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import chi2

from twinweave.analysis.lift.reconcile import Floats

_NODES = (np.arange(100) + 0.5) / 100
"""Square roots of the probabilities at which the estimate's distribution is looked at: finer
where it is too small."""

_TRUE = 12
_STEPS = 20
_LARGEST = 100.0
"""Multiplier beyond which none is sought."""

_FAR = 4.0
"""Times its estimate: as large as the mean cluster size may be."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Of noisy totals of random groups, over what independent users would have.

    value: unbiased for the design effect; its noisy estimate follows (effect + noise) chi2 / df -
    noise. noise: what the noise alone makes of it. df: degrees of freedom (Satterthwaite 1946).
    """

    value: float
    noise: float
    df: float

    @property
    def standard_error(self) -> float:
        """Where the design effect is the estimate, or 1 if that is less."""
        return (max(self.value, 1.0) + self.noise) * sqrt(2 / self.df)

    def factor(self, level: float, most: float) -> float:
        """Design effect with which an interval at `level` may reckon as with a known one.

        Errors of the estimate count: were it taken for the truth, an interval would cover less.
        value + noise is multiplied by the least k >= 1 with which a normal interval covers
        `level`, on average over the estimate, whatever the design effect in 1..most is. Without
        noise k is the square of Student's quantile over the normal one.
        """
        k = self._multiplier(level, most)
        return max(1.0, (self.value + self.noise) * k - self.noise)

    def expected(self, level: float, most: float, effect: float) -> float:
        """Mean of `factor` over the estimates that there may be of such a design effect."""
        k = self._multiplier(level, most)
        drawn = chi2.ppf(_NODES**2, self.df) / self.df
        used = np.maximum((effect + self.noise) * drawn * k - self.noise, 1.0)
        return float(used @ _NODES / _NODES.sum())

    def _multiplier(self, level: float, most: float) -> float:
        noise, most = (float(f"{x:.3g}") for x in (self.noise, most))
        return _multiplier(round(self.df, 1), noise, max(most, 1.0), level)


@lru_cache(maxsize=256)
def _multiplier(df: float, noise: float, most: float, level: float) -> float:
    """`k` of `Spread.factor`, by bisection; coverage by quadrature over the chi-square."""
    drawn = chi2.ppf(_NODES**2, df) / df
    true = np.geomspace(1.0, most, _TRUE)[:, None]
    z = float(ndtri((1 + level) / 2))

    def covers(k: float) -> bool:
        used = np.maximum((true + noise) * drawn * k - noise, 1.0)
        inside = 2 * ndtr(z * np.sqrt(used / true)) - 1
        return bool((inside @ _NODES).min() >= level * _NODES.sum())

    if covers(1.0):
        return 1.0
    low, high = 0.0, float(np.log(_LARGEST))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if covers(float(np.exp(middle))) else (middle, high)
    return float(np.exp(high))


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Design effect of one outcome, as far as it is known.

    declared: believed where nothing is measured. size: the groups' sizes, whose spread is the
    mean cluster size. own: the outcome's totals; None where no table has them.
    """

    declared: float = 1.0
    size: Spread | None = None
    own: Spread | None = None

    def at(self, level: float) -> float:
        """What an interval at `level` reckons with."""
        if self.size is None:
            return self.declared
        bound = self._bound(self.size, level)
        if self.own is None or not self.is_estimated(level):
            return bound
        return self.own.factor(level, bound)

    def is_estimated(self, level: float) -> bool:
        """Whether the outcome's own estimate, and not the mean cluster size, is reckoned with.

        By what either makes of a correlation of one half, before the estimate is looked at: to
        choose by the estimate itself would favour those that are too small.
        """
        if self.size is None or self.own is None:
            return False
        bound = self._bound(self.size, level)
        return self.own.expected(level, bound, (1 + bound) / 2) < bound

    @staticmethod
    def _bound(size: Spread, level: float) -> float:
        """No two users correlate by more than 1: the design effect is the mean cluster size."""
        return size.factor(level, _FAR * max(size.value, 1.0))


INDEPENDENT = Effect()
"""Of users who are no more alike than any two."""


def spread(totals: Floats, noise: Floats, scale: Floats, clusters: Floats | None = None) -> Spread:
    """Spread of random groups, pooled over the arms by precision.

    totals: (arms, G), noisy; noise: of the same shape, its variance; scale: (arms,) variance of
    the arm's sum were users independent.
    clusters: (arms,) effective number of clusters, where the totals of clusters are random.
    """
    groups = totals.shape[1]
    excess = groups / (groups - 1) * totals.var(axis=1) * groups / scale
    own = noise.sum(axis=1) / scale
    weights = (1 + own) ** -2
    weights /= weights.sum()
    value, middle = float(weights @ (excess - own)), float(weights @ own)
    once = 1 / (groups - 1) + (0 if clusters is None else 1 / np.maximum(clusters - 1, 1))
    df = (1 + middle) ** 2 / float((weights**2 * (1 + own) ** 2) @ np.broadcast_to(once, own.shape))
    return Spread(value=value, noise=middle, df=df)
