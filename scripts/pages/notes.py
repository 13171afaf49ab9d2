"""What the API pages change of a docstring: notes on fields and parameters become a list.

A docstring here says `name: text`, one note after the other; as Markdown they would run together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import griffe


class Notes(griffe.Extension):
    """Loaded by mkdocstrings (mkdocs.yml)."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        _listed(cls, [name for name, one in cls.members.items() if one.is_attribute])

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        _listed(func, [one.name for one in func.parameters])


def _listed(of: griffe.Object, names: Iterable[str]) -> None:
    if of.docstring is not None:
        of.docstring.value = listed(of.docstring.value, names)


def listed(text: str, names: Iterable[str]) -> str:
    """The text, in which a note on one or several of the names is an item of a list."""
    if not (known := list(names)):
        return text
    note = note_on(known)
    return "\n\n".join(_paragraph(part, note) for part in re.split(r"\n\s*\n", text))


def note_on(names: Iterable[str]) -> re.Pattern[str]:
    """Where a note begins, `name: ` or `name, name: `, at the beginning of a line or a sentence.

    Its group 1 has the names.
    """
    name = "|".join(map(re.escape, names))
    head = rf"(?:{name})(?:(?:,| and)\s+(?:{name})|\s*\([^)]*\))*"
    return re.compile(rf"(?:^|(?<=[.;] ))({head}):\s", re.MULTILINE)


def _paragraph(text: str, note: re.Pattern[str]) -> str:
    before, *notes = note.split(text)
    if not notes:
        return text
    items = [
        f"- *{head}*: {' '.join(said.split())}"
        for head, said in zip(notes[::2], notes[1::2], strict=True)
    ]
    return "\n".join([*([before.strip(), ""] if before.strip() else []), *items])
