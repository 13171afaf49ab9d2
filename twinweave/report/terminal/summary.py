"""The terminal summary of a run: a measurement team reads this first."""

from __future__ import annotations

from twinweave.report.contents import Contents
from twinweave.report.terminal.files import files_section
from twinweave.report.terminal.heading import heading
from twinweave.report.terminal.lift import lift_section
from twinweave.report.terminal.privacy import privacy_section
from twinweave.report.terminal.selection import selection_section
from twinweave.report.terminal.synthetic import synthetic_section
from twinweave.report.terminal.text import rule


def summary(contents: Contents) -> str:
    """The whole summary, lines of at most WIDTH characters (paths may be longer)."""
    facts = contents.facts
    lines = heading(facts)
    if contents.lift is not None:
        lines += lift_section(contents.lift, facts)
    if contents.choice is not None:
        lines += selection_section(contents.scores, contents.choice)
    if contents.synthetic is not None:
        lines += synthetic_section(contents.synthetic)
    lines += privacy_section(facts)
    lines += files_section(facts)
    return "\n".join([*lines, rule("═"), ""])
