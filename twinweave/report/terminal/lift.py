"""The summary's sections on the lift: each conversion and value, breakdowns, sample ratio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twinweave.analysis.lift.results import (
    Breakdown,
    Cell,
    Comparison,
    ConversionLift,
    LiftReport,
    MatchRate,
    Relative,
    SampleRatio,
    ValueLift,
)
from twinweave.report.contents import RunFacts
from twinweave.report.terminal.text import (
    Unit,
    headline,
    p_is,
    p_text,
    paragraph,
    percent,
    rule,
    shortened,
    table,
    unit_for,
    whole,
)


@dataclass(frozen=True, kw_only=True)
class _Wording:
    """How one outcome's numbers are called and written; points: of a difference of rates."""

    what: str
    total: str
    rate: str
    rates: Unit
    points: Unit


def lift_section(lift: LiftReport, facts: RunFacts) -> list[str]:
    """Lines of at most WIDTH characters. A known true lift stands beside its estimate."""
    arms = f"{' + '.join(lift.test)} (test) against {' + '.join(lift.control)} (control)"
    lines = [*paragraph(f"{lift.membership}: {arms}", " ")]
    for conversion in lift.conversions:
        lines += _conversion(conversion, lift, facts)
    for value in lift.values:
        lines += _value(value, lift, facts.truth.get(value.column))
    for rate in lift.match_rates:
        lines += _match_rate(rate, lift)
    if lift.sample_ratio is not None:
        lines += _sample_ratio(lift.sample_ratio)
    for note in lift.notes:
        lines += ["", *paragraph(f"Note: {note}", " ")]
    return lines


def _conversion(outcome: ConversionLift, lift: LiftReport, facts: RunFacts) -> list[str]:
    name, found = outcome.conversion, outcome.overall
    if found is None:
        lines = _not_shown(name, lift)
    else:
        wording = _Wording(
            what="users who converted",
            total="conversions",
            rate="rate",
            rates=unit_for(found.standard_error, scale=100.0, suffix=" %"),
            points=unit_for(found.standard_error, scale=100.0, suffix=" pp"),
        )
        lines = _outcome(name, wording, found, lift, facts.truth.get(name))
        lines += _among_matched(outcome.matched, wording.points)
    for breakdown in outcome.breakdowns:
        known = facts.truth_by.get(name, {}).get(breakdown.column, {})
        lines += _breakdown(breakdown, name, lift, known)
    return lines


def _value(value: ValueLift, lift: LiftReport, truth: float | None) -> list[str]:
    if value.overall is None:
        return _not_shown(value.column, lift)
    low, high = value.clipped_to
    unit = unit_for(value.overall.standard_error, scale=1.0, suffix="")
    wording = _Wording(
        what=f"mean per user, clipped to {low:,g} to {high:,g}, 0 without one",
        total="sum",
        rate="mean",
        rates=unit,
        points=unit,
    )
    lines = _outcome(value.column, wording, value.overall, lift, truth)
    return lines + _among_matched(value.matched, unit)


def _among_matched(found: Comparison | None, points: Unit) -> list[str]:
    if found is None:
        return []
    lift = found.absolute
    return paragraph(
        f"Among matched users alone: {points.signed(lift.value)}{points.suffix} "
        f"({points.between(lift.interval)}), {p_is(found.p_value)}. "
        "Valid only if the treatment does not change who is matched."
    )


def _match_rate(found: MatchRate, lift: LiftReport) -> list[str]:
    shares = [
        f"{one.value:.1%} of {arm} ({one.interval[0]:.1%} to {one.interval[1]:.1%})"
        for arm, one in (("test", found.test), ("control", found.control))
    ]
    says = (
        "as balanced as chance has it"
        if found.balanced
        else "NOT BALANCED, so no verdict: find out why the arms are matched differently (a table "
        "that holds buyers alone is one reason: add everyone who could have bought)"
    )
    text = (
        f"Matched at {found.party}: {shares[0]}, {shares[1]}, {lift.level:.0%} intervals; "
        f"{p_is(found.p_value)}: {says}. A user who is not matched counts as not converted, and "
        "as 0 of a value."
    )
    return ["", rule(), *paragraph(text, " ")]


def _not_shown(name: str, lift: LiftReport) -> list[str]:
    why = f"An arm has fewer than {lift.k} users, or its size is lost in the noise."
    return ["", rule(), f" {name}: not shown", *paragraph(why)]


def _outcome(
    name: str, wording: _Wording, found: Comparison, lift: LiftReport, truth: float | None
) -> list[str]:
    return [
        *headline(f"{name} ({wording.what}): {found.verdict.upper()}", p_is(found.p_value)),
        *_arms(found, wording, lift.level),
        "",
        *_effects(found, wording.points, lift.level, truth),
        "",
        *_errors(found, wording.points),
    ]


def _arms(found: Comparison, wording: _Wording, level: float) -> list[str]:
    rates = wording.rates
    rows = [["arm", "users", wording.total, wording.rate, f"{level:.0%} interval"]]
    for name, arm in (("test", found.test), ("control", found.control)):
        rate = rates.plain(arm.rate) + rates.suffix
        interval = rates.between(arm.interval, signed=False)
        rows.append([name, whole(arm.n), whole(arm.total), rate, interval])
    return table(rows)


def _effects(found: Comparison, points: Unit, level: float, truth: float | None) -> list[str]:
    absolute, incremental = found.absolute, found.incremental
    low, high = incremental.interval
    head = ["", "estimate", f"{level:.0%} interval"]
    row = [
        "absolute lift",
        points.signed(absolute.value) + points.suffix,
        points.between(absolute.interval),
    ]
    if truth is not None:
        says = "inside" if absolute.covers(truth) else "OUTSIDE"
        head.append("truth")
        row.append(f"{points.signed(truth)}{points.suffix} ({says})")
    rows = [head, row]
    if found.relative is not None:
        value = found.relative.value
        shown = "unknown" if value is None else percent(value)
        rows.append(["relative lift", shown, relative_text(found.relative)])
    rows.append(["incremental", f"{incremental.value:+,.0f}", f"{low:+,.0f} to {high:+,.0f}"])
    return table(rows)


def relative_text(relative: Relative) -> str:
    """The confidence set of a relative lift in words; it need not be one bounded interval."""
    written = []
    for low, high in relative.intervals:
        if high is None:
            written.append("anything" if low <= -1 else f"{percent(low)} or more")
        elif low <= -1:
            written.append(f"{percent(high)} or less")
        else:
            written.append(f"{percent(low)} to {percent(high)}")
    return ", or ".join(written) if written else "none possible"


def _errors(found: Comparison, points: Unit) -> list[str]:
    suffix = points.suffix
    return [
        *paragraph(
            f"Standard error: {points.plain(found.sampling_error)}{suffix} from sampling, "
            f"{points.plain(found.noise_sd)}{suffix} from privacy noise "
            f"({found.noise_ratio:.2f} times; the interval is {found.widening:.0%} wider for it)."
        ),
        *paragraph(f"Smallest lift found with 80% power: {points.plain(found.mde)}{suffix}."),
    ]


def _breakdown(
    found: Breakdown, conversion: str, lift: LiftReport, truth: Mapping[str, float]
) -> list[str]:
    lines = ["", f"  {conversion} by {found.column}"]
    shown = [(c, c.comparison) for c in found.cells if c.comparison is not None]
    if shown:
        worst = max(comparison.standard_error for _, comparison in shown)
        unit = unit_for(worst, scale=100.0, suffix=" pp")
        interval = f"{found.level:.0%} interval"
        head = [found.column, "test", "control", "lift", interval, "p", "verdict"]
        rows = [_level(cell, comparison, unit, truth) for cell, comparison in shown]
        lines += table([[*head, "truth"] if truth else head, *rows])
        lines += paragraph(
            "Intervals hold for all levels at once (Bonferroni); p and verdict "
            "are corrected for their number (Holm)."
        )
    if hidden := [shortened(c.level) for c in found.cells if c.comparison is None]:
        lines += paragraph(
            f"Suppressed (fewer than {lift.k} users in an arm, or lost in the noise): "
            f"{', '.join(hidden)}."
        )
    if found.interaction is not None:
        test = found.interaction
        says = "differs" if test.differs(lift.level) else "no evidence that it differs"
        lines += paragraph(
            f"Lift between levels: {says} (Q = {test.q:.1f} on {test.df}, {p_is(test.p_value)})."
        )
    return lines


def _level(cell: Cell, found: Comparison, unit: Unit, truth: Mapping[str, float]) -> list[str]:
    row = [
        shortened(cell.level),
        unit.plain(found.test.rate) + " %",
        unit.plain(found.control.rate) + " %",
        unit.signed(found.absolute.value) + " pp",
        unit.between(found.absolute.interval),
        "" if cell.p_holm is None else p_text(cell.p_holm),
        cell.verdict.value,
    ]
    if truth:
        row.append(unit.signed(truth[cell.level]) if cell.level in truth else "")
    return row


def _sample_ratio(found: SampleRatio) -> list[str]:
    says = (
        "the arms' sizes CONTRADICT that: do not trust the lift before the assignment is "
        "explained, or declare the right `lift.ratio`"
        if found.suspicious
        else "in agreement"
    )
    text = (
        f"Sample ratio: {found.observed:.4f} test users for each control user, expected "
        f"{found.declared:g}; {p_is(found.p_value)}: {says}."
    )
    return ["", rule(), *paragraph(text, " ")]
