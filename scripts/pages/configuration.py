"""The reference of the configuration and of site files, from the types that hold them.

Defaults are those of conf/ where it has one, else the type's own. What a field is for stands in
its class's docstring, and else in the comment beside it in conf/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from scripts.pages.types import Field, about, as_yaml, enums, fields_of, meanings, nested, words
from twinweave.config import RunConf, compose, conf_folder
from twinweave.foresight.assumptions import PlanConf
from twinweave.site import Site

DATA = "data"
"""The group whose choices are datasets: none of them is a default for others."""
GENERATOR = "generator"
MISSING = "???"
"""Of a field of conf/ that whoever runs must set."""
CONFIGURATION = "configuration.md"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A type and its place in the configuration: the dotted path, "" for the root."""

    path: str
    cls: type
    kind: str = ""

    @property
    def title(self) -> str:
        return f"{self.path}={self.kind}" if self.kind else self.path

    @property
    def anchor(self) -> str:
        return re.sub(r"[^\w]+", "-", self.title).strip("-").lower()


def configuration() -> str:
    """Every group and field of a run, and of what `scripts.plan` takes beside it."""
    sections = [*walked(RunConf, ""), *walked(PlanConf, "plan")]
    links = {s.cls: f"[{s.title}](#{s.anchor})" for s in reversed(sections)}
    return _body(sections, links)


def site_file() -> str:
    """Every field of a site file; types that a run has too are links to its page."""
    shared = {s.cls: s for s in walked(RunConf, "")}
    own = [s for s in walked(Site, "site") if s.cls not in shared]
    links = {c: f"[{s.title}]({CONFIGURATION}#{s.anchor})" for c, s in shared.items()}
    links |= {s.cls: f"[{s.title}](#{s.anchor})" for s in own}
    return _body(own, links)


def walked(cls: type, path: str) -> list[Section]:
    """Every type below a place of the configuration, once, each group before the next."""
    return list(_walk(cls, path, set()))


def _walk(cls: type, path: str, seen: set[type], kind: str = "") -> Iterator[Section]:
    if cls in seen:
        return
    seen.add(cls)
    yield Section(path=path, cls=cls, kind=kind)
    for field in fields_of(cls):
        below = list(nested(field.type))
        for part in below:
            place = f"{path}.{field.name}".lstrip(".")
            yield from _walk(part, place, seen, _choice(part) if len(below) > 1 else "")


def _choice(cls: type) -> str:
    """Of several types of a field, the name of this one: of the file that has its values."""
    own = {f.name: f.default for f in fields_of(cls)}
    for name, values in _files(GENERATOR).items():
        if all(str(values.get(n)) == own.get(n) for n in ("name", "backend") if n in own):
            return name
    return ""


def _body(sections: Sequence[Section], links: Mapping[type, str]) -> str:
    return "".join(_section(section, links) for section in sections)


def _section(section: Section, links: Mapping[type, str]) -> str:
    level = min(2 + section.path.count("."), 4) if section.path else 2
    title = f"`{section.title}`" if section.path else "The groups"
    anchor = f" {{#{section.anchor}}}" if section.path else ""
    parts = [f"\n{'#' * level} {title}{anchor}\n"]
    if (text := about(section.cls)) and not text.startswith("conf/"):
        parts.append(f"\n{text}\n")
    if choices := _choices(section.path):
        parts.append(f"\n{choices}\n")
    parts.append("\n| field | type | default | what |\n|---|---|---|---|\n")
    fields = fields_of(section.cls)
    parts += [_row(section, field, links) for field in fields]
    parts += _values(fields)
    return "".join(parts)


def _row(section: Section, field: Field, links: Mapping[type, str]) -> str:
    note = field.note or _comment(section, field.name) or _of_its_type(field)
    default = default_of(section, field)
    shown = "*required*" if default is None else default and f"`{default}`"
    cells = (f"`{field.name}`", words(field.type, links), shown, note)
    return f"| {' | '.join(cell.replace('|', ', ') for cell in cells)} |\n"


def _of_its_type(field: Field) -> str:
    """Of a field that is a group of its own, or a list of them: what the group is for."""
    below = list(nested(field.type))
    text = about(below[0]) if len(below) == 1 else ""
    return "" if text.startswith("conf/") else re.split(r"(?<=[^.]\.)\s|:\s", text)[0]


def _values(fields: Sequence[Field]) -> Iterator[str]:
    """What the values of enumerations mean, where they say so."""
    told = set()
    for field in fields:
        for enum in enums(field.type):
            said = {value: text for value, text in meanings(enum).items() if text}
            if said and enum not in told:
                told.add(enum)
                yield f"\n`{field.name}`: " + "; ".join(
                    f"`{value}`, {text}" for value, text in said.items()
                )
                yield ".\n"


def _choices(path: str) -> str:
    """The files of a group."""
    names = [f"`{path}={name}`" for name in _files(path)] if path and "." not in path else []
    return f"Choices: {', '.join(names)}." if len(names) > 1 else ""


def default_of(section: Section, field: Field) -> str | None:
    """What a run has that says nothing; None where it must say something, "" for a group."""
    if section.path == "":
        return _chosen().get(field.name) or _plain(_at(_composed(), field.name))
    if section.kind and field.name in (own := _files(section.path)[section.kind]):
        return None if own[field.name] == MISSING else as_yaml(own[field.name])
    found = _at(_composed(), f"{section.path}.{field.name}")
    if found is not _NOTHING:
        return _plain(found)
    return field.default


def _plain(value: Any) -> str:
    return "" if isinstance(value, Mapping) and value else as_yaml(value)


_NOTHING = object()


def _at(data: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(data, Mapping) or name not in data:
            return _NOTHING
        data = data[name]
    return data


@cache
def _composed() -> dict[str, Any]:
    """A run without overrides, as conf/ has it."""
    data = compose(["output=outputs/DATE/TIME"])
    data["output"] = "outputs/DATE/TIME"
    return {name: value for name, value in data.items() if name not in (DATA, GENERATOR)}


@cache
def _chosen() -> dict[str, str]:
    """The file of each group that a run takes which names none."""
    from omegaconf import OmegaConf

    found: dict[str, str] = {}
    for entry in OmegaConf.load(conf_folder() / "run.yaml").defaults:
        found |= dict(entry) if not isinstance(entry, str) else {}
    return found


@cache
def _files(group: str) -> dict[str, dict[str, Any]]:
    """Values of each file of a group of conf/, by its name; its defaults' values with them."""
    from omegaconf import OmegaConf

    folder = conf_folder() / group
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.yaml")) if group else ():
        data: Any = OmegaConf.to_container(OmegaConf.load(file))
        found[file.stem] = data if isinstance(data, dict) else {}
    return found


def _comment(section: Section, name: str) -> str:
    """What conf/ says beside a field, in the first file of the group that says anything."""
    group, *below = section.path.split(".")
    files = [conf_folder() / "run.yaml"]
    if section.kind:
        files = [conf_folder() / group / f"{section.kind}.yaml"]
    elif group in _chosen():
        files = sorted((conf_folder() / group).glob("*.yaml"), key=lambda f: f.stem != "default")
    line = rf"^{'  ' * len(below)}{name}:[^#\n]*#\s*(.+)$"
    for file in files if group != DATA else ():
        if found := re.search(line, file.read_text(encoding="utf-8"), re.MULTILINE):
            return found[1].strip().replace(" | ", " or ")
    return ""
