"""Pages that are made from the code are what the code says; what they rest on is told apart."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import pytest

from scripts.pages import configuration
from scripts.pages.dependencies import licences_on, pins
from scripts.pages.generated import PAGES, REPOSITORY, written
from scripts.pages.types import about, fields_of, meanings, words
from tests.source import imports, modules

NOT_OPEN_SOURCE = {"sdv", "copulas", "ctgan", "deepecho", "rdt"}
"""What the page says of these is written by hand."""


@pytest.mark.parametrize("name", PAGES)
def test_a_made_page_is_what_the_code_says(name: str) -> None:
    assert (REPOSITORY / name).read_text() == written(name), "run `python -m scripts.pages`"


def test_every_field_of_a_run_is_on_the_page() -> None:
    page = configuration.configuration()
    rows = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert {"epsilon", "cross_tables", "breakdowns", "na_values", "micro_batch", "rates"} <= rows
    assert "| `epsilon` | number | `1` | for the whole run, per user" in page
    anchors = set(re.findall(r"\{#([\w-]+)\}", page))
    assert set(re.findall(r"\]\(#([\w-]+)\)", page)) <= anchors


@pytest.mark.parametrize("made", [configuration.configuration, configuration.site_file])
def test_every_field_says_what_it_is_for(made: Callable[[], str]) -> None:
    rows = [line.split(" | ") for line in made().splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows if len(row[-1].strip(" |")) < 3] == []
    notes = [(row[0], word) for row in rows for word in ("soft: ", "writes: ") if word in row[-1]]
    assert notes == [], "a note runs into that of what is no field"


class Colour(StrEnum):
    RED = "red"  # warm
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A thing.

    size, weight (in kg): how much of it; colour: which.
    It stays in one line.
    """

    size: int
    weight: float = 1.5
    colour: Colour | None = None
    parts: tuple[str, ...] = ()


def test_a_type_is_read_as_its_docstring_says() -> None:
    assert about(Thing) == "A thing."
    size, weight, colour, parts = fields_of(Thing)
    assert size.default is None
    assert (weight.default, weight.note) == ("1.5", "how much of it;")
    assert words(colour.type, {}) == "`red` or `blue` or `null`"
    assert colour.note == "which. It stays in one line."
    assert words(parts.type, {}) == "list of text"
    assert meanings(Colour) == {"red": "warm", "blue": ""}


def test_every_pinned_package_has_its_licence_on_the_page() -> None:
    known = licences_on((REPOSITORY / "docs/reference/dependencies.md").read_text())
    assert {p.key for p in pins()} == set(known)
    assert "not installed" not in known.values()
    assert {name for name, licence in known.items() if licence == "BUSL-1.1"} == NOT_OPEN_SOURCE


def test_what_is_not_open_source_is_used_where_the_page_says() -> None:
    """No run imports it by itself; SDMetrics, which imports copulas, is of a full audit alone."""
    apps = ("twinweave", "clients", "server", "strategies")
    sought = {*NOT_OPEN_SOURCE, "sdmetrics"}
    used = {
        (name.split(".")[0], module)
        for module, path in modules(*apps)
        if any(name in path.read_text() for name in sought)  # few: the others are not parsed
        for name in imports(module, path)
        if name.split(".")[0] in sought
    }
    assert used == {("sdmetrics", "twinweave.analysis.fidelity.quality")}
