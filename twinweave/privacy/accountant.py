"""What a list of events costs: epsilon at a delta.

`epsilon` composes privacy loss distributions (PLD; Koskela et al. 2020) with dp-accounting,
rounded upwards ("connect the dots", Doroshenko et al. 2022, arXiv 2207.04380). It holds where a
table is chosen in view of earlier results, as long as each release's worst pair of distributions
was fixed before (Zhu, Dong, Wang 2022). Where noise itself is chosen in view of
results it does not hold in general: stopping when the composition reaches epsilon at one delta
is no privacy filter (Rogers et al. 2016). So a run that chooses tables fixes one Gaussian for
all of them before anything is released, and `dominated` says whether what was chosen shows no
more than it, at any epsilon. Each mechanism's own distribution is that of losses.py. The tests
cross-check it against Renyi divergences (Mironov 2017), which share none of its arithmetic.

Rounding: mass cut from tails is added to delta. Floating point itself is not bounded; its
error in delta is below 1e-12 for what a run composes, so that a delta below 1e-10 is refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from twinweave.errors import ConfigError
from twinweave.privacy.events import DiscreteGaussian, Event, Mechanism, SharedBinomial
from twinweave.privacy.losses import DiscreteGaussianLoss, loss_of

TableNoise = DiscreteGaussian | SharedBinomial
NAME = "dp-accounting PLD, connect-the-dots, pessimistic"

LEAST_DELTA = 1e-10
"""Below, an error of the arithmetic would count."""

_TRUNCATION = 1e-15  # mass cut at each composition, and added to delta
_SQUARING = 128  # compose equal releases by squaring up to so many
_RESOLVED = 1e-12  # of a delta
_BETWEEN = 4  # points at which deltas are compared, for each of the loss grid
_NO_PRIVACY_MU = 20.0  # a release beyond this (epsilon > 200) counts as not private at all


def check_delta(delta: float, field: str = "privacy.delta") -> None:
    """Raise ConfigError where a delta is none, or below what the accountant resolves."""
    if not LEAST_DELTA <= delta < 1:
        raise ConfigError(
            field,
            f"not in [{LEAST_DELTA:g}, 1): the accountant resolves nothing smaller",
            "Give e.g. 1e-5, or 1e-9 for a billion people.",
        )


def epsilon(events: Iterable[Event], delta: float) -> float:
    """Smallest epsilon (rounded up) such that all `events` together are (epsilon, delta)-DP.

    Unit: a user; adjacency: add or remove one user everywhere. Returns 0 for no events and inf
    where one is NonPrivate or has next to no noise (noise multiplier below 1/20). Raises
    ConfigError unless LEAST_DELTA <= delta < 1.
    """
    return epsilon_of_mechanisms((e.mechanism for e in events), delta)


def delta_of_mechanisms(mechanisms: Iterable[Mechanism], epsilon: float) -> float:
    """Smallest delta (rounded up) such that all of them together are (epsilon, delta)-DP.

    At epsilon 0 it is the total variation: how well one user's presence can be guessed at most.
    """
    counts = Counter(mechanisms)
    if not counts:
        return 0.0
    if any(loss_of(m).mu > _NO_PRIVACY_MU for m in counts):
        return 1.0
    found = frozenset(counts.items())
    return float(_composed(found, _interval(found)).get_delta_for_epsilon(epsilon))


def epsilon_of_mechanisms(
    mechanisms: Iterable[Mechanism], delta: float, *, coarse: int = 1
) -> float:
    """`epsilon` of bare mechanisms; repeated lists are answered from a cache.

    coarse: factor on the width of the loss grid, a power of two. 16 takes a tenth of the time
    and rounds upwards by less than 1%: for searches, never for what is reported.
    """
    check_delta(delta)
    counts = Counter(mechanisms)
    if not counts:
        return 0.0
    if any(loss_of(m).mu > _NO_PRIVACY_MU for m in counts):
        return math.inf
    return _composed_epsilon(frozenset(counts.items()), delta, coarse)


def gaussian_delta(mu: float, eps: float) -> float:
    """Delta of the Gaussian mechanism with sensitivity / scale = mu (Balle, Wang 2018, eq. 6)."""
    from scipy.special import log_ndtr, ndtr

    upper = float(ndtr(mu / 2 - eps / mu))
    return max(0.0, upper - math.exp(eps + float(log_ndtr(-mu / 2 - eps / mu))))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of the Gaussian mechanism with sensitivity / scale = mu at `delta`."""
    from scipy.optimize import brentq

    check_delta(delta)
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    upper = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta))
    return float(brentq(lambda e: gaussian_delta(mu, e) - delta, 0.0, upper, xtol=1e-12))


def gaussian_mu(eps: float, delta: float) -> float:
    """The mu at which the Gaussian mechanism is exactly (eps, delta)-DP: its inverse."""
    from scipy.optimize import brentq

    check_delta(delta)
    low, high = 1e-9, 2 * math.sqrt(2 * eps) + 20.0
    return float(brentq(lambda m: gaussian_delta(m, eps) - delta, low, high, xtol=1e-14))


def dominated(mechanisms: Iterable[TableNoise], by: DiscreteGaussian) -> bool:
    """Whether these together show no more of a user than the one mechanism `by` would.

    Their delta is at most its delta, plus 1e-12, at every epsilon: so `by` may stand for them in
    any composition, whatever they were chosen for. Both directions are alike for such noise.
    """
    counts = frozenset(Counter[Mechanism](mechanisms).items())
    if not counts:
        return True
    total_mu = math.sqrt(sum(n * loss_of(m).mu ** 2 for m, n in counts))
    if total_mu > min(_NO_PRIVACY_MU, 1.05 / by.noise_multiplier):
        return False
    interval = _interval(counts)
    total = _composed(counts, interval)
    if total.get_delta_for_epsilon(math.inf) > _RESOLVED:
        return False
    end = max(total_mu, 2 * interval)
    while total.get_delta_for_epsilon(end) > _RESOLVED:
        end *= 1.5
    # Both fall with epsilon: above it up to the next point where it is at the point itself.
    eps = np.arange(0.0, end, interval / _BETWEEN)
    shown = np.asarray(total.get_delta_for_epsilon(eps))
    return bool(np.all(shown[:-1] <= DiscreteGaussianLoss(mechanism=by).delta(eps[1:]) + _RESOLVED))


# --- composition ------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _composed_epsilon(counts: frozenset[tuple[Mechanism, int]], delta: float, coarse: int) -> float:
    total = _composed(counts, _interval(counts) * coarse)
    return max(0.0, float(total.get_epsilon_for_delta(delta)))


def _composed(counts: frozenset[tuple[Mechanism, int]], interval: float) -> Any:
    """Privacy loss distribution of everything.

    Tables and training each by themselves: while the noise of one is searched for, the other
    stays as it is, and is answered from a cache.
    """
    training = frozenset(item for item in counts if loss_of(item[0]).steps > 1)
    first, *second = [part for part in (counts - training, training) if part]
    total = _together(first, interval)
    return total.compose(_together(second[0], interval), _TRUNCATION) if second else total


@lru_cache(maxsize=64)
def _together(counts: frozenset[tuple[Mechanism, int]], interval: float) -> Any:
    """Privacy loss distribution of one or more, from the least to the largest."""
    total = None
    for mechanism, count in sorted(counts, key=lambda item: loss_of(item[0]).mu):
        part = _repeated(_pld(mechanism, interval), count * loss_of(mechanism).steps)
        total = part if total is None else total.compose(part, _TRUNCATION)
    return total


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
    this width adds at most .02% to the variance of the composition; a wider one, where `finest`
    says so, that much to epsilon.
    """
    repeats = sum(n * loss_of(m).steps for m, n in counts)
    mu = math.sqrt(sum(n * loss_of(m).mu ** 2 for m, n in counts))
    width = mu * max(math.sqrt(6e-4 / repeats), 2e-4)
    finest = max(loss_of(m).finest for m, _ in counts)
    if finest > width:
        return float(2.0 ** math.ceil(math.log2(finest)))
    return float(2.0 ** math.floor(math.log2(min(width, 0.01))))


@lru_cache(maxsize=512)
def _pld(mechanism: Mechanism, interval: float) -> Any:
    """Privacy loss distribution of one release (of one step, for SGD)."""
    return loss_of(mechanism).pld(interval)
