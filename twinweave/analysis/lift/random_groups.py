"""How noisy totals of random groups spread, and the factor that an interval may reckon with.

The noise's known variance is taken off. A spread of so many groups is itself uncertain: without
noise a Student quantile would allow for it; with noise, and with a bound that is known, what
allows for it follows from the distribution of the estimate (`Spread.factor`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import chi2

from twinweave.analysis.lift.reconcile import Floats

LEFT_OPEN = 0.1
"""Of an interval's error rate: how often the limit of what bounds a design effect may fail."""

_NODES = (np.arange(100) + 0.5) / 100
_TRUE = 12
_STEPS = 20


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

    def upper(self, confidence: float) -> float:
        """One-sided upper limit; 1 at least."""
        factor = self.df / float(chi2.ppf(1 - confidence, self.df))
        return max(1.0, (self.value + self.noise) * factor - self.noise)

    def factor(self, level: float, bound: Bound) -> float:
        """Design effect with which an interval at `level` may reckon as with a known one.

        Errors of the estimate count: were it taken for the truth, an interval would cover less.
        value + noise is multiplied by the least k >= 1 with which a normal interval covers
        `level`, on average over the estimate, whatever the design effect in 1..bound.likely is;
        without noise or bound k is the square of Student's quantile over the normal one. An
        estimate that the noise leaves open makes k large, and bound.most is what remains.
        """
        noise, likely, most = (float(f"{x:.3g}") for x in (self.noise, bound.likely, bound.most))
        k = _multiplier(round(self.df, 1), noise, likely, max(likely, most), level)
        return float(np.clip((self.value + self.noise) * k - self.noise, 1.0, bound.most))


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What no design effect is above: as estimated, and a limit that is hardly ever exceeded."""

    likely: float
    most: float


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Design effect of one outcome, as far as it is known. spread: None where the bound is all."""

    bound: Bound
    spread: Spread | None = None

    def at(self, level: float) -> float:
        """What an interval at `level` reckons with."""
        return self.bound.most if self.spread is None else self.spread.factor(level, self.bound)


INDEPENDENT = Effect(bound=Bound(likely=1.0, most=1.0))
"""Of users who are no more alike than any two."""


@lru_cache(maxsize=256)
def _multiplier(df: float, noise: float, likely: float, most: float, level: float) -> float:
    """`k` of `Spread.factor`, by bisection; coverage by quadrature over the chi-square."""
    drawn = chi2.ppf(_NODES**2, df) / df  # finer where the estimate is too small
    true = np.geomspace(1.0, likely, _TRUE)[:, None]
    z = float(ndtri((1 + level) / 2))

    def covers(k: float) -> bool:
        used = np.clip((true + noise) * drawn * k - noise, 1.0, most)
        inside = 2 * ndtr(z * np.sqrt(used / true)) - 1
        return bool((inside @ _NODES).min() >= level * _NODES.sum())

    low, high = 0.0, float(np.log((most + noise) / ((1 + noise) * drawn[0])))
    if high <= 0 or covers(1.0):
        return 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if covers(float(np.exp(middle))) else (middle, high)
    return float(np.exp(high))


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
