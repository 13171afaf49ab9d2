"""From the noisy sum of a value column to a mean per user, with its sampling variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from twinweave.analysis.lift.intervals import Mean, Rate
from twinweave.analysis.lift.spread import Spread
from twinweave.tables.column import VALUE_UNITS, Column, value_unit
from twinweave.tables.schema import JointSchema
from twinweave.workload.measurement import Measurement


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """What is known of a value column's amounts, to make means of sums.

    low, high: lower bound, and where they are clipped; unit: of their sums; all in the column's
    own unit. ratio: of second moment to mean above the lower bound, None where it is not known.
    """

    low: float
    high: float
    unit: float
    ratio: float | None
    spread: Spread | None = field(repr=False)

    @classmethod
    def of(
        cls,
        schema: JointSchema,
        measurements: Sequence[Measurement],
        name: str,
        clip: float | None,
    ) -> Amounts:
        """clip: of the sums; None for the column's upper bound."""
        column: Column = schema.column(name)
        low, most = column.span
        high, unit = most if clip is None else clip, value_unit(column, clip)
        spread = Spread.of(schema, measurements, name)
        found = spread.ratio(high - low, unit) if spread else None
        return cls(low=low, high=high, unit=unit, ratio=found and found[0], spread=spread)

    def mean(self, arm: Rate, total: float, noise: float) -> tuple[Mean, bool]:
        """Mean over `arm.n` users, `arm.total` of them held; whether its variance was measured.

        total: noisy sum of their units above the lower bound; noise: its variance.
        """
        low, above, var_above = self.low, total * self.unit, noise * self.unit**2
        if low == 0:
            variance, used = self._variance(arm.n, above, var_above)
        else:
            within, used = self._variance(arm.total, above, var_above)
            own = low + above / arm.total
            share = min(max(arm.total / arm.n, 0.0), 1.0)
            # Those who are held vary among themselves; the others have 0.
            variance = share * within + share * (1 - share) * own**2
        found = Mean(
            total=above + low * arm.total,
            var_total=var_above + low**2 * arm.var_total,
            n=arm.n,
            var_n=arm.var_n,
            cov=low * arm.cov,
            variance=variance,
        )
        return found, used

    def _variance(self, n: float, total: float, noise: float) -> tuple[float, bool]:
        """Variance of one user's amount above the lower bound, and whether it was measured."""
        return user_variance(n, total, noise, ratio=self.ratio, top=self.high - self.low)


def user_variance(
    n: float, total: float, noise: float, *, ratio: float | None, top: float
) -> tuple[float, bool]:
    """Variance of the amount, within 0..top, of one of n users, and whether `ratio` gave it.

    total: noisy sum of amounts, with noise variance `noise`. ratio: of their second moment to
    their mean, so that the variance is ratio * mean - mean**2; a mean that noise has made small
    counts as one of its standard deviation. Where the ratio is None or leads below 0, and as the
    ceiling, stands the largest variance of amounts in 0..top with that mean, m (top - m) (Bhatia
    & Davis 2000), at a mean two standard deviations up.
    """
    mean, error = total / n, noise**0.5 / n
    upper = min(max(mean, 0.0) + 2 * error, top / 2) or top / VALUE_UNITS / n
    ceiling = upper * (top - upper)
    if ratio is None:
        return ceiling, False
    likely = max(mean, error)
    # E[noisy mean**2] exceeds mean**2 by the noise's variance.
    variance = ratio * likely - likely**2 + error**2
    if variance <= 0:
        return ceiling, False
    return min(variance, ceiling), True
