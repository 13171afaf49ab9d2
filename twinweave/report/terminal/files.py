"""The summary's list of the files that the run has written."""

from __future__ import annotations

from twinweave.report.contents import RunFacts
from twinweave.report.terminal.text import rule


def files_section(facts: RunFacts) -> list[str]:
    """One line a file: what it is, and its path (which may be longer than the page)."""
    synthetic = {f"synthetic {name}": path for name, path in facts.synthetic.items()}
    files = {**facts.files, **synthetic}
    if not files:
        return []
    width = max(len(what) for what in files)
    return ["", rule(), *(f" {what:<{width}}   {path}" for what, path in files.items())]
