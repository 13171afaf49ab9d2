"""Confidence limits that count sampling and privacy noise together.

One arm's mean has lower and upper limits at any normal quantile z; the limits of a
difference or a ratio of two independent means follow from the arms' own limits (MOVER: Zou
& Donner 2008, Statistics in Medicine 27; Donner & Zou 2012, SMMR 21). A rate's limits are
Wilson's (1927) with the noise of numerator and denominator inside the score: the variance is
taken at the hypothesised rate, so a small or negative noisy count gives no false certainty.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import hypot, inf, isfinite, sqrt

from scipy.stats import norm

from twinweave.analysis.finding import Interval
from twinweave.analysis.lift.random_groups import INDEPENDENT, Effect

_Z_MAX = 40.0


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Conversion rate total / n of one arm: noisy size and conversions.

    var_n, var_total, cov: the noise's variances and covariance.
    effect: the design effect, for intervals at `level`.
    """

    n: float
    total: float
    var_n: float
    var_total: float
    cov: float
    effect: Effect = INDEPENDENT
    level: float = 0.95

    def at(self, level: float) -> Rate:
        """The same, for an interval at `level`."""
        return replace(self, level=level)

    @cached_property
    def deff(self) -> float:
        """How many times the variance of independent users the sampling has."""
        return self.effect.at(self.level)

    @property
    def mean(self) -> float:
        return self.total / self.n

    @property
    def n_cov(self) -> float:
        return self.cov - self.mean * self.var_n

    @property
    def sampling(self) -> float:
        """deff p(1-p)/n, one success and one failure added (Agresti & Caffo 2000): never 0."""
        p = (min(max(self.total, 0.0), self.n) + 1) / (self.n + 2)
        return self.deff * p * (1 - p) / self.n

    @property
    def noise(self) -> float:
        """Delta method through the ratio, y the total: V(y - p n) / n**2."""
        p = self.mean
        return max(self.var_total - 2 * p * self.cov + p * p * self.var_n, 0.0) / self.n**2

    def limits(self, z: float) -> Interval:
        """Solve (y - p n)^2 = z^2 (deff n p (1-p) + V(y - p n)) for p."""
        low, high = self._roots(z, sampling=True)
        low0, high0 = self._roots(z, sampling=False)
        # Outside [0, 1] no sampling variance exists: the noise alone can have led there.
        if not 0 <= low <= 1:
            low = low0
        if not 0 <= high <= 1:
            high = high0
        return min(low, self.mean), max(high, self.mean)

    def _roots(self, z: float, *, sampling: bool) -> Interval:
        """Ends of {p: a p^2 - 2 b p + c <= 0}; the whole line when n is lost in its noise."""
        n, y, z2 = self.n, self.total, z * z
        extra = z2 * self.deff * n if sampling else 0.0
        a = n**2 + extra - z2 * self.var_n
        b = y * n + extra / 2 - z2 * self.cov
        c = y**2 - z2 * self.var_total
        if a <= 0:
            return -inf, inf
        root = b * b - a * c
        if root < 0:  # y far outside [0, n]: no rate is compatible; fall back to noise alone
            return -inf, -inf
        return (b - sqrt(root)) / a, (b + sqrt(root)) / a


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Mean value per user of one arm, total / n, with normal limits.

    var_total, var_n, cov: of the noise in both. variance: of one user's value. All in the
    column's own unit, or its square. effect, level: as of a `Rate`.
    """

    total: float
    var_total: float
    n: float
    var_n: float
    cov: float = 0.0
    variance: float
    effect: Effect = INDEPENDENT
    level: float = 0.95

    def at(self, level: float) -> Mean:
        """The same, for an interval at `level`."""
        return replace(self, level=level)

    @property
    def mean(self) -> float:
        return self.total / self.n

    @property
    def n_cov(self) -> float:
        return self.cov - self.mean * self.var_n

    @property
    def sampling(self) -> float:
        return self.effect.at(self.level) * self.variance / self.n

    @property
    def noise(self) -> float:
        """Delta method through the ratio: V(total - mean n) / n**2."""
        mean = self.mean
        spread = self.var_total - 2 * mean * self.cov + mean**2 * self.var_n
        return max(spread, 0.0) / self.n**2

    def limits(self, z: float) -> Interval:
        half = z * sqrt(self.sampling + self.noise)
        return self.mean - half, self.mean + half


Estimate = Rate | Mean
"""One arm's mean per user, seen through noise, with its limits at a normal quantile z.

n_cov: covariance of the noise in mean * n, n held fixed, with that in n. sampling, noise: the
mean's two variances. A lower limit is never above the mean, an upper one never below it.
"""


def quantile(level: float) -> float:
    """Normal quantile of a two-sided interval."""
    return float(norm.ppf((1 + level) / 2))


def difference(test: Estimate, control: Estimate, z: float, scale: float = 1.0) -> Interval:
    """Limits of test - scale * control, scale >= 0 (MOVER)."""
    d = test.mean - scale * control.mean
    l1, u1 = test.limits(z)
    l2, u2 = control.limits(z)
    down = hypot(test.mean - l1, scale * (u2 - control.mean))
    up = hypot(u1 - test.mean, scale * (control.mean - l2))
    return d - down, d + up


def p_value(test: Estimate, control: Estimate) -> float:
    """Two-sided p of no difference: the largest at which `difference` still holds zero."""
    low, high = 0.0, _Z_MAX
    for _ in range(40):
        z = (low + high) / 2
        a, b = difference(test, control, z)
        low, high = (low, z) if a <= 0 <= b else (z, high)
    return float(2 * norm.sf(low))


def ratio_set(
    test: Estimate, control: Estimate, z: float
) -> tuple[tuple[float, float | None], ...]:
    """All ratios r >= 0 with zero inside the limits of test - r * control (Fieller 1954).

    Pieces in ascending order; an upper end of None is infinity. Empty when both means are
    far below zero.
    """
    points = sorted(_crossings(test, control, z))
    ends = [0.0, *points, inf]
    pieces: list[tuple[float, float | None]] = []
    for a, b in pairwise(ends):
        inner = (a + b) / 2 if isfinite(b) else 2 * a + 1
        low, high = difference(test, control, z, scale=inner)
        if not low <= 0 <= high:
            continue
        start = pieces.pop()[0] if pieces and pieces[-1][1] == a else a
        pieces.append((start, b if isfinite(b) else None))
    return tuple(pieces)


def _crossings(test: Estimate, control: Estimate, z: float) -> set[float]:
    """Positive r at which a limit of test - r * control is zero (two quadratics)."""
    p1, p2 = test.mean, control.mean
    l1, u1 = test.limits(z)
    l2, u2 = control.limits(z)
    found: set[float] = set()
    for side1, side2 in ((p1 - l1, u2 - p2), (u1 - p1, p2 - l2)):
        if not (isfinite(side1) and isfinite(side2)):
            continue
        a, b, c = p2**2 - side2**2, p1 * p2, p1**2 - side1**2
        root = b * b - a * c
        if root < 0:
            continue
        # Both roots without cancellation, also when a is next to zero.
        q = b + sqrt(root) if b >= 0 else b - sqrt(root)
        found |= {x for x in ((q / a) if a else inf, (c / q) if q else 0.0) if 0 < x < inf}
    return found
