"""The summary's sections on the lift: each conversion and value, breakdowns, sample ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twinweave.analysis.lift.results import (
    Breakdown,
    Cell,
    Comparison,
    ConversionLift,
    LiftReport,
    MatchRate,
    MatchState,
    SampleRatio,
    ValueLift,
)
from twinweave.report.contents import RunFacts
from twinweave.report.display import (
    Shown,
    ShownArm,
    ShownComparison,
    ShownRelative,
    shown_comparison,
    shown_finding,
)
from twinweave.report.terminal.clusters import clusters_section
from twinweave.report.terminal.needed import needed_text
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
    *treated, control = (f"{' + '.join(levels)} ({arm})" for arm, levels in lift.arms.items())
    arms = f"{', '.join(treated)} against {control}"
    lines = [*paragraph(f"{lift.membership}: {arms}", " ")]
    for conversion in lift.conversions:
        lines += _conversion(conversion, lift, facts)
    for value in lift.values:
        lines += _value(value, lift, facts)
    for rate in lift.match_rates:
        lines += _match_rate(rate, lift)
    if lift.sample_ratio is not None:
        lines += _sample_ratio(lift.sample_ratio)
    if lift.clusters is not None:
        lines += clusters_section(lift.clusters)
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
        lines = _outcome(name, wording, found, outcome.doubts, lift, facts.truth.get(name))
        lines += _among_matched(outcome.matched, wording.points)
    for breakdown in outcome.breakdowns:
        known = facts.truth_by.get(name, {}).get(breakdown.column, {})
        lines += _breakdown(breakdown, name, lift, known)
    return lines


def _value(value: ValueLift, lift: LiftReport, facts: RunFacts) -> list[str]:
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
    truth = facts.truth.get(value.column)
    lines = _outcome(value.column, wording, value.overall, value.doubts, lift, truth)
    if value.column in facts.clips:
        lines += _clip(value, facts.clips[value.column])
    return lines + _among_matched(value.matched, unit)


def _clip(value: ValueLift, clip: float) -> list[str]:
    """What is estimated where amounts are clipped below their upper bound."""
    share = "noise hides how many are above"
    if value.clipped_share is not None:
        found, unit = shown_finding(value.clipped_share), Unit(scale=100, decimals=1, suffix=" %")
        between = unit.between(found.interval, signed=False)
        share = f"{unit.plain(found.value)} % of amounts are above; {between}"
    return paragraph(
        f"Mean of amounts clipped at {clip:,g} ({share}): what is compared is that mean, not the "
        "one of amounts as they are."
    )


def _among_matched(found: Comparison | None, points: Unit) -> list[str]:
    if found is None:
        return []
    lift = shown_comparison(found).absolute
    return paragraph(
        f"Among matched users alone: {points.signed(lift.value)}{points.suffix} "
        f"({points.between(lift.interval)}), {p_is(found.p_value)}. "
        "Valid only if the treatment does not change who is matched."
    )


_SAYS = {
    MatchState.BALANCED: "as balanced as chance has it",
    MatchState.UNBALANCED: "NOT BALANCED, so no verdict: find out why the arms are matched "
    "differently",
    MatchState.HARDLY_ANY: "HARDLY ANY, or lost in the noise, so no verdict: check that the "
    "parties spell the ids alike (leading zeros, case, blanks, dashes, prefixes, hashes); where so "
    "few are expected, declare whom {party} holds in `lift.holds`",
    MatchState.UNDECLARED: "NEARLY ALL of them may have converted, so no verdict: a table of "
    "converters alone is matched as unequally as it converts. Where it is one, declare "
    "`lift.holds: {{{party}: converters}}`; where it lists everyone who could have converted, "
    "`{party}: everyone`",
    MatchState.CONVERTERS: "declared to hold converters alone, so the shares need not balance",
}

_RULE = {
    MatchState.CONVERTERS: "A user who is not matched has not converted, by that declaration, and "
    "has 0 of a value."
}
_RULE_OF_MOST = "A user who is not matched counts as not converted, and as 0 of a value."


def _match_rate(found: MatchRate, lift: LiftReport) -> list[str]:
    shares = (f"{_share(shown_finding(one))} of {arm}" for arm, one in found.arms.items())
    tested = found.state in (MatchState.BALANCED, MatchState.UNBALANCED)
    balance = f" {p_is(found.p_value)}:" if tested else ""
    text = (
        f"Matched at {found.party}: {', '.join(shares)} "
        f"({lift.level:.0%} intervals);{balance} {_SAYS[found.state].format(party=found.party)}. "
        f"{_RULE.get(found.state, _RULE_OF_MOST)}"
    )
    return ["", rule(), *paragraph(text, " ")]


def _share(one: Shown) -> str:
    low, high = one.interval
    return f"{one.value:.1%} ({low:.1%} to {high:.1%})"


def _not_shown(name: str, lift: LiftReport) -> list[str]:
    match lift.hidden:
        case [arm]:
            why = f"The {arm} arm has fewer than {lift.k} users, or its size is lost in the noise."
        case [_, _]:
            why = (
                f"Both arms have fewer than {lift.k} users, or their sizes are lost in the noise: "
                "a larger epsilon or larger tables would show them."
            )
        case _:
            why = f"An arm has fewer than {lift.k} users with an amount, or the noise hides them."
    return ["", rule(), f" {name}: not shown", *paragraph(why)]


def _outcome(
    name: str,
    wording: _Wording,
    found: Comparison,
    doubts: Sequence[str],
    lift: LiftReport,
    truth: float | None,
) -> list[str]:
    shown, points, says = shown_comparison(found), wording.points, ""
    if truth is not None:
        where = "inside" if found.absolute.covers(truth) else "OUTSIDE"
        says = f"{points.signed(truth)}{points.suffix} ({where})"
    why = paragraph(f"No verdict: {'; '.join(doubts)}.") if doubts else []
    return [
        *headline(f"{name} ({wording.what}): {found.verdict.upper()}", p_is(found.p_value)),
        *why,
        *_arms(shown, wording, lift.level),
        "",
        *_effects(shown, wording.points, lift.level, says),
        "",
        *_errors(found, wording.points),
    ]


def _arms(found: ShownComparison, wording: _Wording, level: float) -> list[str]:
    rows = [["arm", "users", wording.total, wording.rate, f"{level:.0%} interval"]]
    rows += [_arm("test", found.test, wording.rates), _arm("control", found.control, wording.rates)]
    return table(rows)


def _arm(name: str, arm: ShownArm, rates: Unit) -> list[str]:
    rate = rates.plain(arm.rate.value) + rates.suffix
    interval = rates.between(arm.rate.interval, signed=False)
    return [name, whole(arm.n), whole(arm.total), rate, interval]


def _effects(found: ShownComparison, points: Unit, level: float, truth: str) -> list[str]:
    """truth: what is known of it, or ""."""
    absolute, incremental = found.absolute, found.incremental
    low, high = incremental.interval
    head = ["", "estimate", f"{level:.0%} interval"]
    row = [
        "absolute lift",
        points.signed(absolute.value) + points.suffix,
        points.between(absolute.interval),
    ]
    rows = [[*head, "truth"], [*row, truth]] if truth else [head, row]
    if found.relative is not None:
        rows.append(["relative lift", *relative_text(found.relative)])
    rows.append(["incremental", f"{incremental.value:+,.0f}", f"{low:+,.0f} to {high:+,.0f}"])
    return table(rows)


def relative_text(found: ShownRelative) -> tuple[str, str]:
    """A relative lift and its confidence set in words; it need not be one bounded interval."""
    value = "unknown" if found.value is None else percent(found.value)
    if not found.pieces:
        return value, "not known: the control may be 0"
    match found.pieces:
        case ((_, float(below)), (above, _)):  # all but a gap: the noise allows a control of 0
            gap = f"{percent(below)} to {percent(above)}"
            return value, f"not known: the control may be 0; not {gap}"
    ((low, high),) = found.pieces
    if high is None:
        return value, f"{percent(low)} or more"
    if low <= -1 < high:
        return value, f"{percent(high)} or less"
    return value, f"{percent(low)} to {percent(high)}"


def _errors(found: Comparison, points: Unit) -> list[str]:
    suffix = points.suffix
    return [
        *paragraph(
            f"Standard error: {points.plain(found.sampling_error)}{suffix} from sampling, "
            f"{points.plain(found.noise_sd)}{suffix} from privacy noise "
            f"({found.noise_ratio:.2f} times; the interval is {found.widening:.0%} wider for it)."
        ),
        *paragraph(f"Smallest lift found with 80% power: {points.plain(found.mde)}{suffix}."),
        *_needed(found),
    ]


def _needed(found: Comparison) -> list[str]:
    if found.needed is None:
        return []
    return paragraph(f"To find a lift as large as the estimate: {needed_text(found.needed)}")


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
    told = shown_comparison(found)
    row = [
        shortened(cell.level),
        unit.plain(told.test.rate.value) + " %",
        unit.plain(told.control.rate.value) + " %",
        unit.signed(told.absolute.value) + " pp",
        unit.between(told.absolute.interval),
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
    arms = "; ".join(
        f"{found.observed[arm]:.4f} {arm} users for each control user, expected {ratio:g}"
        for arm, ratio in found.declared.items()
    )
    text = f"Sample ratio: {arms}; {p_is(found.p_value)}: {says}."
    return ["", rule(), *paragraph(text, " ")]
