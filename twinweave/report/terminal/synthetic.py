"""The summary's section on the synthetic data: same story as the measurements, and how fair."""

from __future__ import annotations

from twinweave.analysis.examine import SyntheticFindings
from twinweave.analysis.fairness.audit import FairnessReport, GroupFairness
from twinweave.analysis.fidelity.evidence import Unmeasured
from twinweave.analysis.fidelity.tables import FidelityReport
from twinweave.analysis.finding import Finding
from twinweave.analysis.lift.agreement import SyntheticEffect, SyntheticLift, SyntheticOutcome
from twinweave.report.terminal.text import (
    headline,
    level_text,
    paragraph,
    shortened,
    table,
    unit_for,
)

_SHOWN_WORST = 3
_SHOWN_UNMEASURED = 4

NO_INFERENCE = (
    "They are no people: an interval or p-value computed from rows as if they were is wrong "
    "(95% intervals of relations that were not measured held the truth in 20 to 90% of cases). "
    "run.infer gives valid ones."
)


def synthetic_section(found: SyntheticFindings) -> list[str]:
    """Lines of at most WIDTH characters."""
    held = ", ".join(f"{n:,} at {party}" for party, n in found.present.items())
    lines = [
        *headline(f"Synthetic data by {found.generator}", f"{found.rows:,} rows"),
        *paragraph(f"{held}. {NO_INFERENCE}"),
        *(paragraph(suppressed(found.suppressed)) if found.suppressed else []),
        "",
        *_fidelity(found.fidelity),
    ]
    if found.lift is not None and found.lift.outcomes:
        lines += ["", *_lift(found.lift)]
    for one in found.unmeasured:
        lines += paragraph(_unmeasured(one))
    if found.fairness is not None:
        lines += ["", *_fairness(found.fairness)]
    return lines


def suppressed(rows: int) -> str:
    """What there is to know of a table from which so many rows were left out."""
    return (
        f"{rows:,} rows are left out, since too few others had their quasi-identifiers: rare "
        "people are missing, and shares of the others are larger (audit.suppress)."
    )


def _fidelity(found: FidelityReport) -> list[str]:
    rows = [["tables measured", "tables", "distance", "of noise alone", "misfit"]]
    for ways in found.by_ways:
        of = "of 1 column" if ways.ways == 1 else f"of {ways.ways} columns"
        rows.append(
            [of, f"{ways.tables}", f"{ways.tvd:.4f}", f"{ways.noise_tvd:.4f}", f"{ways.chi2:.2f}"]
        )
    worst = ", ".join(
        f"{shortened(name, 60)} ({found.table(name).chi2:.1f})"
        for name in found.worst[:_SHOWN_WORST]
    )
    says = (
        "agree as far as the noise lets see"
        if found.agrees
        else "DIFFER by more than the noise explains"
    )
    unmet = [
        line
        for name in found.unmet
        for line in paragraph(
            f"PRIORITY TABLE NOT MET: {name}, misfit {found.table(name).chi2:.1f}. Do not read "
            "from the rows what this table says; read it in the measured tables."
        )
    ]
    return [
        *table(rows),
        *paragraph(
            f"Synthetic and measured tables {says}: misfit {found.chi2:.2f} over all cells, "
            f"about 1 at the truth. Distance is total variation, to the noisy table. "
            f"Largest misfit: {worst}."
        ),
        *unmet,
    ]


def _unmeasured(found: Unmeasured) -> str:
    """Which relations with the lift are the generator's own; the first few of many columns."""
    shown = ", ".join(shortened(name) for name in found.columns[:_SHOWN_UNMEASURED])
    count = len(found.columns)
    more = f" and {count - _SHOWN_UNMEASURED} more" if count > _SHOWN_UNMEASURED else ""
    return (
        f"How the lift of {shortened(found.outcome)} differs by {shown}{more} was not measured: "
        "what the rows show of it comes from the generator and is no evidence."
    )


def _lift(found: SyntheticLift) -> list[str]:
    several = len({(o.arm, o.against) for o in found.outcomes}) > 1
    rows = [["lift", "synthetic tables say", "measured interval", ""]]
    for outcome in found.outcomes:
        versus = f", {outcome.arm} vs {outcome.against}" if several else ""
        name = shortened(f"{outcome.name}{versus}", 44)
        rows.append([name, *_effect(outcome.overall, outcome.kind)])
        rows += _levels(outcome)
    return table(rows)


def _effect(found: SyntheticEffect, kind: str) -> list[str]:
    if found.lift is None or found.interval is None:
        return ["not shown", "", ""]
    low, high = found.interval
    scale, suffix = (100.0, " pp") if kind == "conversion" else (1.0, "")
    unit = unit_for((high - low) / 4, scale=scale, suffix=suffix)
    says = "inside" if found.inside else "OUTSIDE"
    return [unit.signed(found.lift) + suffix, unit.between(found.interval), says]


def _levels(outcome: SyntheticOutcome) -> list[list[str]]:
    """One line a breakdown: how many of its levels lie inside."""
    rows = []
    for column in dict.fromkeys(level.column for level in outcome.levels):
        told = [level.effect.inside for level in outcome.levels if level.column == column]
        known = [inside for inside in told if inside is not None]
        if known:
            says = "inside" if all(known) else f"{known.count(False)} OUTSIDE"
            rows.append(
                [f"  by {shortened(column)}", f"{len(known)} levels", "joint intervals", says]
            )
    return rows


def _fairness(found: FairnessReport) -> list[str]:
    lines = paragraph(
        f"Fairness of {found.label} = {found.positive}, {found.rows:,} people who "
        "have it: largest difference between two groups."
    )
    for one in found.audits:
        lines += ["", *_groups(one, found)]
    lines += paragraph(
        "Parity: of the positive rates. Odds: of true or false positive rates. "
        "The real data's interval is that of the privacy noise. "
        f"Model: {found.model}."
    )
    for note in found.notes:
        lines += paragraph(note)
    return lines


def _groups(one: GroupFairness, found: FairnessReport) -> list[str]:
    interval = f"{level_text(found.level)} interval"
    rows = [[shortened(" x ".join(one.columns), 30), "parity", interval, "odds", interval]]
    rows.append(["real data, noisy tables", *_difference(one.measured_parity)])
    rows.append(["synthetic labels", *_difference(one.label_parity)])
    for model in one.models:
        name = "model" if model.with_sensitive else "model without sensitive"
        rows.append([name, *_difference(model.parity), *_difference(model.odds)])
    lines = table(rows)
    if one.measured_left_out:
        names = ", ".join(shortened(name) for name in one.measured_left_out)
        lines += paragraph(f"Of the real data left out (too few beside the noise): {names}.")
    if one.suppressed:
        names = ", ".join(shortened(name) for name in one.suppressed)
        lines += paragraph(f"Left out (fewer than {found.k} people): {names}.")
    left = sorted({name for model in one.models for name in model.left_out})
    if left:
        lines += paragraph(
            f"Of the odds left out (fewer than {found.k} judged rows with that label): "
            f"{', '.join(left)}."
        )
    return lines


def _difference(found: Finding | None) -> list[str]:
    if found is None:
        return ["not shown", ""]
    low, high = found.interval
    return [f"{found.value:.3f}", f"{low:.3f} to {high:.3f}"]
