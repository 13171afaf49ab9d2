"""The terminal summary of a run: a measurement team reads this first."""

from __future__ import annotations

from collections.abc import Mapping

from strategies.planning import Selected
from twinweave.analysis.lift import Breakdown, Cell, Comparison, LiftReport, SampleRatio, Verdict
from twinweave.analysis.synthetic import SyntheticFindings
from twinweave.report.json import RunFacts
from twinweave.report.terminal.selection import selection_section
from twinweave.report.terminal.synthetic import synthetic_section
from twinweave.report.terminal.text import (
    WIDTH,
    Unit,
    p_is,
    p_text,
    paragraph,
    percent,
    relative_text,
    rule,
    shortened,
    table,
    unit_for,
    whole,
)

_SAYS = {
    Verdict.LIFT: "LIFT",
    Verdict.HARM: "HARM",
    Verdict.INCONCLUSIVE: "INCONCLUSIVE",
}


def render(
    lift: LiftReport | None,
    facts: RunFacts,
    synthetic: SyntheticFindings | None = None,
    selected: Selected | None = None,
) -> str:
    """The whole summary, lines of at most WIDTH characters (paths may be longer)."""
    lines = _heading(facts)
    if lift is not None:
        lines += _findings(lift, facts)
    if selected is not None:
        lines += selection_section(selected.scores, selected.choice)
    tables: Mapping[str, str] = {}
    if synthetic is not None:
        lines += synthetic_section(synthetic)
        tables = {f"synthetic {name}": path for name, path in synthetic.tables.items()}
    lines += _privacy(facts)
    lines += _files({**facts.files, **tables})
    return "\n".join([*lines, rule("═"), ""])


def _heading(facts: RunFacts) -> list[str]:
    right = f"{facts.data} · run {facts.run}"
    sizes = ", ".join(f"{party} {n:,} rows" for party, n in facts.sizes.items())
    took = "" if facts.seconds is None else f"; {facts.seconds:.0f} s"
    return [
        rule("═"),
        f" TWINWEAVE{right:>{WIDTH - 11}} ",
        rule("═"),
        *paragraph(f"{sizes}; {facts.tables} tables of {facts.cells:,} cells measured{took}", " "),
    ]


def _findings(lift: LiftReport, facts: RunFacts) -> list[str]:
    arms = f"{' + '.join(lift.test)} (test) against {' + '.join(lift.control)} (control)"
    lines = [*paragraph(f"{lift.membership}: {arms}", " ")]
    for outcome in lift.conversions:
        name = outcome.conversion
        truth = facts.truth.get(name)
        lines += _section(name, "users who converted", outcome.overall, lift, truth, None)
        for breakdown in outcome.breakdowns:
            known = facts.truth_by.get(name, {}).get(breakdown.column, {})
            lines += _breakdown(breakdown, name, lift, known)
    for value in lift.values:
        low, high = value.clipped_to
        what = f"mean per user, clipped to {low:,g} to {high:,g}"
        lines += _section(
            value.column,
            what,
            value.overall,
            lift,
            facts.truth.get(value.column),
            unit_for(_error(value.overall), scale=1.0, suffix=""),
        )
    lines += _sample_ratio(lift.sample_ratio)
    for note in lift.notes:
        lines += ["", *paragraph(f"Note: {note}", " ")]
    return lines


def _section(
    name: str,
    what: str,
    found: Comparison | None,
    lift: LiftReport,
    truth: float | None,
    unit: Unit | None,
) -> list[str]:
    """One outcome. unit: of a value; None for a conversion, whose rates are percentages."""
    if found is None:
        why = f"An arm has fewer than {lift.k} users, or its size is lost in the noise."
        return ["", rule(), f" {name}: not shown", *paragraph(why)]
    rates = unit or unit_for(found.standard_error, scale=100.0, suffix=" %")
    points = unit or unit_for(found.standard_error, scale=100.0, suffix=" pp")
    headline = f" {name} ({what}): {_SAYS[found.verdict]}"
    return [
        "",
        rule(),
        headline + f"{p_is(found.p_value)} ".rjust(WIDTH - len(headline)),
        rule(),
        *_arms(found, rates, lift.level, "conversions" if unit is None else "sum"),
        "",
        *_effects(found, points, lift.level, truth),
        "",
        *_errors(found, points),
    ]


def _arms(found: Comparison, rates: Unit, level: float, total: str) -> list[str]:
    rate = "rate" if total == "conversions" else "mean"
    rows = [["arm", "users", total, rate, f"{level:.0%} interval"]]
    for name, arm in (("test", found.test), ("control", found.control)):
        rows.append(
            [
                name,
                whole(arm.n),
                whole(arm.total),
                rates.plain(arm.rate) + rates.suffix,
                rates.between(arm.interval, signed=False),
            ]
        )
    return table(rows)


def _effects(found: Comparison, points: Unit, level: float, truth: float | None) -> list[str]:
    rows = [["", "estimate", f"{level:.0%} interval", *(["truth"] if truth is not None else [])]]
    absolute = found.absolute
    row = [
        "absolute lift",
        points.signed(absolute.value) + points.suffix,
        points.between(absolute.interval),
    ]
    if truth is not None:
        inside = absolute.interval[0] <= truth <= absolute.interval[1]
        row.append(f"{points.signed(truth)}{points.suffix} ({'inside' if inside else 'OUTSIDE'})")
    rows.append(row)
    if found.relative is not None:
        value = found.relative.value
        shown = "unknown" if value is None else percent(value)
        rows.append(["relative lift", shown, relative_text(found.relative)])
    low, high = found.incremental.interval
    rows.append(["incremental", f"{found.incremental.value:+,.0f}", f"{low:+,.0f} to {high:+,.0f}"])
    return table(rows)


def _errors(found: Comparison, points: Unit) -> list[str]:
    ratio = found.noise_sd / found.sampling_error if found.sampling_error else float("inf")
    wider = found.standard_error / found.sampling_error - 1 if found.sampling_error else ratio
    suffix = points.suffix
    return [
        *paragraph(
            f"Standard error: {points.plain(found.sampling_error)}{suffix} from sampling, "
            f"{points.plain(found.noise_sd)}{suffix} from privacy noise ({ratio:.2f} times; "
            f"the interval is {wider:.0%} wider for it)."
        ),
        *paragraph(f"Smallest lift found with 80% power: {points.plain(found.mde)}{suffix}."),
    ]


def _breakdown(
    found: Breakdown, conversion: str, lift: LiftReport, truth: Mapping[str, float]
) -> list[str]:
    shown = [c for c in found.cells if c.comparison is not None]
    hidden = [c.level for c in found.cells if c.comparison is None]
    lines = ["", f"  {conversion} by {found.column}"]
    if shown:
        worst = max(_error(c.comparison) for c in shown)
        unit = unit_for(worst, scale=100.0, suffix=" pp")
        head = [
            found.column,
            "test",
            "control",
            "lift",
            f"{found.level:.0%} interval",
            "p",
            "verdict",
            *(["truth"] if truth else []),
        ]
        lines += table([head, *(_cell(c, unit, truth) for c in shown)])
        lines += paragraph(
            "Intervals hold for all levels at once (Bonferroni); p and verdict "
            "are corrected for their number (Holm)."
        )
    if hidden:
        names = ", ".join(shortened(level) for level in hidden)
        lines += paragraph(
            f"Suppressed (fewer than {lift.k} users in an arm, or lost in the noise): {names}."
        )
    if found.interaction is not None:
        test = found.interaction
        says = "differs" if test.p_value < 1 - lift.level else "no evidence that it differs"
        lines += paragraph(
            f"Lift between levels: {says} (Q = {test.q:.1f} on {test.df}, {p_is(test.p_value)})."
        )
    return lines


def _cell(cell: Cell, unit: Unit, truth: Mapping[str, float]) -> list[str]:
    found = cell.comparison
    assert found is not None
    assert cell.p_holm is not None
    row = [
        shortened(cell.level),
        unit.plain(found.test.rate) + " %",
        unit.plain(found.control.rate) + " %",
        unit.signed(found.absolute.value) + " pp",
        unit.between(found.absolute.interval),
        p_text(cell.p_holm),
        cell.verdict.value,
    ]
    if truth:
        row.append(unit.signed(truth[cell.level]) if cell.level in truth else "")
    return row


def _sample_ratio(found: SampleRatio | None) -> list[str]:
    if found is None:
        return []
    says = (
        "the arms' sizes CONTRADICT the declared ratio: do not trust the lift before the "
        "assignment is explained"
        if found.suspicious
        else "as declared"
    )
    return [
        "",
        rule(),
        *paragraph(
            f"Sample ratio: {found.observed:.4f} test users for each control user, declared "
            f"{found.declared:g}; {p_is(found.p_value)}: "
            f"{says}.",
            " ",
        ),
    ]


def _privacy(facts: RunFacts) -> list[str]:
    spent = facts.ledger.get("epsilon")
    stages = facts.ledger.get("epsilon_by_stage", {})
    parties = facts.ledger.get("epsilon_by_party", {})
    rows = [
        ["privacy, per user", "epsilon", "delta"],
        ["budget", f"{facts.epsilon:g}", f"{facts.delta:g}"],
        ["spent in all", _epsilon(spent), f"{facts.delta:g}"],
    ]
    rows += [[f"  stage {stage}", _epsilon(e)] for stage, e in stages.items()]
    rows += [[f"  users of {party}", _epsilon(e)] for party, e in parties.items()]
    lines = ["", rule(), *table(rows, indent=" ")]
    if off := [party for party, state in facts.guards.items() if state == "off"]:
        lines += paragraph(
            f"guard: off ({', '.join(off)}): nothing stops the next run on the same data from "
            "spending again. Right for public or simulated data only.",
            " ",
        )
    else:
        lines += paragraph("guard: on at every party; runs on the same data add up.", " ")
    return lines


def _files(files: Mapping[str, str]) -> list[str]:
    if not files:
        return []
    width = max(len(what) for what in files)
    return ["", rule(), *(f" {what:<{width}}   {path}" for what, path in files.items())]


def _epsilon(epsilon: float | None) -> str:
    return "infinite" if epsilon is None else f"{epsilon:.4f}"


def _error(found: Comparison | None) -> float:
    return 0.0 if found is None else found.standard_error
