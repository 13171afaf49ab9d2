"""Arm sizes, conversions and value sums, each from every table that speaks of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from twinweave.analysis.lift.arms import POSITIVE, blocks_of, home, scales
from twinweave.analysis.lift.clusters import NO_EFFECTS, ArmRates, Effects, held_by
from twinweave.analysis.lift.intervals import Rate
from twinweave.analysis.lift.random_groups import Effect
from twinweave.analysis.lift.reconcile import (
    EVERYONE,
    Attribute,
    Block,
    Floats,
    Margin,
    Reconciled,
    reconcile,
)
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import cells_of

Segment = Mapping[str, int]
"""Codes of columns: users who have them all. Empty: every user."""

EVERY: Segment = {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Sizes and conversions of the arms, in all and in segments, from reconciled tables.

    A segment by a column of another party holds users whom that party holds alone.
    Whatever is read has noise of known covariance; `tells` says what can be read.

    effects: how alike users of one cluster are, for every rate that is read.
    """

    schema: JointSchema = field(repr=False)
    conf: LiftConf = field(repr=False)
    tables: Reconciled = field(repr=False)
    effects: Effects = NO_EFFECTS

    @property
    def conversions(self) -> tuple[str, ...]:
        """Those that some table counts."""
        return tuple(c for c in self.conf.conversions if self.tells(c))

    @property
    def holders(self) -> tuple[str, ...]:
        """Parties, the first of each pool, of which a table tells whom of an arm they hold."""
        return tuple(p for p in self.schema.parties if self.tables.tells(p))

    def tells(self, conversion: str | None = None, segment: Iterable[str] = ()) -> bool:
        """Whether a conversion, or the size alone, is counted by all columns of the segment."""
        columns = (*segment, *((conversion,) if conversion else ()))
        margin = self._margin(dict.fromkeys(columns, 0))
        return margin is not None and self.tables.tells(margin.users, margin.at)

    def tells_held(self, party: str, segment: Iterable[str] = ()) -> bool:
        """Whether users whom a party holds are counted by all columns of the segment."""
        margin = self._margin(dict.fromkeys(segment, 0), party)
        return margin is not None and self.tables.tells(party, margin.at)

    def among(self, column: str) -> str | None:
        """Party whose users alone have a level of the column; None where all of an arm do."""
        margin = self._margin({column: 0})
        return (margin and margin.users) or None

    def size(self, arm: str, segment: Segment = EVERY) -> tuple[float, float]:
        """(n, noise variance of n)."""
        rate = self.rate(arm, segment=segment)
        return rate.n, rate.var_n

    def arm_rates(self, arm: str) -> ArmRates:
        """The arm as its design effect is estimated from."""
        return ArmRates(
            levels=self.conf.all_arms[arm],
            size=self.size(arm)[0],
            conversions={c: self.rate(arm, c) for c in self.conversions},
            held={p: self.held(arm, p) for p in self.holders},
        )

    def rate(
        self,
        arm: str,
        *conversions: str,
        segment: Segment = EVERY,
        held_by: str | None = None,
    ) -> Rate:
        """Conversions of an arm's users in a segment, or of those of them whom a party holds.

        Of several conversions the sum: a user who has two of them counts twice.
        """
        among = self._read_as(segment, held_by)
        counted = [self._read_as({**segment, c: POSITIVE}, held_by) for c in conversions]
        outcome = conversions[0] if len(conversions) == 1 else ""
        return self._rate(arm, among, counted, self.effects.of(outcome))

    def held(self, arm: str, party: str, segment: Segment = EVERY) -> Rate:
        """How many of an arm's users in a segment of the membership's party another one holds."""
        counted, effect = [self._read_as(segment, party)], self.effects.of(held_by(party))
        return self._rate(arm, self._read_as(segment), counted, effect)

    def noise(
        self,
        arm: str,
        segments: Sequence[Segment],
        rates: Sequence[float],
        conversion: str | None = None,
        *,
        held: tuple[str, float] | None = None,
    ) -> Floats:
        """Covariance of the noise in an arm's rates in several segments (delta method).

        The rates are of a conversion; or means of an amount that each user has whom a party
        holds, `held`: (party, amount), plus what does not come from these tables.
        """
        group, levels = list(self.conf.all_arms).index(arm), len(segments)
        margins, weight = [self._read_as(at) for at in segments], 1.0
        if conversion is not None:
            margins += [self._read_as({**at, conversion: POSITIVE}) for at in segments]
        elif held is not None:
            weight = held[1]
            margins += [self._read_as(at, held[0]) for at in segments]
        theta, cov = self.tables.read(margins)
        slopes = np.concatenate([-np.diag(rates), weight * np.eye(levels)])[: len(margins)]
        slopes = slopes / theta[group, :levels]
        return np.asarray(slopes.T @ cov @ slopes * scales(self.conf)[group])

    def _rate(self, arm: str, among: Margin, counted: Sequence[Margin], effect: Effect) -> Rate:
        group = list(self.conf.all_arms).index(arm)
        theta, cov = self.tables.read([among, *counted])
        cov = cov * scales(self.conf)[group]
        return Rate(
            n=float(theta[group, 0]),
            total=float(theta[group, 1:].sum()),
            var_n=float(cov[0, 0]),
            var_total=float(cov[1:, 1:].sum()),
            cov=float(cov[0, 1:].sum()),
            effect=effect,
            level=self.conf.level,
        )

    def _read_as(self, at: Segment, held_by: str | None = None) -> Margin:
        margin = self._margin(at, held_by)
        assert margin is not None, f"no table counts {list(at)}"
        return margin

    def _margin(self, at: Segment, held_by: str | None = None) -> Margin | None:
        return margin_of(self.schema, self.conf, at, held_by)


def margin_of(
    schema: JointSchema, conf: LiftConf, at: Segment, held_by: str | None = None
) -> Margin | None:
    """Users with these codes, as the tables have them; None for columns of two other parties."""
    own = home(schema, conf)
    here = [c for c in at if own in schema.holders(c)]
    other = [c for c in at if c not in here]
    units = [u[0] for u in schema.units if all(u[0] in schema.holders(c) for c in other)]
    party = held_by or (next(iter(units), None) if other else EVERYONE)
    if party is None or (other and party not in units):
        return None
    places: dict[Attribute, int] = {(own if c in here else party, c): at[c] for c in at}
    return Margin(users=party, at=places)


def estimate_counts(
    schema: JointSchema, conf: LiftConf, measurements: Iterable[Measurement]
) -> Counts | None:
    """All count tables with the membership made to agree; None when there is none."""
    counting = (m for m in measurements if m.query.weight is None)
    found = [block for m in counting for block in blocks_of(schema, conf, m)]
    return Counts(schema=schema, conf=conf, tables=reconcile(found)) if found else None


def planned_counts(
    schema: JointSchema, conf: LiftConf, plan: Iterable[PlannedQuery]
) -> Counts | None:
    """What `estimate_counts` will know of noise, before anything is measured.

    Variances and covariances are those of the run's report; every n and total is 0.
    """
    return estimate_counts(schema, conf, unmeasured(schema, plan))


def unmeasured(schema: JointSchema, plan: Iterable[PlannedQuery]) -> list[Measurement]:
    """The planned tables with 0 in every cell, and the variance that their noise will have."""
    return [
        Measurement(
            query=p.query, values=np.zeros(cells_of(schema, p.query).shape), variance=p.variance
        )
        for p in plan
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sums:
    """Sums of a value column's units in the arms, in all and in segments, from reconciled tables.

    clip: of the amounts that were summed, in the column's own unit; None for its upper bound.
    """

    schema: JointSchema = field(repr=False)
    conf: LiftConf = field(repr=False)
    tables: Reconciled = field(repr=False)
    clip: float | None

    def tells(self, segment: Iterable[str]) -> bool:
        """Whether the sums are by all columns of the segment."""
        margin = self._margin(dict.fromkeys(segment, 0))
        return margin is not None and self.tables.tells(margin.users, margin.at)

    def total(self, arm: str, segment: Segment = EVERY) -> tuple[float, float]:
        """(sum, noise variance of it)."""
        totals, noise = self.totals(arm, [segment])
        return float(totals[0]), float(noise[0, 0])

    def totals(self, arm: str, segments: Sequence[Segment]) -> tuple[Floats, Floats]:
        """Sums in several segments, and the covariance of their noise."""
        margins = [self._margin(at) for at in segments]
        assert None not in margins, f"no table sums by {segments}"
        group = list(self.conf.all_arms).index(arm)
        theta, cov = self.tables.read([m for m in margins if m is not None])
        return theta[group], cov * scales(self.conf)[group]

    def _margin(self, at: Segment) -> Margin | None:
        """Of everyone where the amounts' party has the columns: whom it lacks adds nothing."""
        margin = margin_of(self.schema, self.conf, at)
        if margin is None or self.tables.tells(margin.users, margin.at):
            return margin
        return replace(margin, users=EVERYONE)


def estimate_sums(
    schema: JointSchema, conf: LiftConf, measurements: Sequence[Measurement], column: str
) -> Sums | None:
    """All sums of a value column with the membership made to agree; None when there is none.

    Of sums under several clips those under the first one.
    """
    found: dict[float | None, list[Block]] = {}
    for m in measurements:
        if m.query.weight == column:
            found.setdefault(m.query.clip, []).extend(blocks_of(schema, conf, m))
    for clip, blocks in found.items():
        if blocks:
            return Sums(schema=schema, conf=conf, tables=reconcile(blocks), clip=clip)
    return None
