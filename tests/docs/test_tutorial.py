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


def test_the_tutorial_goes_as_it_says(checkout: Path) -> None:
    outputs = [(one, typed(one, checkout)) for page in PLAYED for one in shown(page)]
    for one, said in outputs:
        assert SAID.get(one.module, "") in said, f"{one}\n{said}"
    first, second = (said for one, said in outputs if one.module == "scripts.describe")
    assert "'town' of advertiser" in first
    assert "'town' of advertiser" not in second
    run = twinweave.load(checkout / "measured")
    assert run.report["lift"]["conversions"][0]["overall"]["absolute"]["value"] > 0
    assert twinweave.load(checkout / "synthetic").status == "finished"
    for name in ("lift.html", "more.csv", "guard.db"):
        assert (checkout / name).stat().st_size > 0


def typed(one: Shown, folder: Path) -> str:
    """What a command, or a program, prints in that folder."""
    words = ["-m", one.module, *one.words] if one.module else ["-c", one.text]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{one}\n{done.stdout}"
    return done.stdout
