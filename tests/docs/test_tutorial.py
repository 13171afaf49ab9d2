"""The tutorial, typed: every command and program of it, in order, in a checkout of its own.

What it says that the reader will see is held to what is there; then the page for reviewers is
played on the run that the tutorial left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import twinweave
from tests.docs.shown import DOCS, Shown, shown
from tests.source import PACKAGES, REPOSITORY

PLAYED = (DOCS / "tutorial.md", DOCS / "accounting.md")
SAID = {
    "scripts.trials.dirty": "true lift +7.5 points",
    "scripts.describe": "'status' of advertiser is not that of the others",
    "scripts.check": "a run would take this table",
    "scripts.plan": "converted: test against control",
    "scripts.run": "report.html",
    "scripts.report": "lift.html",
    "scripts.audit": "advertiser",
    "scripts.sample": "5,000 rows",
    "scripts.guard": "left: one more run",
}
"""What the page says of each command's output."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's code and configuration in a folder that may be written to."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in (*PACKAGES, "conf"):
        shutil.copytree(
            REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    return folder


def test_the_tutorial_goes_as_it_says(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(checkout)
    drafts = []
    for one in (one for page in PLAYED for one in shown(page)):
        if one.text:
            exec(compile(one.text, one.page.name, "exec"), {})
            assert capsys.readouterr().out
            continue
        said = typed(one, checkout)
        assert SAID[one.module] in said, f"{one}\n{said}"
        if one.module == "scripts.describe":
            drafts.append((checkout / "conf" / "data" / "mine.yaml").read_text("utf-8"))
    assert ["£ódŸ" in draft for draft in drafts] == [True, False]
    run = twinweave.load("measured")
    assert run.report["lift"]["conversions"][0]["overall"]["absolute"]["value"] > 0
    assert twinweave.load("synthetic").status == "finished"


def typed(one: Shown, folder: Path) -> str:
    """What a command prints in that folder."""
    done = subprocess.run(
        [sys.executable, "-m", one.module, *one.words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{one}\n{done.stdout}"
    return done.stdout
