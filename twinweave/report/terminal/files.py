"""The summary's list of the files that the run has written."""

from __future__ import annotations

from collections.abc import Mapping

from twinweave.report.terminal.text import rule


def files_section(files: Mapping[str, str]) -> list[str]:
    """One line a file. files: what it is, and its path (which may be longer than the page)."""
    if not files:
        return []
    width = max(len(what) for what in files)
    return ["", rule(), *(f" {what:<{width}}   {path}" for what, path in files.items())]
