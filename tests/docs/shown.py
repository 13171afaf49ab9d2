"""What the pages show: commands and programs, in the order in which they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.pages.generated import PAGES as MADE
from tests.source import REPOSITORY

DOCS = REPOSITORY / "docs"
TOLD = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages outside docs/. CHANGELOG.md names what is no more."""
PAGES = (*(REPOSITORY / name for name in TOLD), *sorted(DOCS.rglob("*.md")))
WRITTEN = tuple(page for page in PAGES if str(page.relative_to(REPOSITORY)) not in MADE)
"""Without those that are made from the commands' own parsers."""

_LINE = re.compile(r"^ {4,}(python -m \S.*)$", re.MULTILINE)
_PROGRAM = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A command (module and words) or a program (text) of a page."""

    page: Path
    module: str = ""
    words: tuple[str, ...] = ()
    text: str = ""

    def __str__(self) -> str:
        return " ".join((self.page.name, self.module, *self.words))


def shown(page: Path) -> Iterator[Shown]:
    """Every command in a block of a page, as a shell has its words, and every program."""
    # A continued line is one; its length is kept out of it, as the order is by place.
    text = page.read_text(encoding="utf-8").replace("\\\n", "  ")
    found: list[tuple[int, Shown]] = []
    for line in _LINE.finditer(text):
        _, _, module, *words = shlex.split(line[1], comments=True)
        found.append((line.start(), Shown(page=page, module=module, words=tuple(words))))
    for program in _PROGRAM.finditer(text):
        found.append((program.start(), Shown(page=page, text=program[1])))
    yield from (one for _, one in sorted(found, key=lambda pair: pair[0]))


def commands(*pages: Path) -> list[Shown]:
    """The commands of these pages."""
    return [one for page in pages for one in shown(page) if one.module]


def programs(*pages: Path) -> list[Shown]:
    """The programs of these pages."""
    return [one for page in pages for one in shown(page) if one.text]
