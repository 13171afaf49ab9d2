"""What a list of events costs: epsilon at a delta, by two independent accountants.

`epsilon` composes privacy loss distributions (PLD; Koskela et al. 2020) with dp-accounting,
rounded upwards ("connect the dots", Doroshenko et al. 2022, arXiv 2207.04380).
`epsilon_rdp` composes Renyi divergences (Mironov 2017) and shares none of its arithmetic: it
is the cross-check of the tests. Both hold for adaptive composition.

Worst case of one release. A user moves one cell of an integer table by a, 1 <= |a| <= s. Noise
P on the integers is log-concave here (discrete Gaussian, binomial), so its shifts P_a have a
monotone likelihood ratio and "output below t" is the most powerful test of P_0 against every
P_a. Its power grows with a, so the pair (P_0, P_s) has the lowest trade-off curve of all and
dominates them, also under composition (Dong, Roth, Su 2022; Zhu, Dong, Wang 2022). Both noises
are symmetric about their mean, so adding and removing a user cost the same; for Poisson
sampled SGD they do not, and both directions are composed.

Rounding: mass cut from tails is added to delta. Floating point itself is not bounded; its
error in delta is below 1e-12 for what a run composes. Ask for delta >= 1e-10.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.privacy.events import (
    DiscreteGaussian,
    Event,
    Mechanism,
    NonPrivate,
    PoissonSgd,
    SharedBinomial,
)

NAME = "dp-accounting PLD, connect-the-dots, pessimistic"

_TAIL = 1e-20  # mass cut from each end of a single release, and added to delta
_TAIL_SCALES = math.sqrt(2 * math.log(1 / _TAIL))  # standard deviations until _TAIL is reached
_TRUNCATION = 1e-15  # mass cut at each composition, and added to delta
_SQUARING = 128  # compose equal releases by squaring up to so many
_DIRECT_SIGMA = 1000.0  # sum a discrete Gaussian term by term up to this scale
_NO_PRIVACY_MU = 20.0  # a release beyond this (epsilon > 200) counts as not private at all
_ORDERS = np.concatenate(
    [np.linspace(1.05, 12, 100), np.arange(13, 65), np.round(np.geomspace(70, 20_000, 80))]
)
_SGD_MAX_ORDER = 512


def epsilon(events: Iterable[Event], delta: float) -> float:
    """Smallest epsilon (rounded up) such that all `events` together are (epsilon, delta)-DP.

    Unit: a user; adjacency: add or remove one user everywhere. Returns 0 for no events and inf
    where one is NonPrivate or has next to no noise (noise multiplier below 1/20). Raises
    ConfigError unless 0 < delta < 1.
    """
    return epsilon_of_mechanisms((e.mechanism for e in events), delta)


def epsilon_of_mechanisms(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """`epsilon` of bare mechanisms; repeated lists are answered from a cache."""
    _check(delta)
    counts = Counter(mechanisms)
    if not counts:
        return 0.0
    if any(isinstance(m, NonPrivate) or _mu(m) > _NO_PRIVACY_MU for m in counts):
        return math.inf
    return _composed_epsilon(frozenset(counts.items()), delta)


def epsilon_rdp(events: Sequence[Event], delta: float) -> float:
    """As `epsilon`, by Renyi DP: looser, independent. Not for reports.

    Discrete Gaussian: Canonne, Kamath, Steinke 2020, proposition 5. Binomial: the divergence
    summed numerically; mass where it is infinite is moved to delta. Sampled Gaussian: Mironov,
    Talwar, Zhang 2019, through dp-accounting.
    """
    from dp_accounting.rdp import rdp_privacy_accountant as rdp

    _check(delta)
    total, outside = np.zeros_like(_ORDERS), 0.0
    for mechanism, count in Counter(e.mechanism for e in events).items():
        if isinstance(mechanism, NonPrivate):
            return math.inf
        total = total + count * _renyi(mechanism)
        outside += count * _mass_outside(mechanism)
    if not events:
        return 0.0
    if outside >= delta:
        return math.inf
    return float(rdp.compute_epsilon(_ORDERS, total, delta - outside)[0])


def gaussian_delta(mu: float, eps: float) -> float:
    """Delta of the Gaussian mechanism with sensitivity / scale = mu (Balle, Wang 2018, eq. 6)."""
    from scipy.special import log_ndtr, ndtr

    upper = float(ndtr(mu / 2 - eps / mu))
    return max(0.0, upper - math.exp(eps + float(log_ndtr(-mu / 2 - eps / mu))))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of the Gaussian mechanism with sensitivity / scale = mu at `delta`."""
    from scipy.optimize import brentq

    _check(delta)
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    upper = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))
    return float(brentq(lambda e: gaussian_delta(mu, e) - delta, 0.0, upper, xtol=1e-12))


def gaussian_mu(eps: float, delta: float) -> float:
    """The mu at which the Gaussian mechanism is exactly (eps, delta)-DP: its inverse."""
    from scipy.optimize import brentq

    _check(delta)
    low, high = 1e-9, 2 * math.sqrt(2 * eps) + 20.0
    return float(brentq(lambda m: gaussian_delta(m, eps) - delta, low, high, xtol=1e-14))


# --- composition ------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _composed_epsilon(counts: frozenset[tuple[Mechanism, int]], delta: float) -> float:
    interval = _interval(counts)
    total = None
    for mechanism, count in sorted(counts, key=lambda item: _mu(item[0])):
        single = _pld(mechanism, interval)
        part = _repeated(single, count * _steps(mechanism))
        total = part if total is None else total.compose(part, _TRUNCATION)
    assert total is not None
    return max(0.0, float(total.get_epsilon_for_delta(delta)))


def _repeated(single: Any, times: int) -> Any:
    """`single` composed with itself. Squaring is faster for a few, dp-accounting's way for many.

    Squaring multiplies truncated mass, to at most _SQUARING * _TRUNCATION.
    """
    if times > _SQUARING:
        return single.self_compose(times, _TRUNCATION)
    power, result = single, None
    while True:
        if times & 1:
            result = power if result is None else result.compose(power, _TRUNCATION)
        times >>= 1
        if not times:
            return result
        power = power.compose(power, _TRUNCATION)


def _interval(counts: frozenset[tuple[Mechanism, int]]) -> float:
    """Width of the loss grid, a power of two so that neighbouring questions share a cache.

    Connecting the dots adds at most interval**2 / 4 to the variance of each release's loss, so
    this width adds at most .02% to the variance of the composition.
    """
    repeats = sum(n * _steps(m) for m, n in counts)
    mu = math.sqrt(sum(n * _mu(m) ** 2 for m, n in counts))
    width = mu * max(math.sqrt(6e-4 / repeats), 2e-4)
    return float(2.0 ** math.floor(math.log2(min(width, 0.01))))


def _steps(mechanism: Mechanism) -> int:
    return mechanism.steps if isinstance(mechanism, PoissonSgd) else 1


def _mu(mechanism: Mechanism) -> float:
    """Roughly the Gaussian mu of a mechanism; chooses grids, never enters an epsilon."""
    if isinstance(mechanism, DiscreteGaussian):
        return 1 / mechanism.noise_multiplier
    if isinstance(mechanism, SharedBinomial):
        return 2 / math.sqrt(mechanism.coins)
    if isinstance(mechanism, PoissonSgd):
        growth = math.expm1(min(mechanism.noise_multiplier**-2, 50.0))
        clt = mechanism.sampling_rate * math.sqrt(mechanism.steps * growth)
        return min(clt, math.sqrt(mechanism.steps) / mechanism.noise_multiplier)
    raise TypeError(mechanism)


@lru_cache(maxsize=512)
def _pld(mechanism: Mechanism, interval: float) -> Any:
    """Privacy loss distribution of one release (of one step, for SGD)."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    if isinstance(mechanism, PoissonSgd):
        return pld.from_gaussian_mechanism(
            mechanism.noise_multiplier,
            value_discretization_interval=interval,
            sampling_prob=mechanism.sampling_rate,
        )
    if isinstance(mechanism, DiscreteGaussian):
        return _symmetric_pld(*_discrete_gaussian_deltas(mechanism, interval), interval)
    if isinstance(mechanism, SharedBinomial):
        return _symmetric_pld(*_binomial_deltas(mechanism.coins, interval), interval)
    raise TypeError(mechanism)


def _symmetric_pld(lower: int, deltas: NDArray[np.float64], interval: float) -> Any:
    """PLD from delta(epsilon) on the grid interval * (lower, lower + 1, ...)."""
    from dp_accounting.pld import pld_pmf
    from dp_accounting.pld import privacy_loss_distribution as pld

    pmf = pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(
        interval, lower, lower + len(deltas) - 1, np.clip(deltas + 2 * _TAIL, 0.0, 1.0)
    )
    return pld.PrivacyLossDistribution(pmf)


def _grid(largest: float, interval: float) -> tuple[int, NDArray[np.float64]]:
    """Grid that covers losses from -largest to largest."""
    end = math.ceil(largest / interval)
    return -end, np.arange(-end, end + 1, dtype=np.float64) * interval


# --- single releases --------------------------------------------------------------------------


def _discrete_gaussian_deltas(
    mechanism: DiscreteGaussian, interval: float
) -> tuple[int, NDArray[np.float64]]:
    """delta(epsilon) = F(m) - exp(epsilon) F(m - s), m the last point with loss > epsilon.

    Canonne, Kamath, Steinke 2020, theorem 7, with the shift s = sensitivity.
    """
    s = mechanism.sensitivity
    sigma = mechanism.noise_multiplier * s
    reach = _TAIL_SCALES * sigma + 1
    lower, eps = _grid((s * s + 2 * s * reach) / (2 * sigma * sigma), interval)
    last = np.ceil(s / 2 - eps * sigma * sigma / s) - 1
    cdf = _DiscreteGaussianCdf(sigma)
    return lower, cdf(last) - np.exp(eps) * cdf(last - s)


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


def _binomial_deltas(coins: int, interval: float) -> tuple[int, NDArray[np.float64]]:
    """delta(epsilon) of Binomial(coins, 1/2) against itself shifted by 1.

    The loss at x is log((coins - x + 1) / x), exactly; it is infinite at 0, where the mass is
    2**-coins and stays in delta at every epsilon.
    """
    first, mass = _binomial(coins)
    x = first + np.arange(len(mass), dtype=np.float64)
    with np.errstate(divide="ignore"):
        loss = np.log(coins - x + 1) - np.log(x)
    below = np.concatenate([[0.0], np.cumsum(mass)])  # Pr[X < x], then Pr[X <= last]
    finite = loss[np.isfinite(loss)]
    lower, eps = _grid(float(np.max(np.abs(finite))), interval)
    count = np.searchsorted(-loss, -eps, side="left")  # points with loss > epsilon
    shifted = below[np.maximum(count - 1, 0)]
    return lower, below[count] - np.exp(eps) * shifted


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


# --- Renyi ------------------------------------------------------------------------------------


def _renyi(mechanism: Mechanism) -> NDArray[np.float64]:
    """Renyi divergence at each of _ORDERS (all steps, for SGD)."""
    if isinstance(mechanism, DiscreteGaussian):
        gaussian: NDArray[np.float64] = _ORDERS / (2 * mechanism.noise_multiplier**2)
        return gaussian
    if isinstance(mechanism, SharedBinomial):
        return _renyi_binomial(mechanism.coins)
    if isinstance(mechanism, PoissonSgd):
        return _renyi_sgd(mechanism)
    raise TypeError(mechanism)


def _mass_outside(mechanism: Mechanism) -> float:
    """Mass that the Renyi divergence leaves out, and delta must bear."""
    if isinstance(mechanism, SharedBinomial):
        return 2 * _TAIL + 0.5**mechanism.coins
    return 0.0


@lru_cache(maxsize=128)
def _renyi_binomial(coins: int) -> NDArray[np.float64]:
    from scipy.special import logsumexp

    first, mass = _binomial(coins)
    x = first + np.arange(len(mass), dtype=np.float64)
    keep = x > 0
    log_p = np.log(mass[keep])
    loss = np.log((coins - x[keep] + 1) / x[keep])
    moments = [logsumexp(log_p + (order - 1) * loss) for order in _ORDERS]
    divergence: NDArray[np.float64] = np.maximum(moments, 0.0) / (_ORDERS - 1)
    return divergence


@lru_cache(maxsize=128)
def _renyi_sgd(mechanism: PoissonSgd) -> NDArray[np.float64]:
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    usable = _ORDERS <= _SGD_MAX_ORDER  # its series does not converge far beyond
    accountant = RdpAccountant(orders=_ORDERS[usable].tolist())
    step = dp_accounting.PoissonSampledDpEvent(
        mechanism.sampling_rate, dp_accounting.GaussianDpEvent(mechanism.noise_multiplier)
    )
    accountant.compose(step, mechanism.steps)
    divergence: NDArray[np.float64] = np.full(_ORDERS.shape, np.inf)
    divergence[usable] = accountant._rdp
    return divergence


def _check(delta: float) -> None:
    if not 0 < delta < 1:
        raise ConfigError("privacy.delta", "not between 0 and 1", "Give e.g. 1e-5.")
