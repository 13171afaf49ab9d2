"""What the pages name exists: files, modules to run, pages they link to, folders of conf/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.docs.shown import DOCS, PAGES
from tests.source import REPOSITORY

FILES = {
    f"/{path.relative_to(REPOSITORY)}"
    for package in ("clients", "server", "strategies", "twinweave", "scripts", "tests")
    for path in (REPOSITORY / package).rglob("*.py")
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    files = set(re.findall(r"`([\w/]+\.py)`", text))
    modules = set(re.findall(r"\b(scripts\.[a-z_.]+[a-z])\b", text))
    links = set(re.findall(r"\]\((?!https?:)([^)#]+)\)", text))
    lost = [name for name in files if not any(f.endswith(f"/{name}") for f in FILES)]
    lost += [name for name in modules if not _is_module(name)]
    lost += [link for link in links if not (page.parent / link).exists()]
    assert not lost


def _is_module(name: str) -> bool:
    path = REPOSITORY.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


NAMED = re.compile(r"\bdocs/[\w./-]*\w\.(?:md|yaml|svg|html|jsonl|css)\b")
SPEAKING = [
    *(path for folder in ("conf", "docs") for path in (REPOSITORY / folder).rglob("*.yaml")),
    *(REPOSITORY / name.lstrip("/") for name in sorted(FILES)),
    *(REPOSITORY / name for name in ("mkdocs.yml", "Makefile", "README.md", "CONTRIBUTING.md")),
]


def test_every_page_that_code_and_configuration_name_exists() -> None:
    named = {(path, name) for path in SPEAKING for name in NAMED.findall(path.read_text("utf-8"))}
    assert len(named) > 15
    lost = [f"{path}: {name}" for path, name in named if not (REPOSITORY / name).exists()]
    assert not [one for one in lost if not one.startswith(str(Path(__file__)))]


def test_every_page_is_in_the_menu() -> None:
    menu = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]
    assert sorted(_leaves(menu)) == sorted(
        str(page.relative_to(DOCS)) for page in PAGES if page.is_relative_to(DOCS)
    )


def _leaves(menu: object) -> list[str]:
    match menu:
        case str():
            return [menu]
        case dict():
            return [leaf for below in menu.values() for leaf in _leaves(below)]
        case list():
            return [leaf for below in menu for leaf in _leaves(below)]
    return []


def test_every_picture_says_what_it_shows() -> None:
    for page in PAGES:
        for alt in re.findall(r"!\[([^\]]*)\]\(", page.read_text()):
            assert len(alt) > 40, page
    for picture in (DOCS / "pictures").glob("*.svg"):
        text = picture.read_text()
        assert "<title>" in text, picture
        assert "prefers-color-scheme: dark" in text or picture.name == "icon.svg", picture


def test_the_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "architecture.md"} <= {page.name for page in PAGES}
