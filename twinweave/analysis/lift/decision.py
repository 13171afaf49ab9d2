"""Decisions against thresholds: the whole interval on one side, or unresolved.

A wrong ruling, of either kind, has probability 1 - level at most, for all decisions together:
each of m takes intervals at 1 - (1 - level) / m (Bonferroni), whatever arms and outcomes they are
about. The intervals of the report, corrected for other questions, are not used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import hypot, inf

from twinweave.analysis.lift.money import against_control, money_of, paid_for
from twinweave.analysis.lift.needed import needed_for, quantiles
from twinweave.analysis.lift.results import Comparison, Decision, LiftReport, Money, Needed, Ruling
from twinweave.workload.analyses import CONTROL, LiftConf
from twinweave.workload.decisions import DecisionConf

Pieces = tuple[tuple[float, float | None], ...]


def for_decisions(conf: LiftConf) -> LiftConf:
    """The analysis whose intervals decide: all decisions hold together at the level of `conf`."""
    level = 1 - (1 - conf.level) / max(len(conf.decisions), 1)
    return replace(conf, level=level, correction="none")


def decide(
    report: LiftReport, conf: LiftConf, *, epsilon: float, delta: float
) -> tuple[Decision, ...]:
    """One for each declared decision, in their order; unresolved, and why, where its outcome or
    metric is not shown.

    report: of `for_decisions(conf)`.
    """
    money = {m.arm: m for m in money_of(report, conf)}
    found = []
    for decision in conf.decisions:
        arm = decision.arm or next(iter(conf.treated))
        outcome = _outcome(conf, decision)
        entry = against_control(report, outcome, arm)
        overall = entry.overall if entry is not None else None
        stake = _stake(decision, overall, money.get(arm), conf) if overall is not None else None
        if entry is None or overall is None or stake is None:
            found.append(_not_shown(decision, outcome, arm, report))
            continue
        ruling = Ruling.UNRESOLVED if entry.doubts else stake.ruling
        needs = stake.needed(overall, epsilon, delta)
        found.append(
            Decision(
                metric=decision.metric,
                outcome=outcome,
                arm=arm,
                at=decision.at,
                ruling=ruling,
                level=report.level,
                value=stake.value,
                intervals=stake.pieces,
                none_possible=stake.none_possible,
                needed=needs if ruling is Ruling.UNRESOLVED and not entry.doubts else None,
                doubts=entry.doubts,
            )
        )
    return tuple(found)


def _not_shown(decision: DecisionConf, outcome: str, arm: str, report: LiftReport) -> Decision:
    hidden = [name for name in report.hidden if name in (arm, CONTROL)]
    why = (
        f"{' and '.join(hidden)} too small to show, or lost in the noise"
        if hidden
        else f"no {decision.metric} of {outcome} is known"
    )
    return Decision(
        metric=decision.metric,
        outcome=outcome,
        arm=arm,
        at=decision.at,
        ruling=Ruling.UNRESOLVED,
        level=report.level,
        value=None,
        intervals=(),
        doubts=(why,),
    )


def _outcome(conf: LiftConf, decision: DecisionConf) -> str:
    """The conversion, or value column, whose comparison decides."""
    if decision.outcome is not None:
        return decision.outcome
    column = conf.money.value if conf.money is not None else None
    if decision.metric == "iroas" and isinstance(column, str):
        return column
    outcome = paid_for(conf)
    assert outcome is not None  # the configuration was checked for it
    return outcome


@dataclass(frozen=True, kw_only=True)
class _Stake:
    """A metric's confidence set, and its threshold as test >= base + factor * control, in means."""

    value: float | None
    pieces: Pieces
    ruling: Ruling
    base: float
    factor: float = 1.0
    none_possible: bool = False

    def needed(self, found: Comparison, epsilon: float, delta: float) -> Needed:
        test, control, factor = found.test, found.control, self.factor
        return needed_for(
            test.rate - factor * control.rate - self.base,
            noise=hypot(test.noise_sd, factor * control.noise_sd),
            sampling=hypot(test.sampling_error, factor * control.sampling_error),
            errors=quantiles(found.level),
            users=test.n + control.n,
            epsilon=epsilon,
            delta=delta,
        )


def _stake(
    decision: DecisionConf, found: Comparison, money: Money | None, conf: LiftConf
) -> _Stake | None:
    at = decision.at
    match decision.metric:
        case "lift":
            finding, base = found.absolute, at
        case "iroas" if money is not None and money.iroas is not None and conf.money is not None:
            each = conf.money.value if isinstance(conf.money.value, float) else 1.0
            finding, base = money.iroas, at * money.cost / (each * found.test.n)
        case "relative" if found.relative is not None:
            pieces = found.relative.intervals
            return _Stake(
                value=found.relative.value,
                pieces=pieces,
                ruling=_ruling(pieces, at),
                base=0.0,
                factor=1 + at,
            )
        case "icpa" if money is not None and money.icpa is not None:
            return _cost_stake(at, found, money)
        case _:
            return None
    return _Stake(
        value=finding.value,
        pieces=(finding.interval,),
        ruling=_ruling((finding.interval,), at),
        base=base,
    )


def _cost_stake(at: float, found: Comparison, money: Money) -> _Stake | None:
    """At most `at` for a conversion is at least cost / at of them."""
    icpa = money.icpa
    assert icpa is not None
    dearest = inf if icpa.high is None or icpa.none_possible else icpa.high
    ruling = Ruling.UNRESOLVED
    if dearest <= at:
        ruling = Ruling.CERTIFIED
    elif icpa.low is None or icpa.low > at:
        ruling = Ruling.REJECTED
    return _Stake(
        value=icpa.value,
        pieces=() if icpa.low is None else ((icpa.low, icpa.high),),
        ruling=ruling,
        base=money.cost / at / found.test.n,
        none_possible=icpa.none_possible,
    )


def _ruling(pieces: Pieces, at: float) -> Ruling:
    """By a metric of which more is better."""
    if not pieces:
        return Ruling.UNRESOLVED
    if min(low for low, _ in pieces) >= at:
        return Ruling.CERTIFIED
    if max(inf if high is None else high for _, high in pieces) < at:
        return Ruling.REJECTED
    return Ruling.UNRESOLVED
