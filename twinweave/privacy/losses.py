"""The privacy loss of each mechanism: one class a kind, and the table that finds it.

Worst case of one release. A user moves one cell of an integer table by a, 1 <= |a| <= s. Noise
P on the integers is log-concave here (discrete Gaussian, binomial), so its shifts P_a have a
monotone likelihood ratio and "output below t" is the most powerful test of P_0 against every
P_a. Its power grows with a, so the pair (P_0, P_s) has the lowest trade-off curve of all and
dominates them, also under composition (Dong, Roth, Su 2022; Zhu, Dong, Wang 2022). Both noises
are symmetric about their mean, so adding and removing a user cost the same; for Poisson
sampled SGD they do not, and both directions are composed. Where a binomial shifted by s has no
mass, at its s lowest points, the loss is infinite; that mass stays in delta at every epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.privacy.events import (
    DiscreteGaussian,
    Mechanism,
    NonPrivate,
    PoissonSgd,
    SharedBinomial,
)

_TAIL = 1e-20  # mass cut from each end of a single release, and added to delta
_TAIL_SCALES = math.sqrt(2 * math.log(1 / _TAIL))  # standard deviations until _TAIL is reached
_POINTS = 1 << 16  # of a loss grid, at most, where a user is sampled
_DIRECT_SIGMA = 1000.0  # sum a discrete Gaussian term by term up to this scale


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussianLoss:
    mechanism: DiscreteGaussian
    steps: int = 1
    finest: float = 0.0

    @property
    def mu(self) -> float:
        return 1 / self.mechanism.noise_multiplier

    def pld(self, interval: float) -> Any:
        """delta(epsilon) = F(m) - exp(epsilon) F(m - s), m the last point with loss > epsilon.

        Canonne, Kamath, Steinke 2020, theorem 7, with the shift s = sensitivity.
        """
        s = self.mechanism.sensitivity
        sigma = self.mechanism.noise_multiplier * s
        reach = _TAIL_SCALES * sigma + 1
        lower, eps = _grid((s * s + 2 * s * reach) / (2 * sigma * sigma), interval)
        return _symmetric_pld(lower, self.delta(eps), interval)

    def delta(self, eps: NDArray[np.float64]) -> NDArray[np.float64]:
        """delta(epsilon) at each epsilon, exactly."""
        s = self.mechanism.sensitivity
        sigma = self.mechanism.noise_multiplier * s
        last = np.ceil(s / 2 - eps * sigma * sigma / s) - 1
        cdf = _DiscreteGaussianCdf(sigma)
        return cdf(last) - np.exp(eps) * cdf(last - s)


@dataclass(frozen=True, kw_only=True)
class SharedBinomialLoss:
    mechanism: SharedBinomial
    steps: int = 1
    finest: float = 0.0

    @property
    def mu(self) -> float:
        return 2 * self.mechanism.sensitivity / math.sqrt(self.mechanism.coins)

    def pld(self, interval: float) -> Any:
        """Of Binomial(coins, 1/2) against itself shifted by s = sensitivity.

        The loss at x is the logarithm of the masses' ratio, the sum of log((coins - y + 1) / y)
        over y = x, ..., x - s + 1, exactly. It falls with x, and is infinite below s: at 0 alone,
        for s = 1, where the mass is 2**-coins.
        """
        coins, s = self.mechanism.coins, self.mechanism.sensitivity
        first, mass = _binomial(coins)
        y = first - s + 1 + np.arange(len(mass) + s - 1, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            step = np.where(y > 0, np.log1p((coins + 1 - 2 * y) / np.maximum(y, 1)), np.inf)
        loss = np.lib.stride_tricks.sliding_window_view(step, s).sum(axis=1)
        below = np.concatenate([[0.0], np.cumsum(mass)])  # Pr[X < x], then Pr[X <= last]
        finite = loss[np.isfinite(loss)]
        lower, eps = _grid(float(np.max(np.abs(finite), initial=0.0)), interval)
        count = np.searchsorted(-loss, -eps, side="left")  # points with loss > epsilon
        shifted = below[np.maximum(count - s, 0)]
        return _symmetric_pld(lower, below[count] - np.exp(eps) * shifted, interval)


@dataclass(frozen=True, kw_only=True)
class PoissonSgdLoss:
    mechanism: PoissonSgd

    @property
    def steps(self) -> int:
        return self.mechanism.steps

    @property
    def mu(self) -> float:
        """Bu et al. 2020, corollary 3; no more than without sampling."""
        m = self.mechanism
        growth = math.expm1(min(m.noise_multiplier**-2, 50.0))
        sampled = m.sampling_rate * math.sqrt(m.steps * growth)
        return min(sampled, math.sqrt(m.steps) / m.noise_multiplier)

    @property
    def finest(self) -> float:
        """A rare user's loss can be thousands of times its mean: few points would be near it."""
        least, most = self._range
        return (most - least) / _POINTS

    @property
    def _range(self) -> tuple[float, float]:
        """Least and largest loss, of an outcome with a user more against one without."""
        q, s = self.mechanism.sampling_rate, self.mechanism.noise_multiplier
        end = min((2 * _TAIL_SCALES * s + 1) / (2 * s * s), 700.0)
        return math.log1p(q * math.expm1(-end)) if q < 1 else -end, math.log1p(q * math.expm1(end))

    def pld(self, interval: float) -> Any:
        """Of (1-q) N(0, s^2) + q N(1, s^2) against N(0, s^2), and the other way round.

        The loss log(1 - q + q exp((2x - 1) / 2s^2)) grows with x, so delta(epsilon) is a
        difference of two tails at one threshold (Zhu, Dong, Wang 2022).
        """
        from dp_accounting.pld import privacy_loss_distribution as pld
        from scipy.special import ndtr

        q, s = self.mechanism.sampling_rate, self.mechanism.noise_multiplier
        least, most = self._range

        def tails(eps: NDArray[np.float64], side: int) -> NDArray[np.float64]:
            """side 1: a user more in the first distribution; -1: in the second."""
            with np.errstate(divide="ignore", invalid="ignore"):
                x = s * s * np.log((np.exp(side * eps) - (1 - q)) / q) + 0.5
            beyond = np.exp(side * eps) <= 1 - q  # every loss is above, or none
            near = ndtr(-side * (x - 1) / s)
            far = ndtr(-side * x / s)
            if side == 1:
                found = q * near - (np.expm1(eps) + q) * far
                return np.where(beyond, -np.expm1(eps), found)
            found = (-np.expm1(eps) + q * np.exp(eps)) * far - q * np.exp(eps) * near
            return np.where(beyond, 0.0, found)

        low, high = math.floor(least / interval), math.ceil(most / interval)
        there = np.arange(low, high + 1, dtype=np.float64) * interval
        back = np.arange(-high, -low + 1, dtype=np.float64) * interval
        return pld.PrivacyLossDistribution(
            _dots(low, tails(there, 1), interval), _dots(-high, tails(back, -1), interval)
        )


@dataclass(frozen=True, kw_only=True)
class NoGuarantee:
    mechanism: NonPrivate
    steps: int = 1
    finest: float = 0.0
    mu: float = math.inf

    def pld(self, interval: float) -> Any:  # noqa: ARG002
        raise ValueError("a release without guarantee has no privacy loss distribution")


Loss = DiscreteGaussianLoss | SharedBinomialLoss | PoissonSgdLoss | NoGuarantee
"""What a mechanism can show of a user.

steps: equal releases that it is composed of. mu: roughly its Gaussian mu, of all steps; chooses
grids, never enters an epsilon. finest: the grid below which more points buy nothing. pld: privacy
loss distribution of one step, rounded upwards to multiples of `interval`.
"""

_LOSSES: dict[type[Mechanism], Callable[..., Loss]] = {
    DiscreteGaussian: DiscreteGaussianLoss,
    SharedBinomial: SharedBinomialLoss,
    PoissonSgd: PoissonSgdLoss,
    NonPrivate: NoGuarantee,
}


def loss_of(mechanism: Mechanism) -> Loss:
    """The loss of a mechanism, by its kind."""
    return _LOSSES[type(mechanism)](mechanism=mechanism)


def _symmetric_pld(lower: int, deltas: NDArray[np.float64], interval: float) -> Any:
    """PLD from delta(epsilon) on the grid interval * (lower, lower + 1, ...)."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    return pld.PrivacyLossDistribution(_dots(lower, deltas, interval))


def _dots(lower: int, deltas: NDArray[np.float64], interval: float) -> Any:
    """Loss masses that connect the dots of delta(epsilon) on that grid, from above.

    Doroshenko et al. 2022, algorithm 1; dp-accounting's own goes through a dict of the masses.
    """
    from dp_accounting.pld import pld_pmf

    deltas = np.minimum.accumulate(np.clip(deltas + 2 * _TAIL, 0.0, 1.0))
    steps, growth = np.diff(deltas), math.expm1(interval)
    first = 1 - deltas[0] + steps[0] / growth
    middle = (steps[1:] - steps[:-1] * math.exp(interval)) / growth
    last = steps[-1] / math.expm1(-interval)
    masses = np.maximum(0.0, np.concatenate([[first], middle, [last]]))
    return pld_pmf.DensePLDPmf(interval, lower, masses, float(deltas[-1]), True)


def _grid(largest: float, interval: float) -> tuple[int, NDArray[np.float64]]:
    """Grid that covers losses from -largest to largest; of one coin they are 0 or infinite."""
    end = max(1, math.ceil(largest / interval))
    return -end, np.arange(-end, end + 1, dtype=np.float64) * interval


class _DiscreteGaussianCdf:
    """Pr[X <= k] for whole k; the tails below _TAIL count as 0 and 1.

    Up to scale 1000 a plain sum. Beyond, the Euler-Maclaurin formula at k + 1/2 with two
    corrections, whose next term is below 1e-20; the normaliser is sigma * sqrt(2 pi) to within
    exp(-2 pi**2 sigma**2) (Poisson summation).
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma
        if sigma > _DIRECT_SIGMA:
            return
        self.reach = math.ceil(_TAIL_SCALES * sigma) + 1
        x = np.arange(-self.reach, self.reach + 1, dtype=np.float64)
        weights = np.exp(-0.5 * (x / sigma) ** 2)
        sums = np.concatenate([[0.0], np.cumsum(weights)])
        self.table: NDArray[np.float64] = sums / sums[-1]

    def __call__(self, k: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.sigma <= _DIRECT_SIGMA:
            rows = np.clip(k + self.reach + 1, 0, len(self.table) - 1).astype(np.int64)
            return self.table[rows]
        from scipy.special import ndtr

        z = (k + 0.5) / self.sigma
        density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        first = z * density / (24 * self.sigma**2)
        second = (z**3 - 3 * z) * density * 7 / (5760 * self.sigma**4)
        return np.asarray(ndtr(z) + first - second, dtype=np.float64)


def _binomial(coins: int) -> tuple[int, NDArray[np.float64]]:
    """(first, mass) of Binomial(coins, 1/2) up to tails below _TAIL (Hoeffding).

    Built from the mode by exact ratios and normalised, so that no log-gamma of a large number
    loses digits.
    """
    reach = math.ceil(_TAIL_SCALES * math.sqrt(coins) / 2) + 1
    mode = coins // 2
    first, last = max(0, mode - reach), min(coins, mode + reach)
    up = np.arange(mode + 1, last + 1, dtype=np.float64)
    right = np.exp(np.cumsum(np.log((coins - up + 1) / up)))
    down = np.arange(mode, first, -1, dtype=np.float64)
    left = np.exp(np.cumsum(np.log(down / (coins - down + 1))))
    mass = np.concatenate([left[::-1], [1.0], right])
    normalised: NDArray[np.float64] = mass / mass.sum()
    return first, normalised
