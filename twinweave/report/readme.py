"""README.md beside the synthetic tables: what may be concluded from them, for whoever gets them."""

from __future__ import annotations

from twinweave.analysis.examine import SyntheticFindings
from twinweave.report.terminal.synthetic import NO_INFERENCE, suppressed


def synthetic_readme(found: SyntheticFindings) -> str:
    """Markdown; names every column, however many."""
    lines = [
        f"# Synthetic tables by {found.generator}",
        "",
        f"{found.rows:,} rows that stand for a union of people. {NO_INFERENCE}",
    ]
    if found.suppressed:
        lines += ["", suppressed(found.suppressed)]
    if found.fidelity.unmet:
        names = "; ".join(f"`{name}`" for name in found.fidelity.unmet)
        lines += ["", f"Priority tables that the rows do not meet: {names}."]
    if found.unmeasured:
        lines += [
            "",
            "## No evidence",
            "How the lift differs by these columns was not measured, or in a few groups of their "
            "levels at most. What the rows show of it comes from the generator.",
            "",
            "| lift of | columns |",
            "|---|---|",
            *(f"| {one.outcome} | {', '.join(one.columns)} |" for one in found.unmeasured),
        ]
    return "\n".join([*lines, ""])
