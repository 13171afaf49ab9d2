"""What the site does to a page, and what it refuses. `make site` builds it, strictly."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts.pages.hook import without_outside_links
from scripts.pages.notes import listed
from scripts.pages.site import built, fetched, outside
from tests.source import REPOSITORY


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<link rel="preconnect" href="https://fonts.example" crossorigin>',
        '<img src="HTTP://pictures.example/x.png">',
        '<img srcset="https://pictures.example/x.png 2x">',
        "<style>@import 'https://fonts.example/css';</style>",
        '<p style="background: url(https://pictures.example/x.png)">',
        '<svg><use xlink:href="https://pictures.example/x.svg#a"/></svg>',
    ],
)
def test_what_would_be_fetched_from_another_host_is_seen(html: str) -> None:
    assert len(fetched(html)) == 1


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://flower.example">Flower</a>',
        '<script src="assets/x.js"></script><link rel="stylesheet" href="assets/x.css">',
        '<link rel="canonical" href="https://docs.example/">',
        "<p>url(https://told.example)</p>",
    ],
)
def test_what_stays_here_or_is_followed_is_not(html: str) -> None:
    assert fetched(html) == []


def test_a_style_that_fetches_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url('https://fonts.example/x.woff2') }")
    (tmp_path / "a.html").write_text("<p>nothing</p>")
    assert outside(tmp_path) == ["a.css: https://fonts.example/x.woff2"]


def test_notes_on_fields_are_a_list() -> None:
    notes = "size, weight: how much\n    of it; other: no field. colour: which. Raises: no."
    text = f"A thing.\n\n{notes}\n\nEnd."
    told = listed(text, ["size", "weight", "colour"])
    items = "- *size, weight*: how much of it; other: no field.\n- *colour*: which. Raises: no."
    assert told == f"A thing.\n\n{items}\n\nEnd."
    assert listed(text, []) == text


def test_a_link_that_leaves_the_site_is_its_text() -> None:
    text = "[a](../../tests/x.py#L1), [b](../page.md#top)"
    told = '<span title="tests/x.py">a</span>, [b](../page.md#top)'
    assert without_outside_links(text, "protocols/a.md") == told


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("# One\n\n[here](#one), [a test](../tests/x.py)", True),
        ("# One\n\n[gone](gone.md)", False),
        ("# One\n\n[nowhere](#two)", False),
        ("# One\n\n![gone](pictures/gone.svg)", False),
        ("# One\n\n::: scripts.pages.gone", False),
    ],
    ids=["whole", "link", "anchor", "picture", "module"],
)
def test_a_page_with_what_is_broken_is_not_built(text: str, whole: bool, tmp_path: Path) -> None:
    settings, _, _ = (REPOSITORY / "mkdocs.yml").read_text().partition("\nnav:\n")
    (tmp_path / "mkdocs.yml").write_text(f"{settings}\nnav: [index.md]\n")
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    (tmp_path / "docs" / "index.md").write_text(text)
    scripts = ("scripts/pages/hook.py", "scripts/pages/notes.py")
    for name in ("docs/pictures/icon.svg", "docs/pictures/site.css", *scripts):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    assert built(tmp_path / "site", tmp_path) == whole
    if whole:
        _reads_from_a_disk(tmp_path / "site")


def _reads_from_a_disk(site: Path) -> None:
    """A browser gives a page on a disk no worker and reads no JSON for it: without these two the
    search is dead there, and with it every other script of the page."""
    assert (site / "search" / "search_index.js").exists()
    page = (site / "index.html").read_text()
    assert '<script src="assets/iframe-worker.js"></script>' in page
    assert "unpkg" not in page
    assert (REPOSITORY / "docs" / "assets" / "iframe-worker.js").exists()
