"""The summary's section on the synthetic data: same story as the measurements, and how fair."""

from __future__ import annotations

from twinweave.analysis.examine import SyntheticFindings
from twinweave.analysis.fidelity.evidence import Unmeasured
from twinweave.analysis.fidelity.tables import FidelityReport
from twinweave.analysis.lift.agreement import SyntheticEffect, SyntheticLift, SyntheticOutcome
from twinweave.report.terminal.fairness import fairness_section
from twinweave.report.terminal.text import (
    headline,
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
        lines += ["", *fairness_section(found)]
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
        f"How the lift of {shortened(found.outcome)} differs by {shown}{more} was not measured, "
        "or in a few groups at most: what the rows show of it comes from the generator and is no "
        "evidence."
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
