"""Lift of a clipped value column: mean per user in its own unit, from two noisy moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from twinweave.analysis.finding import Interval
from twinweave.analysis.lift.arms import Floats
from twinweave.analysis.lift.breakdown import shown
from twinweave.analysis.lift.compare import compare
from twinweave.analysis.lift.estimate import CONTROL, TEST, Counts, estimate_sum
from twinweave.analysis.lift.intervals import Mean, Rate
from twinweave.analysis.lift.results import Comparison, ValueLift
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement

_VANISHES = 22
"""Largest amount whose square, in units of VALUE_UNITS, rounds to nothing."""

AT_BOUND = 0.8
"""Mean amount over the upper bound, weighted by amount, that is surely exceeded where nearly all
lie at the bound: uniform amounts have two thirds."""

_CLEAR = 0.2
"""Standard error of that mean beyond which noise alone may lift it above AT_BOUND."""


def value_lift(
    schema: JointSchema,
    conf: LiftConf,
    measurements: Sequence[Measurement],
    counts: Counts,
    column: str,
) -> ValueLift | None:
    """Compare the arms' mean value over all users; a user whom its party does not hold has 0.

    None when no table sums the column by membership, or when its bounds do not begin at 0 and no
    table tells how many of an arm's users its party holds.
    """
    low, high = schema.column(column).span
    party = holder(schema, conf, column)
    told = party is None or party in counts.holders
    first = estimate_sum(schema, conf, measurements, column, 1)
    if first is None or not (told or low == 0):
        return None
    second = estimate_sum(schema, conf, measurements, column, 2)
    unit = (high - low) / VALUE_UNITS
    everyone, matched, measured = {}, {}, True
    for arm in (TEST, CONTROL):
        if not shown(*counts.size(arm), conf.k):
            return ValueLift(column=column, overall=None, clipped_to=(low, high), variance="none")
        square = None if second is None else float(second[0][arm])
        amounts = _Amounts(
            total=float(first[0][arm]),
            noise=float(first[1][arm]),
            square=square,
            low=low,
            unit=unit,
        )
        n, var_n = counts.size(arm)
        held = Rate(n=n, total=n, var_n=var_n, var_total=var_n, cov=var_n)
        if party is not None and told:
            held = counts.held(arm, party)
            if shown(held.total, held.var_total, conf.k):
                alone = replace(held, n=held.total, var_n=held.var_total, cov=held.var_total)
                matched[arm] = amounts.mean(alone)[0]
        if low and not shown(held.total, held.var_total, conf.k):
            return ValueLift(column=column, overall=None, clipped_to=(low, high), variance="none")
        everyone[arm], used = amounts.mean(held)
        measured &= used
    converters = party is not None and conf.holds.get(party) == "converters"
    possible = (min(low, 0.0), max(high, 0.0)) if party else (low, high)

    def compared(means: dict[int, Mean], possible: Interval) -> Comparison:
        return compare(
            means[TEST],
            means[CONTROL],
            level=conf.level,
            possible=possible,
            with_relative=possible[0] >= 0,
        )

    return ValueLift(
        column=column,
        overall=compared(everyone, possible),
        clipped_to=(low, high),
        variance="measured" if measured else "bounded",
        matched=compared(matched, (low, high)) if len(matched) == 2 and not converters else None,
        at_bound="no" if second is None else _at_bound(first, second),
    )


def _at_bound(
    first: tuple[Floats, Floats], second: tuple[Floats, Floats]
) -> Literal["surely", "maybe", "no"]:
    """Whether nearly all amounts of the arms lie at the upper bound.

    The sum of squares is then as large as the sum itself, both in units.
    """
    (total, noise), (squares, noise2) = ((float(x.sum()) for x in pair) for pair in (first, second))
    if total <= 0:
        return "no"
    ratio = squares / total
    error = (noise2 + ratio**2 * noise) ** 0.5 / total
    if ratio - 3 * error > AT_BOUND:
        return "surely"
    return "maybe" if ratio > AT_BOUND and error < _CLEAR else "no"


def holder(schema: JointSchema, conf: LiftConf, column: str) -> str | None:
    """First party of the unit that holds an outcome; None where the membership's party does."""
    holders = schema.holders(column)
    home = schema.holders(conf.membership)[0]
    return None if home in holders else schema.unit(holders[0])[0]


@dataclass(frozen=True, kw_only=True)
class _Amounts:
    """One arm's noisy moments, in units above the column's lower bound.

    noise: variance of the total's. low, unit: the lower bound, and a unit, in the column's own.
    """

    total: float
    noise: float
    square: float | None
    low: float
    unit: float

    def mean(self, arm: Rate) -> tuple[Mean, bool]:
        """Mean over `arm.n` users, `arm.total` of them held; whether its variance was measured."""
        low = self.low
        if low == 0:
            variance, used = user_variance(arm.n, self.total, self.noise, self.square)
            variance *= self.unit**2
        else:
            within, used = user_variance(arm.total, self.total, self.noise, self.square)
            own = low + self.total * self.unit / arm.total
            share = min(max(arm.total / arm.n, 0.0), 1.0)
            # Those who are held vary among themselves; the others have 0.
            variance = share * within * self.unit**2 + share * (1 - share) * own**2
        found = Mean(
            total=self.total * self.unit + low * arm.total,
            var_total=self.noise * self.unit**2 + low**2 * arm.var_total,
            n=arm.n,
            var_n=arm.var_n,
            cov=low * arm.cov,
            variance=variance,
        )
        return found, used


def user_variance(n: float, total: float, noise: float, square: float | None) -> tuple[float, bool]:
    """Variance of one user's amount, in units squared, and whether the moments gave it.

    total: noisy sum of amounts, with noise variance `noise`; square: noisy sum of
    round(amount**2 / VALUE_UNITS), or None. Where noise makes the moments' variance negative,
    and as its ceiling, stands the largest variance of amounts in 0..VALUE_UNITS with that
    mean, m (VALUE_UNITS - m) (Bhatia & Davis 2000), at a mean two standard deviations up.
    """
    mean = total / n
    upper = min(max(mean + 2 * noise**0.5 / n, 1 / n), VALUE_UNITS / 2)
    ceiling = upper * (VALUE_UNITS - upper)
    if square is None:
        return ceiling, False
    if square < 2 * _VANISHES * total / VALUE_UNITS:
        # The mass sits where squares round to nothing: give back all they can have lost.
        square += _VANISHES * max(total, 0.0) / VALUE_UNITS
    # E[noisy mean**2] exceeds mean**2 by the noise's variance.
    variance = VALUE_UNITS * square / n - mean**2 + noise / n**2
    if variance <= 0:
        return ceiling, False
    return min(variance, ceiling), True
