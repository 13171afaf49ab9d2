"""The summary's sections on what hangs on a lift: money, and decisions."""

from __future__ import annotations

from twinweave.analysis.lift.results import (
    CostPerConversion,
    Decision,
    LiftReport,
    Money,
    Relative,
    Ruling,
)
from twinweave.report.display import shown_relative
from twinweave.report.terminal.comparisons import relative_text
from twinweave.report.terminal.needed import needed_text
from twinweave.report.terminal.text import (
    level_text,
    paragraph,
    percent,
    rule,
    table,
    unit_for,
    whole,
)


def stakes_section(lift: LiftReport) -> list[str]:
    lines: list[str] = []
    for money in lift.money:
        lines += ["", rule(), *_money(money)]
    if lift.decisions:
        lines += ["", rule()]
    for decision in lift.decisions:
        lines += _decision(decision, lift)
    if len(lift.decisions) > 1:
        lines += paragraph(
            f"The intervals of all {len(lift.decisions)} decisions hold together with "
            f"{level_text(lift.level)} (Bonferroni)."
        )
    return lines


def _money(found: Money) -> list[str]:
    """What an arm cost and earned, against control."""
    unit = f" {found.currency}" if found.currency else ""
    rows = [[f"money ({found.arm})", "estimate", f"{level_text(found.level)} interval"]]
    if found.icpa is not None:
        value = "unknown" if found.icpa.value is None else _amount(found.icpa.value) + unit
        rows.append([f"cost of one more {found.conversion}", value, cost_text(found.icpa)])
    if found.iroas is not None:
        low, high = found.iroas.interval
        interval = f"{low:.2f} to {high:.2f}"
        rows.append(["incremental return on cost", f"{found.iroas.value:.2f}", interval])
    if found.profit is not None:
        low, high = found.profit.interval
        interval = f"{low:+,.0f} to {high:+,.0f}"
        rows.append(["incremental profit", f"{found.profit.value:+,.0f}{unit}", interval])
    source = f"; revenue by {found.source}" if found.source else ""
    lines = [*table(rows), *paragraph(f"Cost {_amount(found.cost)}{unit}{source}.")]
    if found.doubts:
        lines += paragraph(f"In doubt with the lift: {'; '.join(found.doubts)}.")
    return lines


def cost_text(found: CostPerConversion) -> str:
    """The confidence set in words; it need not be one bounded interval."""
    if found.low is None:
        return "no effect"
    if found.high is None:
        return f"{_amount(found.low)} or more, or no effect"
    return f"{_amount(found.low)} to {_amount(found.high)}"


def _amount(x: float) -> str:
    return f"{x:,.2f}" if abs(x) < 1000 else whole(x)


_SAYS = {
    Ruling.CERTIFIED: "the whole interval meets it",
    Ruling.REJECTED: "the whole interval misses it",
    Ruling.UNRESOLVED: "the threshold lies inside it",
}


def _decision(found: Decision, lift: LiftReport) -> list[str]:
    threshold, value, interval = decision_figures(found, lift)
    why = f"no ruling: {'; '.join(found.doubts)}" if found.doubts else _SAYS[found.ruling]
    lines = [
        *paragraph(f"{threshold} ({found.arm}): {found.ruling.upper()}", " "),
        *paragraph(f"Estimate {value}, {level_text(found.level)} interval {interval}: {why}."),
    ]
    if found.needed is not None:
        text = needed_text(found.needed)
        lines += paragraph(f"To resolve it, were the effect as estimated: {text}")
    return lines


def decision_figures(found: Decision, lift: LiftReport) -> tuple[str, str, str]:
    """The threshold, the estimate and the interval, in words."""
    match found.metric:
        case "relative":
            told = shown_relative(Relative(value=found.value, intervals=found.intervals))
            return f"{found.outcome}: relative lift ≥ {percent(found.at)}", *relative_text(told)
        case "icpa":
            low, high = next(iter(found.intervals), (None, None))
            cost = CostPerConversion(
                value=found.value, low=low, high=high, none_possible=found.none_possible
            )
            value = "unknown" if found.value is None else _amount(found.value)
            return f"cost of one more {found.outcome} ≤ {_amount(found.at)}", value, cost_text(cost)
        case "iroas":
            name, scale, suffix = "incremental return on cost", 1.0, ""
        case "lift":
            rate = found.outcome in {c.conversion for c in lift.conversions}
            scale, suffix = (100.0, " pp") if rate else (1.0, "")
            name = f"{found.outcome}: lift"
    if not found.intervals:
        return f"{name} ≥ {found.at * scale:g}{suffix}", "unknown", "not known"
    ((low, high),) = found.intervals
    assert high is not None  # of a relative lift and a cost alone it may be
    unit = unit_for((high - low) / 4, scale=scale, suffix=suffix)
    signed = found.metric == "lift"
    write, ends = unit.signed if signed else unit.plain, unit.between((low, high), signed=signed)
    return f"{name} ≥ {write(found.at)}{suffix}", write(found.value or 0.0) + suffix, ends
