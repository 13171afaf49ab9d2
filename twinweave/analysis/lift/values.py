"""Lift of a clipped value column: mean per user in its own unit, from its noisy sums by arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from twinweave.analysis.finding import Interval
from twinweave.analysis.lift.amounts import Amounts
from twinweave.analysis.lift.breakdown import Pair, broken_down, shown
from twinweave.analysis.lift.compare import compare
from twinweave.analysis.lift.estimate import EVERY, Counts, Segment, Sums, estimate_sums
from twinweave.analysis.lift.intervals import Mean, Rate
from twinweave.analysis.lift.reconcile import Floats
from twinweave.analysis.lift.results import Breakdown, Comparison, ValueLift
from twinweave.tables.column import Column
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """A value column's amounts by arm.

    party: first of the unit that holds it, where that is not the membership's.
    """

    conf: LiftConf = field(repr=False)
    column: Column
    counts: Counts = field(repr=False)
    sums: Sums = field(repr=False)
    amounts: Amounts = field(repr=False)
    party: str | None

    @classmethod
    def of(
        cls,
        schema: JointSchema,
        conf: LiftConf,
        measurements: Sequence[Measurement],
        counts: Counts,
        name: str,
    ) -> Value | None:
        """None when no table sums the column by membership, or when its bounds do not begin at 0
        and no table tells how many of an arm's users its party holds."""
        party, column = holder(schema, conf, name), schema.column(name)
        sums = estimate_sums(schema, conf, measurements, name)
        told = party is None or party in counts.holders
        if sums is None or not (told or column.span[0] == 0):
            return None
        amounts = Amounts.of(schema, measurements, name, sums.clip)
        return cls(conf=conf, column=column, counts=counts, sums=sums, amounts=amounts, party=party)

    def lift(self, pair: Pair, level: float) -> ValueLift:
        """Compare two arms' mean over all users; a user whom its party does not hold has 0.

        level: of the intervals over all users.
        """
        found = [one for arm in pair if (one := self.mean(arm))]
        spread, clip = self.amounts.spread, self.amounts.high - self.amounts.low
        hidden = ValueLift(
            column=self.column.name,
            arm=pair[0],
            against=pair[1],
            overall=None,
            clipped_to=(self.amounts.low, self.amounts.high),
            variance="none",
        )
        if len(found) < 2:
            return hidden
        (test, measured), (control, also) = found
        return replace(
            hidden,
            overall=compare(test, control, level=level, possible=self._possible()),
            variance="measured" if measured and also else "bounded",
            breakdowns=tuple(self._by(name, pair) for name in self.segmented),
            matched=self._matched(pair),
            clipped_share=spread.above(clip, self.conf.level) if spread else None,
            at_bound=spread.at_bound if spread else "no",
        )

    @property
    def segmented(self) -> list[str]:
        """Columns by which it is broken down."""
        return [
            name
            for name in self.conf.breakdowns
            if self.sums.tells([name])
            and self.counts.tells(segment=[name])
            and self.conf.holds.get(self.counts.among(name) or "") != "converters"
            and (self._everyone_has(name) or self.counts.tells_held(self.party or "", [name]))
        ]

    def _everyone_has(self, name: str) -> bool:
        """Whether every user at a level has an amount, or 0 is as good as one."""
        return not self.party or self.amounts.low == 0 or self.counts.among(name) is not None

    def _by(self, name: str, pair: Pair) -> Breakdown:
        alone = self.counts.among(name) == self.party
        possible = (self.amounts.low, self.amounts.high) if alone else self._possible()

        def mean(arm: str, segment: Segment) -> Mean | None:
            found = self.mean(arm, segment)
            return found and found[0]

        def noise(arm: str, segments: Sequence[Segment], means: Sequence[float]) -> Floats:
            n = np.array([self.counts.size(arm, at)[0] for at in segments])
            of_sums = self.sums.totals(arm, segments)[1] * self.amounts.unit**2 / np.outer(n, n)
            low = self.amounts.low
            held = (self.party, low) if self.party and low and not alone else None
            return np.asarray(of_sums + self.counts.noise(arm, segments, means, held=held))

        return broken_down(
            self.counts, self.counts.schema.column(name), pair, mean, noise, possible
        )

    def mean(self, arm: str, segment: Segment = EVERY) -> tuple[Mean, bool] | None:
        """Of an arm's users in a segment, and whether its variance was measured; None where there
        are too few to show, or too few of them held for bounds that do not begin at 0."""
        held, total = self._held(arm, segment), self.sums.total(arm, segment)
        if not shown(held.n, held.var_n, self.conf.k):
            return None
        if self.amounts.low and not shown(held.total, held.var_total, self.conf.k):
            return None
        return self._of(held, total)

    def _of(self, held: Rate, total: tuple[float, float]) -> tuple[Mean, bool]:
        found, measured = self.amounts.mean(held, *total)
        effect = self.counts.effects.of(self.column.name)
        return replace(found, effect=effect, level=self.conf.level), measured

    def _held(self, arm: str, segment: Segment) -> Rate:
        """How many of the users the column's party holds; all, where no table tells."""
        among = next((p for c in segment if (p := self.counts.among(c))), None)
        if self.party and among is None and self.counts.tells_held(self.party, segment):
            return self.counts.held(arm, self.party, segment)
        n, var_n = self.counts.size(arm, segment)
        return Rate(n=n, total=n, var_n=var_n, var_total=var_n, cov=var_n)

    def _matched(self, pair: Pair) -> Comparison | None:
        """Among users whom the party holds; None where no table tells them, and of converters."""
        party = self.party
        if party not in self.counts.holders or self.conf.holds.get(party or "") == "converters":
            return None
        means = []
        for arm in pair:
            held = self._held(arm, EVERY)
            if not shown(held.total, held.var_total, self.conf.k):
                return None
            alone = replace(held, n=held.total, var_n=held.var_total, cov=held.var_total)
            means.append(self._of(alone, self.sums.total(arm))[0])
        possible = (self.amounts.low, self.amounts.high)
        return compare(*means, level=self.conf.level, possible=possible)

    def _possible(self) -> Interval:
        """Smallest and largest mean there can be of users of whom the party may lack some."""
        low, high = self.amounts.low, self.amounts.high
        return (min(low, 0.0), max(high, 0.0)) if self.party else (low, high)


def holder(schema: JointSchema, conf: LiftConf, column: str) -> str | None:
    """First party of the unit that holds an outcome; None where the membership's party does."""
    holders = schema.holders(column)
    home = schema.holders(conf.membership)[0]
    return None if home in holders else schema.unit(holders[0])[0]
