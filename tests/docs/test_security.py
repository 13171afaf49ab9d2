"""docs/security.md promises what tests hold: its tables are made from the tests' own marks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.security.page import BROKEN, PAGE, held, written
from tests.security.threats import KINDS

MARKED = held()
LINES = {(kind, name) for kind, lines in KINDS.items() for name in lines}
NOT_BROKEN = {"together"}
"""Where nothing is defended, there is nothing to break."""


def test_the_page_is_what_the_tests_say() -> None:
    page = PAGE.read_text()
    assert page == written(page, MARKED), "run `python -m tests.security.page`"


def test_every_line_is_held_by_a_test_and_every_mark_names_a_line() -> None:
    assert {mark for mark in MARKED if mark[0] != BROKEN} == LINES
    names = {name for _, name in LINES}
    assert {name for kind, name in MARKED if kind == BROKEN} <= names


@pytest.mark.parametrize("kind", ["attack", "curious"])
def test_every_defence_has_a_variant_without_it(kind: str) -> None:
    assert {name for name in KINDS[kind] if (BROKEN, name) not in MARKED} == NOT_BROKEN & set(
        KINDS[kind]
    )


def test_a_mark_is_read_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        "@pytest.mark.attack('coins', 'mixed')\n@pytest.mark.broken('coins')\ndef test_y(): ...\n"
        "@pytest.mark.attack('no test')\ndef helper(): ...\n"
    )
    assert held(tmp_path) == {
        ("attack", "coins"): ["test_x.py::test_y"],
        ("attack", "mixed"): ["test_x.py::test_y"],
        ("broken", "coins"): ["test_x.py::test_y"],
    }
