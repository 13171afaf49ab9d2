"""What the pages name exists: files, modules to run, pages they link to, folders of conf/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAST = {"CHANGELOG.md"}  # it names what is no more
PAGES = sorted(
    page
    for folder in (REPOSITORY, REPOSITORY / "docs")
    for page in folder.glob("*.md")
    if page.name not in PAST
)
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


def test_the_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "architecture.md"} <= {page.name for page in PAGES}
