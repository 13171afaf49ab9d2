"""An outcome's comparisons in words and tables: two arms in full, several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twinweave.analysis.lift.results import Comparison, ConversionLift, ValueLift
from twinweave.report.display import (
    ShownArm,
    ShownComparison,
    ShownRelative,
    shown_comparison,
)
from twinweave.report.terminal.needed import needed_text
from twinweave.report.terminal.text import (
    Unit,
    headline,
    level_text,
    p_is,
    p_text,
    paragraph,
    percent,
    table,
    told_apart,
    whole,
)

Outcome = ConversionLift | ValueLift

_ARM = 9
"""Characters of an arm's name."""


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How one outcome's numbers are called and written; points: of a difference of rates."""

    name: str
    what: str
    total: str
    rate: str
    rates: Unit
    points: Unit

    @property
    def title(self) -> str:
        return f"{self.name} ({self.what})"


def two_arms(
    one: Outcome,
    found: Comparison,
    wording: Wording,
    level: float,
    truth: float | None,
) -> list[str]:
    """Everything about one comparison. truth: the true absolute lift, where that is known."""
    shown, points, says = shown_comparison(found), wording.points, ""
    if truth is not None:
        where = "inside" if found.absolute.covers(truth) else "OUTSIDE"
        says = f"{points.signed(truth)}{points.suffix} ({where})"
    p = found.p_value if found.p_adjusted is None else found.p_adjusted
    kind = "" if p == found.p_value else "adjusted "
    return [
        *headline(f"{wording.title}: {found.verdict.upper()}", f"{kind}{p_is(p)}"),
        *_doubts(one),
        *_arms({one.arm: shown.test, one.against: shown.control}, wording, level),
        "",
        *_effects(shown, points, level, says),
        "",
        *_errors(found, points),
    ]


def several_arms(every: Sequence[Outcome], wording: Wording, level: float) -> list[str]:
    """All comparisons of one outcome that are shown."""
    named = _pairs(every)
    found = {pair: one.overall for one, pair in named if one.overall is not None}
    shown = {pair: shown_comparison(c) for pair, c in found.items()}
    points, interval = wording.points, f"{level_text(level)} interval"
    effects = [["", "lift", interval, "p", "adjusted", "verdict"]]
    relative = [["", "relative lift", interval]]
    incremental = [["", "incremental", interval]]
    errors = [["", "sampling", "noise", "ratio", "80% power"]]
    for pair, told in shown.items():
        own, absolute, more = found[pair], told.absolute, told.incremental
        effects.append(
            [
                pair,
                points.signed(absolute.value) + points.suffix,
                points.between(absolute.interval),
                p_text(own.p_value),
                "" if own.p_adjusted is None else p_text(own.p_adjusted),
                own.verdict.value,
            ]
        )
        if told.relative is not None:
            relative.append([pair, *relative_text(told.relative)])
        low, high = more.interval
        incremental.append([pair, f"{more.value:+,.0f}", f"{low:+,.0f} to {high:+,.0f}"])
        errors.append(
            [
                pair,
                points.plain(own.sampling_error),
                points.plain(own.noise_sd),
                f"{own.noise_ratio:.2f}",
                points.plain(own.mde),
            ]
        )
    return [
        *headline(wording.title, ""),
        *_doubts(every[0]),
        *_arms(_arms_of(every), wording, next(iter(found.values())).level),
        "",
        *table(effects),
        *(["", *table(relative)] if len(relative) > 1 else []),
        "",
        *table(incremental),
        "",
        *table(errors),
        *paragraph(
            f"Standard errors from sampling and from privacy noise, their ratio, and the smallest "
            f"lift found with 80% power{f', in{points.suffix}' if points.suffix else ''}. "
            f"Intervals of lifts hold for the arms of an outcome at once."
        ),
        *(line for pair, own in found.items() for line in _needed(own, pair)),
    ]


def among_matched(every: Sequence[Outcome], points: Unit) -> list[str]:
    """The lift among users whom the outcome's party holds, where it is told."""
    told = []
    for one, pair in _pairs(every):
        if one.matched is not None:
            lift, named = shown_comparison(one.matched).absolute, len(every) > 1
            told.append(
                f"{f'{pair} ' if named else ''}{points.signed(lift.value)}{points.suffix} "
                f"({points.between(lift.interval)}), {p_is(one.matched.p_value)}"
            )
    if not told:
        return []
    return paragraph(
        f"Among matched users alone: {'; '.join(told)}. "
        "Valid only if the treatment does not change who is matched."
    )


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


def _pairs(every: Sequence[Outcome]) -> list[tuple[Outcome, str]]:
    """Each comparison with its name, of which no two have the same."""
    short = told_apart([name for one in every for name in (one.arm, one.against)], _ARM)
    return [(one, f"{short[one.arm]} vs {short[one.against]}") for one in every]


def _arms_of(every: Sequence[Outcome]) -> dict[str, ShownArm]:
    """Every arm that is shown, the control last, as the first comparison with it has it: those
    with the control come first, so that all intervals have one level."""
    treated = dict.fromkeys(one.arm for one in every)
    names = [*treated, *(one.against for one in every if one.against not in treated)]
    arms: dict[str, ShownArm] = {}
    for one in every:
        if one.overall is not None:
            told = shown_comparison(one.overall)
            arms = {one.arm: told.test, one.against: told.control} | arms
    return {name: arms[name] for name in dict.fromkeys(names) if name in arms}


def _doubts(one: Outcome) -> list[str]:
    return paragraph(f"No verdict: {'; '.join(one.doubts)}.") if one.doubts else []


def _arms(arms: dict[str, ShownArm], wording: Wording, level: float) -> list[str]:
    short = told_apart(list(arms), _ARM)
    rows = [["arm", "users", wording.total, wording.rate, f"{level_text(level)} interval"]]
    rows += [_arm(short[name], arm, wording.rates) for name, arm in arms.items()]
    return table(rows)


def _arm(name: str, arm: ShownArm, rates: Unit) -> list[str]:
    rate = rates.plain(arm.rate.value) + rates.suffix
    interval = rates.between(arm.rate.interval, signed=False)
    return [name, whole(arm.n), whole(arm.total), rate, interval]


def _effects(found: ShownComparison, points: Unit, level: float, truth: str) -> list[str]:
    """truth: what is known of it, or ""."""
    absolute, incremental = found.absolute, found.incremental
    low, high = incremental.interval
    head = ["", "estimate", f"{level_text(level)} interval"]
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


def _needed(found: Comparison, pair: str = "") -> list[str]:
    if found.needed is None:
        return []
    whose = f" of {pair}" if pair else ""
    return paragraph(f"To find a lift as large as the estimate{whose}: {needed_text(found.needed)}")
