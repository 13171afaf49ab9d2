"""Names that are taken, and files called after them: inside their folder, one for each name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinweave.errors import SchemaError
from twinweave.names import check_name, slug, slugs

ODD = (
    "../outside",
    "/absolute",
    "a/b",
    "a\\b",
    "..",
    ".",
    "x" * 300,
    "x" * 299 + "y",
    "\U0001f6d2" * 60,
    "a:b",
    "~",
)


@pytest.mark.parametrize(
    "name", ["", " a", "a\t", "a\x00b", "a\nb", "a\u200bb", "\ud800", "x" * 201]
)
def test_what_cannot_be_read_off_a_page_is_no_name(name: str) -> None:
    with pytest.raises(SchemaError, match="the name of a party") as caught:
        check_name("a party", name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", ["a", "../outside", "Größe 日本", "shop \U0001f6d2", "x" * 200])
def test_what_can_is_one(name: str) -> None:
    check_name("a party", name)


def stays_inside(called: Callable[[str], str], folder: Path) -> None:
    made = {called(name) for name in ODD}
    assert len({name.casefold() for name in made}) == len(ODD)
    for name in made:
        assert (folder / f"{name}.metadata.json").resolve().parent == folder
        (folder / f"{name}.metadata.json").write_text("")


def test_a_file_called_after_a_name_stays_in_its_folder(tmp_path: Path) -> None:
    stays_inside(slug, tmp_path)
    assert slug("bank of 日本") == "bank of 日本"


def test_the_check_catches_names_as_they_stand_and_names_cut_short(tmp_path: Path) -> None:
    """Deliberately broken variants."""
    for broken in (str, lambda name: name.replace("/", "-")[:9], lambda name: "x"):
        with pytest.raises((AssertionError, OSError)):
            stays_inside(broken, tmp_path)


@settings(max_examples=200)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=80), max_size=6, unique=True))
def test_slugs_are_short_apart_and_harmless(names: list[str]) -> None:
    made = slugs(names, taken=("joint",))
    assert len({s.casefold() for s in made.values()} | {"joint"}) == len(made) + 1
    for made_of in made.values():
        assert 0 < len(made_of.encode()) < 100
        assert not set(made_of) & set("/\\.\0:~\n")
