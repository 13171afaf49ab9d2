"""What would find more: the epsilon at these users, and the users at this epsilon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log, sqrt

from twinweave.analysis.lift.design import Foreseen
from twinweave.analysis.lift.needed import REACH, epsilon_at
from twinweave.errors import BudgetError

HALF = 0.5
"""Noise over sampling error that is aimed at: intervals are then 12 % wider for the noise."""

LEAST = 0.02
"""Smallest epsilon that is tried; REACH is the largest."""

_STEP = 1.02

At = Callable[[float], Sequence[Foreseen]]
"""What is foreseen at an epsilon, outcomes in an order of their own."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What can be found of an outcome, and what would find more.

    epsilon_for_half: at which the noise is half of the sampling error, and users_for_half: rows of
        the membership's party at which it is, at this epsilon.
    lift: to be found with 80 % power, and epsilon_for_lift, users_for_lift. None without one.
    An epsilon is None where none up to REACH will do, and both where nothing was stated of the
    outcome's spread.
    """

    found: Foreseen
    epsilon_for_half: float | None
    users_for_half: float | None
    lift: float | None
    epsilon_for_lift: float | None
    users_for_lift: float | None


def outlook(
    index: int, now: Foreseen, at: At, *, lift: float | None, rows: int, budget: tuple[float, float]
) -> Outlook:
    """index: the place of `now` among all that is foreseen. rows: of the membership's party.
    budget: the epsilon and delta of `now`."""
    epsilon_half, epsilon_lift, times_half, times_lift = None, None, None, None
    if now.noise_ratio is not None:
        times_half = now.times_for_ratio(HALF)
        near = epsilon_at(now.noise_ratio / HALF, *budget)
        epsilon_half = least_epsilon(lambda e: (at(e)[index].noise_ratio or 0.0) <= HALF, near)
    if lift is not None and now.sampling_error is not None:
        times_lift = now.times_for_lift(lift)
        left = (lift / now.quantiles) ** 2 - now.sampling_error**2
        if left > 0:
            near = epsilon_at(now.noise_sd / sqrt(left), *budget)
            epsilon_lift = least_epsilon(lambda e: at(e)[index].smallest <= abs(lift), near)
    return Outlook(
        found=now,
        epsilon_for_half=epsilon_half,
        users_for_half=None if times_half is None else rows * times_half,
        lift=lift,
        epsilon_for_lift=epsilon_lift,
        users_for_lift=None if times_lift is None else rows * times_lift,
    )


def least_epsilon(enough: Callable[[float], bool], near: float) -> float | None:
    """Least epsilon between LEAST and REACH that is enough, to 2 %; None where none is.

    From `near` in steps that double to where it is enough on one side and not on the other, then
    by bisection. It is one of a grid that is the same at every call, so that each plan is made
    once. Where no plan can be made at an epsilon, it is not enough.
    """
    first, last = ceil(log(LEAST) / log(_STEP)), floor(log(REACH) / log(_STEP))
    start = min(max(round(log(near) / log(_STEP)), first), last)

    def reaches(step: int) -> bool:
        try:
            return enough(_epsilon(step))
        except BudgetError:
            return False

    low, high, width = start, start, 1
    if reaches(start):
        low = start - width
        while low >= first and reaches(low):
            high, width = low, 2 * width
            low = max(low - width, first) if low > first else first - 1
    else:
        high = start + width
        while high <= last and not reaches(high):
            low, width = high, 2 * width
            high = min(high + width, last) if high < last else last + 1
        if high > last:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return _epsilon(high)


def _epsilon(step: int) -> float:
    return float(f"{_STEP**step:.3g}")
