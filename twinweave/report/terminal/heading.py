"""The summary's first lines: which run, on what, how large."""

from __future__ import annotations

from twinweave.report.contents import RunFacts
from twinweave.report.terminal.text import WIDTH, paragraph, rule


def heading(facts: RunFacts) -> list[str]:
    """Lines of at most WIDTH characters."""
    right = f"{facts.data} · run {facts.run}"
    sizes = ", ".join(f"{party} {n:,} rows" for party, n in facts.sizes.items())
    took = "" if facts.seconds is None else f"; {facts.seconds:.0f} s"
    return [
        rule("═"),
        f" TWINWEAVE{right:>{WIDTH - 11}} ",
        rule("═"),
        *paragraph(f"{sizes}; {facts.tables} tables of {facts.cells:,} cells measured{took}", " "),
    ]
