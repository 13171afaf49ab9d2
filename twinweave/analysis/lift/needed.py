"""What would decide it: the epsilon, or the users, at which an effect of a size is found.

From a comparison's own two errors. Sampling variance is as 1 / users. The noise of a count does
not grow with the users, so that its variance in a rate is as 1 / users**2; and at other epsilons
it is as 1 / mu**2, the parameter of Gaussian DP (Dong, Roth, Su 2022), to which a plan holds its
tables but for rounding and the limit on dealt coins. Hence "about".
"""

from __future__ import annotations

from math import sqrt

from scipy.stats import norm

from twinweave.analysis.lift.compare import POWER
from twinweave.analysis.lift.intervals import quantile
from twinweave.analysis.lift.results import Comparison, Needed
from twinweave.privacy import accountant

REACH = 20.0
"""Largest epsilon that is named: beyond, it protects next to nothing."""

_MOST_TIMES = 1000.0
"""Users, over those there are, beyond which a number of users is not named."""


def quantiles(level: float, families: int = 1) -> float:
    """Smallest difference that is found with 80 % power, in standard errors.

    level: of the comparison's interval. families: outcomes whose verdicts are corrected for each
    other: found is what the first step of Holm's finds, the hardest.
    """
    return quantile(1 - (1 - level) / families) + float(norm.ppf(POWER))


def needed(found: Comparison, *, epsilon: float, delta: float, families: int = 1) -> Needed:
    """What would find a true lift of the size that was estimated, as far as that is possible.

    families: see `quantiles`.
    """
    return needed_for(
        found.possible,
        noise=found.noise_sd,
        sampling=found.sampling_error,
        errors=quantiles(found.level, families),
        users=found.test.n + found.control.n,
        epsilon=epsilon,
        delta=delta,
    )


def needed_for(
    difference: float,
    *,
    noise: float,
    sampling: float,
    errors: float,
    users: float,
    epsilon: float,
    delta: float,
) -> Needed:
    """The same for any difference with these standard errors, at this many users and epsilon.

    errors: smallest difference that is found, in standard errors (`quantiles`).
    """
    size = abs(difference)
    allowed = (size / errors) ** 2  # variance at which it is found
    left = allowed - sampling**2
    times = max(users_times(noise=noise, sampling=sampling, error=size / errors), 1.0)
    within = times <= _MOST_TIMES
    return Needed(
        size=size,
        epsilon=_named(noise / sqrt(left), epsilon, delta) if left > 0 else None,
        users=users * times if within else None,
        times=times if within else None,
        sampling_alone=left <= 0,
    )


def users_times(*, noise: float, sampling: float, error: float) -> float:
    """How many times the users bring the standard error from hypot(noise, sampling) to `error`.

    noise**2 / k**2 + sampling**2 / k = error**2, solved for k > 0; infinite for an error of 0.
    """
    target, v = error**2, sampling**2
    if error <= 0 or target == 0:  # also where the square is lost
        return float("inf")
    return (v + sqrt(v * v + 4 * target * noise**2)) / (2 * target)


def epsilon_at(times: float, epsilon: float, delta: float) -> float:
    """Epsilon at which the noise is smaller by this factor, about; larger for one below 1."""
    mu = accountant.gaussian_mu(epsilon, delta) * times
    return accountant.gaussian_epsilon(mu, delta)


def _named(times: float, epsilon: float, delta: float) -> float | None:
    """The same, never below this run's own epsilon; None beyond REACH."""
    found = max(epsilon_at(max(times, 1.0), epsilon, delta), epsilon)
    return found if found <= REACH else None
