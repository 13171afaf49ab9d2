"""Lift of a clipped value column: mean per user in its own unit, from two noisy moments."""

from __future__ import annotations

from collections.abc import Sequence

from twinweave.analysis.lift.breakdown import shown
from twinweave.analysis.lift.compare import compare
from twinweave.analysis.lift.estimate import CONTROL, TEST, Counts, estimate_sum
from twinweave.analysis.lift.intervals import Mean
from twinweave.analysis.lift.results import ValueLift
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement

_VANISHES = 22
"""Largest amount whose square, in units of VALUE_UNITS, rounds to nothing."""


def value_lift(
    schema: JointSchema,
    conf: LiftConf,
    measurements: Sequence[Measurement],
    counts: Counts,
    column: str,
) -> ValueLift | None:
    """Compare the arms' mean value; None when no table sums the column by membership.

    A user whom the value's party does not hold has the column's lower bound.
    """
    first = estimate_sum(schema, conf, measurements, column, 1)
    if first is None:
        return None
    second = estimate_sum(schema, conf, measurements, column, 2)
    low, high = schema.column(column).span
    unit = (high - low) / VALUE_UNITS
    means, measured = {}, True
    for arm in (TEST, CONTROL):
        n, var_n = counts.size(arm)
        if not shown(n, var_n, conf.k):
            return ValueLift(column=column, overall=None, clipped_to=(low, high), variance="none")
        total, noise = float(first[0][arm]), float(first[1][arm])
        square = None if second is None else float(second[0][arm])
        variance, used = user_variance(n, total, noise, square)
        measured &= used
        means[arm] = Mean(
            excess=total * unit,
            var_excess=noise * unit**2,
            n=n,
            var_n=var_n,
            variance=variance * unit**2,
            offset=low,
        )
    overall = compare(
        means[TEST], means[CONTROL], level=conf.level, possible=(low, high), with_relative=low >= 0
    )
    return ValueLift(
        column=column,
        overall=overall,
        clipped_to=(low, high),
        variance="measured" if measured else "bounded",
    )


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
