"""The parts of pages that are made from the code, what makes each, and where it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.pages.commands import commands
from scripts.pages.configuration import configuration, site_file
from scripts.pages.dependencies import dependencies

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = "<!-- From here on made from the code: `python -m scripts.pages` writes it. -->\n"
PAGES: Mapping[str, Callable[[], str]] = {
    "docs/reference/configuration.md": configuration,
    "docs/reference/site-file.md": site_file,
    "docs/reference/commands.md": commands,
    "docs/reference/dependencies.md": dependencies,
}
"""What stands above the mark is written by hand."""


def written(name: str) -> str:
    """A page as it should be: its own words down to the mark, and what the code says."""
    above, mark, _ = (REPOSITORY / name).read_text(encoding="utf-8").partition(MARK)
    assert mark, f"{name} has no place for what is made"
    return above + MARK + PAGES[name]()
