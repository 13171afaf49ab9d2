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
    p_is,
    p_text,
    paragraph,
    percent,
    shortened,
    table,
    whole,
)

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
    one: ConversionLift | ValueLift,
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


def several_arms(
    every: Sequence[ConversionLift | ValueLift], wording: Wording, level: float
) -> list[str]:
    """All comparisons of one outcome that are shown."""
    found = {_pair(one): one.overall for one in every if one.overall is not None}
    shown = {pair: shown_comparison(c) for pair, c in found.items()}
    points, interval = wording.points, f"{level:.0%} interval"
    arms: dict[str, ShownArm] = {}
    for one in every:
        if one.overall is not None:
            both = shown[_pair(one)]
            arms = {one.arm: both.test} | arms | {one.against: both.control}
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
        *_arms(arms, wording, level),
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
            f"Intervals hold for the arms of an outcome at once."
        ),
        *(line for pair, own in found.items() for line in _needed(own, pair)),
    ]


def among_matched(every: Sequence[ConversionLift | ValueLift], points: Unit) -> list[str]:
    """The lift among users whom the outcome's party holds, where it is told."""
    told = []
    for one in every:
        if one.matched is not None:
            lift, named = shown_comparison(one.matched).absolute, len(every) > 1
            told.append(
                f"{f'{_pair(one)} ' if named else ''}{points.signed(lift.value)}{points.suffix} "
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


def _pair(one: ConversionLift | ValueLift) -> str:
    return f"{shortened(one.arm, _ARM)} vs {shortened(one.against, _ARM)}"


def _doubts(one: ConversionLift | ValueLift) -> list[str]:
    return paragraph(f"No verdict: {'; '.join(one.doubts)}.") if one.doubts else []


def _arms(arms: dict[str, ShownArm], wording: Wording, level: float) -> list[str]:
    rows = [["arm", "users", wording.total, wording.rate, f"{level:.0%} interval"]]
    rows += [_arm(shortened(name, _ARM), arm, wording.rates) for name, arm in arms.items()]
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
