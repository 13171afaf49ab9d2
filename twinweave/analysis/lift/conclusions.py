"""What a run's lift report says: the analysis, and what follows from it for whoever must decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.decision import decide, for_decisions
from twinweave.analysis.lift.headlines import families
from twinweave.analysis.lift.money import money_of
from twinweave.analysis.lift.needed import needed
from twinweave.analysis.lift.results import ConversionLift, Decision, LiftReport, ValueLift, Verdict
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement

Outcome = TypeVar("Outcome", ConversionLift, ValueLift)


def conclude(
    schema: JointSchema,
    measurements: Sequence[Measurement],
    conf: LiftConf,
    *,
    epsilon: float,
    delta: float,
) -> LiftReport:
    """`analyse`, with money, decisions, and what would decide an inconclusive comparison.

    epsilon, delta: of the run. Raises ConfigError as `analyse` does.
    """
    report = analyse(schema, measurements, conf)
    decisions: tuple[Decision, ...] = ()
    if conf.decisions:
        deciding = analyse(schema, measurements, for_decisions(conf))
        decisions = decide(deciding, conf, epsilon=epsilon, delta=delta)
    many = families(conf, (*report.conversions, *report.values))
    return replace(
        report,
        conversions=tuple(_with_needed(c, epsilon, delta, many) for c in report.conversions),
        values=tuple(_with_needed(v, epsilon, delta, many) for v in report.values),
        money=money_of(report, conf),
        decisions=decisions,
    )


def _with_needed(found: Outcome, epsilon: float, delta: float, many: int) -> Outcome:
    overall = found.overall
    if overall is None or overall.verdict is not Verdict.INCONCLUSIVE:
        return found
    told = needed(overall, epsilon=epsilon, delta=delta, families=many)
    return replace(found, overall=replace(overall, needed=told))
