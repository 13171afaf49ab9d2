"""Instruments: from guesses about canaries to a lower bound of epsilon. Pure arithmetic.

Each canary was put in or left out by a fair coin of its own, and an observer of all that was
released guesses which. What the instruments take for granted:

- `gaussian`: canaries are independent, and the mechanism is mu-GDP for some mu (Dong, Roth, Su
  2022). An observer of one such canary guesses right with probability Phi(mu / 2) at most, so the
  exact binomial bound on that probability (Clopper, Pearson 1934) gives one on mu, and mu gives
  epsilon at delta. After Nasr et al. 2023, "Tight auditing of differentially private machine
  learning", section 5. Differs: one probability and one bound, where they have two error rates
  with one each, which takes a third of the canaries. Differs too: little noise on whole numbers
  (an epsilon of 3 and more) is easier to see through than Gaussian noise of the same epsilon, and
  a program that keeps its promise would be accused. So what is seen is told in units of what the
  claimed noise shows, (1 + TV) / 2 by the accountant, which stands for the claimed epsilon.
- `sampled`: canaries are independent, and the mechanism is Poisson-sampled DP-SGD of the steps and
  rate that are claimed, with some noise. Its best observer guesses right with probability
  (1 + TV) / 2, TV the total variation by the accountant. Few steps at a small rate are far from
  any Gaussian mechanism: epsilon at a small delta stands on seldom outcomes, and `gaussian` would
  prove a fraction of it.
  Of both: that the claim is exceeded takes nothing but independence for granted.
- `one_run`: nothing but (epsilon, delta)-DP; canaries may depend on each other (Steinke, Nasr,
  Jagielski 2023, "Privacy auditing with one (1) training run", theorem 5.2 and appendix D).
- `rates`: nothing but (epsilon, delta)-DP; independent trials with the canary and without it
  (Jagielski, Ullman, Oprea 2020, "Auditing differentially private machine learning").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from twinweave.privacy import accountant
from twinweave.privacy.events import Mechanism, PoissonSgd

_MOST = 64.0
"""Of a bound: beyond, a mechanism is no mechanism at all."""
_LEAST = 0.1
"""Noise multiplier below which sampling alone is left to guess by."""


def at_least(successes: int, trials: int, confidence: float) -> float:
    """Lower bound of a probability (Clopper, Pearson 1934), one-sided."""
    from scipy.special import betaincinv

    if successes <= 0:
        return 0.0
    return float(betaincinv(successes, trials - successes + 1, 1 - confidence))


def gaussian(
    correct: int,
    canaries: int,
    *,
    delta: float,
    confidence: float,
    claimed: Sequence[Mechanism] = (),
) -> float:
    """Epsilon, at delta, of the least private Gaussian mechanism that is sure to be beaten.

    claimed: the noise of tables in whose units that is told; () for Gaussian noise itself.
    """
    from scipy.special import ndtri

    accuracy = at_least(correct, canaries, confidence)
    if accuracy <= 0.5:
        return 0.0
    mu = float(2 * ndtri(accuracy)) * _unit(tuple(claimed), delta)
    return min(_MOST, accountant.gaussian_epsilon(mu, delta))


@lru_cache(maxsize=64)
def _unit(claimed: tuple[Mechanism, ...], delta: float) -> float:
    """The mu of the Gaussian mechanism with the epsilon that is claimed, over that of the one that
    is as easy to see through."""
    from scipy.special import ndtri

    seen = accountant.delta_of_mechanisms(claimed, 0.0)
    epsilon = accountant.epsilon_of_mechanisms(claimed, delta)
    if not 0 < seen < 1 or not 0 < epsilon < math.inf:
        return 1.0
    return accountant.gaussian_mu(epsilon, delta) / float(2 * ndtri((1 + seen) / 2))


def sampled(
    correct: int, canaries: int, claimed: PoissonSgd, *, delta: float, confidence: float
) -> float:
    """Epsilon, at delta, of the same steps with the most noise that is sure to be beaten."""
    from scipy.optimize import brentq

    seen = 2 * at_least(correct, canaries, confidence) - 1
    if seen <= 0:
        return 0.0

    def beaten(log_factor: float) -> float:
        """How much better one guesses at so many times the noise than was seen."""
        return accountant.delta_of_mechanisms([_scaled(claimed, log_factor)], 0.0) - seen

    low, high = math.log(_LEAST / claimed.noise_multiplier), 1.0
    if beaten(low) <= 0:
        return _MOST
    while beaten(high) > 0:
        high += 1.0
    factor = float(brentq(beaten, low, high, xtol=1e-3))
    return min(_MOST, accountant.epsilon_of_mechanisms([_scaled(claimed, factor)], delta))


def _scaled(claimed: PoissonSgd, log_factor: float) -> PoissonSgd:
    noise = float(f"{claimed.noise_multiplier * math.exp(log_factor):.6g}")
    return replace(claimed, noise_multiplier=noise)


def one_run(correct: int, guesses: int, canaries: int, *, delta: float, confidence: float) -> float:
    """Epsilon of one run in which `guesses` of all canaries were guessed, so many right."""
    return _largest(
        lambda e: _one_run_chance(correct, guesses, canaries, e, delta) < 1 - confidence
    )


def _one_run_chance(
    correct: int, guesses: int, canaries: int, epsilon: float, delta: float
) -> float:
    """Chance of so many right guesses or more, under (epsilon, delta)-DP, at most."""
    from scipy.stats import binom

    right = 1 / (1 + math.exp(-epsilon))
    chance = float(binom.sf(correct - 1, guesses, right))
    fewer = np.arange(1, correct + 1)
    near = np.cumsum(binom.pmf(correct - fewer, guesses, right))
    return chance + 2 * canaries * delta * float(np.max(near / fewer, initial=0.0))


def rates(
    with_canary: tuple[int, int],
    without: tuple[int, int],
    *,
    delta: float,
    confidence: float,
) -> float:
    """Epsilon where something was seen so often, of so many trials with a canary and of so many
    without: (seen, trials) each. Both bounds hold together."""
    each = 1 - (1 - confidence) / 2
    hit = at_least(*with_canary, each)
    seen, trials = without
    false = 1 - at_least(trials - seen, trials, each)
    return min(_MOST, max(0.0, math.log((hit - delta) / false))) if hit > delta else 0.0


def _largest(refuted: Callable[[float], bool]) -> float:
    """The largest epsilon that is refuted, to within 1e-4; 0 where none is."""
    low, high = 0.0, 1.0
    if not refuted(low):
        return 0.0
    while refuted(high) and high < _MOST:
        low, high = high, 2 * high
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low
