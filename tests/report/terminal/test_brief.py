"""The brief fits a screen and says what must not be missed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.page.runs import contents, measured, withheld, written
from twinweave.report.contents import Contents
from twinweave.report.page.material import Material
from twinweave.report.terminal.brief import LINES, brief
from twinweave.report.terminal.text import WIDTH

TABLES = measured()


@pytest.fixture(scope="module")
def found() -> Contents:
    whole = contents(TABLES)
    files = {"page": "runs/4f2a/report.html", "report": "runs/4f2a/report.json"}
    return replace(whole, facts=replace(whole.facts, files=files))


def told(found: Contents, folder: Path) -> str:
    text = brief(Material.of(written(folder, found, TABLES)))
    assert len(text.splitlines()) <= LINES
    assert max(map(len, text.splitlines())) <= WIDTH
    return text


def test_it_says_verdicts_cost_and_where_the_rest_is(found: Contents, tmp_path: Path) -> None:
    text = told(found, tmp_path)
    for part in (
        "bought, t",
        "LIFT",
        "UNRESOLVED",
        "epsilon 0.9987 of 1",
        "3,000 rows by tvae",
        "parity difference",
        "tables handed out",
        "! The budget guard is off at a",
        "runs/4f2a/report.html",
        "runs/4f2a/synthetic",
    ):
        assert part in text, part


def test_withheld_tables_are_not_missed(found: Contents, tmp_path: Path) -> None:
    text = told(withheld(found), tmp_path)
    assert "TABLES WITHHELD" in text
    assert "! The synthetic tables are withheld. a: copies" in text


def test_many_comparisons_and_warnings_are_cut(found: Contents, tmp_path: Path) -> None:
    assert found.lift is not None
    one = found.lift.conversions[0]
    many = tuple(replace(one, conversion=f"{'long' * 12}{i}") for i in range(20))
    doubts = tuple(f"a doubt {i} {'that goes on and on ' * 20}" for i in range(9))
    lift = replace(found.lift, conversions=(replace(many[0], doubts=doubts), *many[1:]))
    text = told(replace(found, lift=lift), tmp_path)
    assert "more in the report" in text


def test_a_bare_run_is_told(found: Contents, tmp_path: Path) -> None:
    assert "noisy tables" in told(Contents(facts=found.facts), tmp_path)
