"""Cost of an incremental conversion, incremental return on the cost, and profit.

The cost is a known number, so that each is a function of the incremental conversions, or of the
incremental value, alone; its confidence set is the image of their interval. Of a cost over a
number that may be 0 that is Fieller's set (1954, JRSS B 16): bounded where the interval excludes
0, else without an upper end and with "no effect" in it.
"""

from __future__ import annotations

from twinweave.analysis.finding import Finding
from twinweave.analysis.lift.results import (
    Comparison,
    ConversionLift,
    CostPerConversion,
    LiftReport,
    Money,
    ValueLift,
)
from twinweave.workload.analyses import CONTROL, LiftConf
from twinweave.workload.decisions import MoneyConf


def money_of(report: LiftReport, conf: LiftConf) -> tuple[Money, ...]:
    """One for each test arm that is compared with control; () where no money is declared."""
    if conf.money is None:
        return ()
    found = (_of_arm(report, conf.money, paid_for(conf), arm) for arm in conf.treated)
    return tuple(m for m in found if m is not None)


def paid_for(conf: LiftConf) -> str | None:
    """The conversion whose incremental ones are paid for; None without any."""
    named = conf.money.outcome if conf.money is not None else None
    return named or next(iter(conf.conversions), None)


def against_control(
    report: LiftReport, outcome: str | None, arm: str
) -> ConversionLift | ValueLift | None:
    """An outcome's findings in an arm; None where it is not compared, or one of the two hidden."""
    pair = (outcome, arm, CONTROL)
    conversions = (c for c in report.conversions if (c.conversion, c.arm, c.against) == pair)
    values = (v for v in report.values if (v.column, v.arm, v.against) == pair)
    found = next(conversions, None) or next(values, None)
    return found if found is not None and found.overall is not None else None


def _of_arm(report: LiftReport, money: MoneyConf, conversion: str | None, arm: str) -> Money | None:
    cost, column = money.cost_of(arm), money.value if isinstance(money.value, str) else None
    converted = against_control(report, conversion, arm)
    earned = against_control(report, column, arm) if column else converted
    if converted is None and earned is None:
        return None
    revenue = None
    if money.value is not None and earned is not None and earned.overall is not None:
        each = money.value if isinstance(money.value, float) else 1.0
        revenue = _scaled(_incremental(earned.overall), each)
    shown = [o for o in (converted, earned) if o is not None]
    doubts = [d for o in shown for d in o.doubts]
    return Money(
        arm=arm,
        cost=cost,
        currency=money.currency,
        level=min(o.overall.level for o in shown if o.overall is not None),
        conversion=conversion if converted else None,
        icpa=_cost_of_one(cost, converted.overall) if converted and converted.overall else None,
        source=None if revenue is None else column or "value per conversion",
        iroas=None if revenue is None else _scaled(revenue, 1 / cost),
        profit=None if revenue is None else _less(revenue, cost),
        doubts=tuple(dict.fromkeys(doubts)),
    )


def _cost_of_one(cost: float, found: Comparison) -> CostPerConversion:
    incremental = _incremental(found)
    low, high = incremental.interval
    return CostPerConversion(
        value=cost / incremental.value if incremental.value > 0 else None,
        low=cost / high if high > 0 else None,
        high=cost / low if low > 0 else None,
        none_possible=low <= 0,
    )


def _incremental(found: Comparison) -> Finding:
    """The estimate within its interval, which holds what is possible alone."""
    low, high = found.incremental.interval
    return Finding(value=min(max(found.incremental.value, low), high), interval=(low, high))


def _scaled(found: Finding, factor: float) -> Finding:
    """factor: above 0."""
    low, high = found.interval
    return Finding(value=found.value * factor, interval=(low * factor, high * factor))


def _less(found: Finding, cost: float) -> Finding:
    low, high = found.interval
    return Finding(value=found.value - cost, interval=(low - cost, high - cost))
