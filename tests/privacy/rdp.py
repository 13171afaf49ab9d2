"""A second accountant, by Renyi divergences (Mironov 2017): looser, and independent.

Discrete Gaussian: Canonne, Kamath, Steinke 2020, proposition 5. Binomial: the divergence summed
numerically; mass where it is infinite is moved to delta. Sampled Gaussian: Mironov, Talwar,
Zhang 2019, through dp-accounting.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import dp_accounting
import numpy as np
from dp_accounting.rdp import RdpAccountant, compute_epsilon
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import binom

from twinweave.privacy.events import (
    DiscreteGaussian,
    Event,
    Mechanism,
    NonPrivate,
    PoissonSgd,
    SharedBinomial,
)

_ORDERS = np.concatenate(
    [np.linspace(1.05, 12, 100), np.arange(13, 65), np.round(np.geomspace(70, 20_000, 80))]
)
_SGD_MAX_ORDER = 512


def epsilon_rdp(events: Sequence[Event], delta: float) -> float:
    """Epsilon of all events together at `delta`, an upper bound."""
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
    return float(compute_epsilon(_ORDERS, total, delta - outside)[0])


def _renyi(mechanism: Mechanism) -> NDArray[np.float64]:
    """Renyi divergence at each of _ORDERS (all steps, for SGD)."""
    if isinstance(mechanism, DiscreteGaussian):
        gaussian: NDArray[np.float64] = _ORDERS / (2 * mechanism.noise_multiplier**2)
        return gaussian
    if isinstance(mechanism, SharedBinomial):
        return _renyi_binomial(mechanism.coins, mechanism.sensitivity)
    if isinstance(mechanism, PoissonSgd):
        return _renyi_sgd(mechanism)
    raise TypeError(mechanism)


def _mass_outside(mechanism: Mechanism) -> float:
    """Mass that the Renyi divergence leaves out, and delta must bear."""
    if isinstance(mechanism, SharedBinomial):
        return float(binom.cdf(mechanism.sensitivity - 1, mechanism.coins, 0.5))
    return 0.0


@lru_cache(maxsize=128)
def _renyi_binomial(coins: int, shift: int) -> NDArray[np.float64]:
    x = np.arange(shift, coins + 1)
    log_p = binom.logpmf(x, coins, 0.5)
    loss = log_p - binom.logpmf(x - shift, coins, 0.5)
    moments = [logsumexp(log_p + (order - 1) * loss) for order in _ORDERS]
    divergence: NDArray[np.float64] = np.maximum(moments, 0.0) / (_ORDERS - 1)
    return divergence


@lru_cache(maxsize=128)
def _renyi_sgd(mechanism: PoissonSgd) -> NDArray[np.float64]:
    usable = _ORDERS <= _SGD_MAX_ORDER  # its series does not converge far beyond
    accountant = RdpAccountant(orders=_ORDERS[usable].tolist())
    step = dp_accounting.PoissonSampledDpEvent(
        mechanism.sampling_rate, dp_accounting.GaussianDpEvent(mechanism.noise_multiplier)
    )
    accountant.compose(step, mechanism.steps)
    divergence: NDArray[np.float64] = np.full(_ORDERS.shape, np.inf)
    divergence[usable] = accountant._rdp
    return divergence
