"""What the configuration's types say of themselves: fields, types, defaults, notes, values."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from scripts.pages.notes import note_on

WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a configuration type. default: as YAML writes it, None where it must be given."""

    name: str
    type: Any
    default: str | None
    note: str


def fields_of(cls: type) -> tuple[Field, ...]:
    """The fields of a dataclass in their order, its inherited ones first."""
    hints = typing.get_type_hints(cls, include_extras=True)
    notes = notes_of(cls)
    return tuple(
        Field(
            name=f.name,
            type=hints[f.name],
            default=_default(f),
            note=notes.get(f.name, ""),
        )
        for f in dataclasses.fields(cls)
        if f.init
    )


def _default(field: dataclasses.Field[Any]) -> str | None:
    if field.default is not MISSING:
        return as_yaml(field.default)
    if field.default_factory is not MISSING:
        made = field.default_factory()
        return "see there" if dataclasses.is_dataclass(made) else as_yaml(made)
    return None


def as_yaml(value: Any) -> str:
    """A value as a line of the configuration has it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Mapping():
            return "{" + ", ".join(f"{as_yaml(k)}: {as_yaml(v)}" for k, v in value.items()) + "}"
        case tuple() | list():
            return "[" + ", ".join(map(as_yaml, value)) + "]"
        case str():
            return str(value) or '""'
        case float() if value == int(value) and abs(value) < 1e6:
            return str(int(value))
        case _:
            return f"{value}"


def nested(hint: Any) -> Iterator[type]:
    """The dataclasses that a type is made of."""
    yield from filter(dataclasses.is_dataclass, _made_of(hint))


def enums(hint: Any) -> Iterator[type[Enum]]:
    """The enumerations that a type is made of."""
    yield from (part for part in _made_of(hint) if issubclass(part, Enum))


def _made_of(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and not get_args(hint):
        yield hint
    for part in () if get_origin(hint) is Literal else get_args(hint):
        yield from _made_of(part)


def words(hint: Any, name_of: Mapping[type, str]) -> str:
    """A type in words, with its allowed values. name_of: how a nested type is called, as a link."""
    if isinstance(hint, type) and hint in name_of:
        return name_of[hint]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " or ".join(f"`{member.value}`" for member in hint.__members__.values())
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(f"`{as_yaml(value)}`" for value in parts)
    if origin is typing.Annotated:
        return words(parts[0], name_of)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(
            "`null`" if part is type(None) else words(part, name_of) for part in parts
        )
    if origin is tuple and parts[-1] is not Ellipsis:
        return f"[{', '.join(words(part, name_of) for part in parts)}]"
    if origin in (tuple, list):
        return f"list of {words(parts[0], name_of)}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"map of {words(parts[0], name_of)} to {words(parts[1], name_of)}"
    return WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def notes_of(cls: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each field, `name: text` or
    `name, name: text`, at the beginning of a line or a sentence."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            found |= dict(_split(base)[1])
    return found


def about(cls: type) -> str:
    """The docstring of a class without its notes on fields; "" where it is those alone."""
    return _split(cls)[0]


def _split(cls: type) -> tuple[str, list[tuple[str, str]]]:
    names = [f.name for f in dataclasses.fields(cls)]
    note = note_on(names or ["-"])
    text, found = [], []
    for paragraph in re.split(r"\n\s*\n", _own_doc(cls)):
        starts = list(note.finditer(paragraph))
        text.append(paragraph[: starts[0].start()] if starts else paragraph)
        ends = [after.start() for after in starts[1:]] + [len(paragraph)] * bool(starts)
        for start, end in zip(starts, ends, strict=True):
            said = " ".join(paragraph[start.end() : end].split())
            found += [(name, said) for name in _named(start[1], names)]
    return "\n\n".join(" ".join(part.split()) for part in text if part.strip()), found


def _named(head: str, names: list[str]) -> list[str]:
    """The fields that a note is of."""
    return [word for word in re.findall(r"\w+", re.sub(r"\([^)]*\)", "", head)) if word in names]


def _own_doc(cls: type) -> str:
    """Its own docstring, none of a base's and none that dataclasses write."""
    doc = cls.__dict__.get("__doc__") or ""
    return "" if doc.startswith(f"{cls.__name__}(") else inspect.cleandoc(doc)


def meanings(enum: type[Enum]) -> dict[str, str]:
    """Value of each member: what the comment behind it says, "" where there is none."""
    source = inspect.getsource(enum)
    return {
        member.value: (found[1] if (found := _comment(source, name)) else "")
        for name, member in enum.__members__.items()
    }


def _comment(source: str, name: str) -> re.Match[str] | None:
    return re.search(rf"^\s*{name} = [^#\n]*#\s*(.+)$", source, re.MULTILINE)
