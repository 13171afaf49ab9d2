"""What the lift analysis finds: frozen, JSON-able with `twinweave.parsing.to_plain`.

Every number that stands for the population carries its interval and sample size. Rates and
counts are unbiased and unclipped, so a small one can come out slightly negative, as in
report.json; intervals are intersected with what is possible. What a person reads is clipped to
the interval (`report/display.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Literal

from twinweave.analysis.finding import Finding, Interval, inside
from twinweave.workload.decisions import Metric


class Verdict(StrEnum):
    LIFT = "lift"
    HARM = "harm"
    INCONCLUSIVE = "inconclusive"
    REFUSED = "no verdict"  # what it would stand on is in doubt: see the outcome's `doubts`


class MatchState(StrEnum):
    """What the shares matched say. A verdict can stand on the first and the last alone."""

    BALANCED = "balanced"
    UNBALANCED = "not balanced"
    HARDLY_ANY = "hardly any"  # or lost in the noise
    UNDECLARED = "undeclared converters"  # nearly all matched may have converted
    CONVERTERS = "converters alone"  # so declared: whom the party lacks has not converted


@dataclass(frozen=True, kw_only=True)
class Relative:
    """Lift as a share of the control's mean (0.1 is ten per cent more).

    value: None when the control's estimate is not above zero.
    intervals: Fieller's confidence set within [-1, infinity): usually one interval; an upper
        end of None is infinity; two intervals when the control is not clearly above zero.
    """

    value: float | None
    intervals: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One arm. total: conversions, or the sum of the value in its own unit.

    rate: total per user (a mean, for values). noise_sd: of the rate, from the privacy noise
    alone; sampling_error: its standard error had there been no noise.
    """

    n: float
    n_noise_sd: float
    total: float
    total_noise_sd: float
    rate: float
    interval: Interval
    noise_sd: float
    sampling_error: float


@dataclass(frozen=True, kw_only=True)
class Needed:
    """What would find a difference of this size with 80 % power: about, by this run's own noise.

    size: of the difference, on the scale of the absolute lift; of an estimate, what is possible
        of it (`Comparison.possible`).
    epsilon: with the same users and delta; None where no epsilon of REACH or less would.
    users: in test and control together, at the same epsilon, and times, over those there are; None
        where a thousand times as many would not do.
    sampling_alone: whether sampling error alone hides it, so that no epsilon at all would.
    """

    size: float
    epsilon: float | None
    users: float | None
    times: float | None
    sampling_alone: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An arm, `test`, against another, `control`.

    absolute: difference of the rates. incremental: that times the first arm's size.
    level: of each interval by itself; where arms are compared with the same control it is the one
        at which all their intervals hold at once.
    p_value: two-sided, of no difference, of this comparison alone; below 1 - level exactly when
        the absolute interval excludes zero.
    p_adjusted: corrected for the other headline comparisons, see `LiftReport.correction`; the
        verdict follows it. None where a comparison is none of them, and the verdict its own.
    mde: smallest true difference that this design finds with 80 % power: of a headline comparison
        by the first step of its correction, the hardest, as a plan foresees it; else at `level`.
    noise_sd, sampling_error: the two parts of the absolute lift's standard error.
    needed: what would find a lift of the size estimated; of an inconclusive comparison alone.
    """

    test: ArmResult
    control: ArmResult
    absolute: Finding
    relative: Relative | None
    incremental: Finding
    level: float
    p_value: float
    mde: float
    noise_sd: float
    sampling_error: float
    verdict: Verdict
    p_adjusted: float | None = None
    needed: Needed | None = None

    @property
    def possible(self) -> float:
        """The absolute lift as far as it is possible: of rates inside their intervals, inside its
        own. What people are shown; `absolute` has it as it came out of the noise."""
        test, control = (inside(arm.rate, arm.interval) for arm in (self.test, self.control))
        return inside(test - control, self.absolute.interval)

    @property
    def standard_error(self) -> float:
        return float((self.noise_sd**2 + self.sampling_error**2) ** 0.5)

    @property
    def noise_ratio(self) -> float:
        """Privacy noise over sampling error, infinite without one."""
        return self.noise_sd / self.sampling_error if self.sampling_error else inf

    @property
    def widening(self) -> float:
        """By what share the noise makes the absolute interval wider, infinite without sampling."""
        return self.standard_error / self.sampling_error - 1 if self.sampling_error else inf


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One level of a breakdown; `comparison` is None when an arm is suppressed there.

    The comparison's intervals hold for all shown levels at once (Bonferroni); `p_holm` is its
    p-value after Holm's correction over them, and the verdict follows `p_holm`.
    """

    level: str
    comparison: Comparison | None
    p_holm: float | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """Cochran's Q: does the absolute lift differ between the levels?"""

    q: float
    df: int
    p_value: float

    def differs(self, level: float) -> bool:
        """Whether there is evidence, at this confidence level, that the lift differs."""
        return self.p_value < 1 - level


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """An outcome's lift by the levels of one column. level: joint, of all shown intervals.

    among: the party whose users are counted, those it lacks having no level; None for everyone.
    """

    column: str
    among: str | None
    level: float
    cells: tuple[Cell, ...]
    interaction: Interaction | None


@dataclass(frozen=True, kw_only=True)
class ConversionLift:
    """Lift of one conversion in one arm; `overall` is None when an arm is suppressed.

    against: the control, or another arm.
    matched: among users whom the conversion's party holds, None where no table tells them, or
        where it holds converters alone.
    doubts: why there is no verdict; () where there is one.
    """

    conversion: str
    arm: str
    against: str
    overall: Comparison | None
    breakdowns: tuple[Breakdown, ...] = ()
    matched: Comparison | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ValueLift:
    """Lift of a value column's mean per user in one arm, in the column's own unit.

    against: the control, or another arm.
    clipped_to: the column's lower bound and the sum's clip, or the upper bound; larger and smaller
        amounts count as the bound, and what is estimated is the mean of what is left. A user
        whom the column's party lacks, or without an amount there, has 0.
    matched: among users whom the column's party holds, None where no table tells them.
    variance: where a user's variance is from: measured, by the noisy one-way table of the column;
        bounded where that could not be used, so that the largest variance that the bounds and the
        mean allow stands in (a wider interval); none where an arm is suppressed.
    clipped_share: share above the clip of all users of the column's party who have an amount;
        its interval is that of the noise. None without a clip, or where noise hides it.
    at_bound: whether nearly all amounts lie at the upper bound: cents for euros, or bounds too
        narrow. maybe: they seem to, and the noise leaves it open.
    doubts: why there is no verdict; () where there is one.
    """

    column: str
    arm: str
    against: str
    overall: Comparison | None
    clipped_to: Interval
    variance: Literal["measured", "bounded", "none"]
    breakdowns: tuple[Breakdown, ...] = ()
    matched: Comparison | None = None
    clipped_share: Finding | None = None
    at_bound: Literal["surely", "maybe", "no"] = "no"
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MatchRate:
    """What share of each arm another party holds: the rest count as not converted, as 0.

    party: it, or the first of its pool. arms: the share by arm, each with an interval at the
    report's level. p_value: two-sided, of no difference between any two arms (Bonferroni where
    there are several pairs). state: what follows for outcomes at this party.
    """

    party: str
    arms: dict[str, Finding]
    p_value: float
    state: MatchState


@dataclass(frozen=True, kw_only=True)
class SampleRatio:
    """Do the arms' sizes agree with `lift.ratio`? By arm: its users for each control user."""

    declared: dict[str, float]
    observed: dict[str, float]
    chi2: float
    p_value: float
    suspicious: bool


@dataclass(frozen=True, kw_only=True)
class CostPerConversion:
    """Cost of an incremental conversion, and Fieller's confidence set for it.

    value: None where the estimate of incremental conversions is not above 0. low: the least cost
    of one; None where the interval of the incremental has none above 0. high: None is infinity.
    none_possible: whether the set holds "no incremental conversion at all" too.
    """

    value: float | None
    low: float | None
    high: float | None
    none_possible: bool


@dataclass(frozen=True, kw_only=True)
class Money:
    """What one test arm cost, and earned over control.

    conversion: whose incremental ones were paid for, and icpa, their cost; None where no
        conversion is compared. source: where revenue is from: "value per conversion", or the
        name of a value column. iroas: incremental revenue for each unit of cost; profit:
        incremental revenue less cost. level: of the intervals. doubts: as of the outcomes.
    """

    arm: str
    cost: float
    currency: str
    level: float
    conversion: str | None
    icpa: CostPerConversion | None
    source: str | None
    iroas: Finding | None
    profit: Finding | None
    doubts: tuple[str, ...] = ()


class Ruling(StrEnum):
    CERTIFIED = "certified"  # the whole interval is on the good side of the threshold
    REJECTED = "rejected"  # the whole interval is on the bad side
    UNRESOLVED = "unresolved"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A threshold against the interval of its metric.

    outcome: the conversion, or value column, that decides. level: of the interval; with several
        decisions so much higher (Bonferroni) that all of them hold together at the report's.
    value: the estimate; None where there is none. intervals: the metric's confidence set, an
        upper end of None is infinity; () where nothing is known.
    none_possible: of a cost of conversions: whether there may be none.
    needed: what would resolve it, were the effect as estimated. doubts: why it has no ruling.
    """

    metric: Metric
    outcome: str
    arm: str
    at: float
    ruling: Ruling
    level: float
    value: float | None
    intervals: tuple[tuple[float, float | None], ...]
    none_possible: bool = False
    needed: Needed | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ClusterSize:
    """Mean number of an arm's users in a user's own cluster, itself included: sum m**2 / sum m.

    From how the groups' sizes spread by the hash, however alike users are. No design effect is
    above it, for no two users are more alike than the same. used: in its place, its error
    included, at the report's level.
    """

    value: float
    standard_error: float
    used: float


@dataclass(frozen=True, kw_only=True)
class DesignEffect:
    """Of one outcome: a conversion's column, a value's, or those whom a party holds.

    estimate, standard_error: as measured, unbiased, or None where nothing tells; below 1 by
    chance. used: what widens the intervals at the report's level (lift/random_groups.py).
    """

    outcome: str
    estimate: float | None
    standard_error: float | None
    used: float
    basis: Literal["estimate", "bound", "declared"]


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """How an experiment's clusters widen its intervals.

    column: of the clusters, None where the design effect is declared. size: None with it.
    """

    column: str | None
    groups: int | None
    size: ClusterSize | None
    effects: tuple[DesignEffect, ...]


@dataclass(frozen=True, kw_only=True)
class LiftReport:
    """Every finding about one experiment. notes: plain sentences a reader must know.

    arms: the levels of each by its name, the control last. conversions, values: by outcome every
        arm against the control, then every two arms.
    correction: what p_adjusted of the headline comparisons, those over all users, is corrected
        for, in words; "" for a single one.
    clusters: how alike the users of a cluster are, None where users are independent.
    hidden: the arms that are too small to show, or lost in the noise; they are compared with none.
    money, decisions: of the arms that are shown, where `lift` declares them.
    """

    membership: str
    arms: dict[str, tuple[str, ...]]
    level: float
    k: int
    conversions: tuple[ConversionLift, ...]
    values: tuple[ValueLift, ...]
    match_rates: tuple[MatchRate, ...] = ()
    sample_ratio: SampleRatio | None
    clusters: Clustering | None = None
    hidden: tuple[str, ...] = ()
    correction: str = ""
    notes: tuple[str, ...]
    money: tuple[Money, ...] = ()
    decisions: tuple[Decision, ...] = ()
