"""Outcomes that get no verdict, and why: what they stand on is in doubt.

The figures stay: whoever finds out why may still want them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twinweave.analysis.lift.results import (
    Breakdown,
    Comparison,
    ConversionLift,
    LiftReport,
    MatchState,
    ValueLift,
    Verdict,
)

_MATCHED = {
    MatchState.UNBALANCED: "{party} does not hold both arms alike",
    MatchState.HARDLY_ANY: "hardly any user of the arms is matched at {party}",
    MatchState.UNDECLARED: "{party} seems to hold converters alone, and `lift.holds` says nothing",
}

_RATIO = "the arms' sizes contradict `lift.ratio`"

_AT_THE_BOUND = (
    "nearly all amounts lie at the upper bound: correct the unit (cents for euros?), or widen "
    "`bounds`"
)


def refused(report: LiftReport, homes: dict[str, str | None]) -> LiftReport:
    """The report with each outcome's doubts, and no verdict where there is one.

    homes: by outcome, the first party of the unit that holds it; None where the membership's
    does.
    """
    ratio = report.sample_ratio
    general = [_RATIO] if ratio is not None and ratio.suspicious else []
    doubts = {
        rate.party: [_MATCHED[rate.state].format(party=rate.party)]
        for rate in report.match_rates
        if rate.state in _MATCHED
    }

    def of(outcome: str) -> list[str]:
        return [*general, *doubts.get(homes[outcome] or "", [])]

    values = (
        _value(v, [*of(v.column), *([_AT_THE_BOUND] if v.at_bound == "surely" else [])])
        for v in report.values
    )
    return replace(
        report,
        conversions=tuple(_conversion(c, of(c.conversion)) for c in report.conversions),
        values=tuple(values),
    )


def _conversion(found: ConversionLift, doubts: Sequence[str]) -> ConversionLift:
    if not doubts:
        return found
    return replace(
        found,
        overall=_without(found.overall),
        matched=_without(found.matched),
        breakdowns=tuple(_breakdown(b) for b in found.breakdowns),
        doubts=tuple(doubts),
    )


def _value(found: ValueLift, doubts: Sequence[str]) -> ValueLift:
    if not doubts:
        return found
    return replace(
        found,
        overall=_without(found.overall),
        matched=_without(found.matched),
        breakdowns=tuple(_breakdown(b) for b in found.breakdowns),
        doubts=tuple(doubts),
    )


def _breakdown(found: Breakdown) -> Breakdown:
    cells = (
        replace(c, comparison=_without(c.comparison), verdict=Verdict.REFUSED) for c in found.cells
    )
    return replace(found, cells=tuple(cells))


def _without(found: Comparison | None) -> Comparison | None:
    return None if found is None else replace(found, verdict=Verdict.REFUSED)
