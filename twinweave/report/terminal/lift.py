"""The summary's sections on the lift: each conversion and value, matched shares, sample ratio."""

from __future__ import annotations

from collections.abc import Sequence

from twinweave.analysis.lift.results import (
    ConversionLift,
    LiftReport,
    MatchRate,
    MatchState,
    SampleRatio,
    ValueLift,
)
from twinweave.report.contents import RunFacts
from twinweave.report.display import Shown, shown_finding
from twinweave.report.terminal.breakdowns import CORRECTED, breakdown_tables
from twinweave.report.terminal.clusters import clusters_section
from twinweave.report.terminal.comparisons import (
    Wording,
    among_matched,
    several_arms,
    two_arms,
)
from twinweave.report.terminal.text import Unit, level_text, p_is, paragraph, rule, unit_for
from twinweave.workload.analyses import CONTROL


def lift_section(lift: LiftReport, facts: RunFacts) -> list[str]:
    """Lines of at most WIDTH characters. A known true lift stands beside its estimate."""
    *treated, control = (f"{' + '.join(levels)} ({arm})" for arm, levels in lift.arms.items())
    arms = f"{', '.join(treated)} against {control}"
    lines = [*paragraph(f"{lift.membership}: {arms}", " ")]
    if lift.hidden and len(lift.hidden) < len(lift.arms) - 1:
        why = f"fewer than {lift.k} users, or lost in the noise"
        lines += paragraph(f"not shown: {', '.join(lift.hidden)} ({why})", " ")
    for name in dict.fromkeys(c.conversion for c in lift.conversions):
        conversions = [c for c in lift.conversions if c.conversion == name]
        lines += _outcome(conversions, _of_rates(name, conversions), lift, facts)
    for name in dict.fromkeys(v.column for v in lift.values):
        values = [v for v in lift.values if v.column == name]
        lines += _outcome(values, _of_means(name, values), lift, facts)
    if lift.correction:
        lines += ["", rule(), *paragraph(lift.correction, " ")]
    outcomes: list[ConversionLift | ValueLift] = [*lift.conversions, *lift.values]
    if any(one.breakdowns for one in outcomes):
        lines += ["", *paragraph(CORRECTED, " ")]
    for rate in lift.match_rates:
        lines += _match_rate(rate, lift)
    if lift.sample_ratio is not None:
        lines += _sample_ratio(lift.sample_ratio)
    if lift.clusters is not None:
        lines += clusters_section(lift.clusters)
    for note in lift.notes:
        lines += ["", *paragraph(f"Note: {note}", " ")]
    return lines


def _outcome(
    every: Sequence[ConversionLift | ValueLift],
    wording: Wording | None,
    lift: LiftReport,
    facts: RunFacts,
) -> list[str]:
    """One outcome. every: of each two arms; wording: None where none is shown."""
    if wording is None:
        return _not_shown(_name(every[0]), lift)
    name, (first, *others) = wording.name, every
    if first.overall is not None and not others:
        truth = facts.truth.get(name)
        lines = two_arms(first, first.overall, wording, lift.level, truth)
    else:
        lines = several_arms(every, wording, lift.level)
    if isinstance(first, ValueLift) and name in facts.clips:
        lines += _clip(first, facts.clips[name])
    lines += among_matched(every, wording.points)
    control = [one for one in every if one.against == CONTROL]
    known = {} if others else facts.truth_by.get(name, {})
    return lines + breakdown_tables(control, name, lift.k, known)


def _name(one: ConversionLift | ValueLift) -> str:
    return one.conversion if isinstance(one, ConversionLift) else one.column


def _error(every: Sequence[ConversionLift | ValueLift]) -> float | None:
    """The largest standard error that is shown."""
    return max((one.overall.standard_error for one in every if one.overall), default=None)


def _of_rates(name: str, every: Sequence[ConversionLift]) -> Wording | None:
    if (error := _error(every)) is None:
        return None
    return Wording(
        name=name,
        what="users who converted",
        total="conversions",
        rate="rate",
        rates=unit_for(error, scale=100.0, suffix=" %"),
        points=unit_for(error, scale=100.0, suffix=" pp"),
    )


def _of_means(name: str, every: Sequence[ValueLift]) -> Wording | None:
    if (error := _error(every)) is None:
        return None
    low, high = every[0].clipped_to
    unit = unit_for(error, scale=1.0, suffix="")
    return Wording(
        name=name,
        what=f"mean per user, clipped to {low:,g} to {high:,g}, 0 without one",
        total="sum",
        rate="mean",
        rates=unit,
        points=unit,
    )


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
        f"({level_text(lift.level)} intervals);{balance} "
        f"{_SAYS[found.state].format(party=found.party)}. "
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
        case [_, _, *_]:
            who = "Both arms have" if len(lift.arms) == 2 else f"{' and '.join(lift.hidden)} have"
            why = (
                f"{who} fewer than {lift.k} users, or their sizes are lost in the noise: "
                "a larger epsilon or larger tables would show them."
            )
        case _:
            why = f"An arm has fewer than {lift.k} users with an amount, or the noise hides them."
    return ["", rule(), f" {name}: not shown", *paragraph(why)]


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
