"""`--help` teaches in a screenful, and what it tells to type is right."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

from tests.source import REPOSITORY
from twinweave.config import RunConf, compose

LINES = 32


@pytest.fixture(scope="module")
def told() -> str:
    command = [sys.executable, "-m", "scripts.run", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout


def test_it_fits_a_screen_and_names_every_group(told: str) -> None:
    assert len(told.splitlines()) <= LINES
    assert max(map(len, told.splitlines())) <= 92
    for group in (REPOSITORY / "conf").iterdir():
        if group.is_dir() and group.name != "hydra":  # which Hydra's own help lists
            choices = ", ".join(sorted(file.stem for file in group.glob("*.yaml")))
            assert f"{group.name}: {choices}" in told


def test_its_examples_are_right(told: str) -> None:
    examples = re.findall(r"^  python -m scripts\.run(.*)$", told, flags=re.M)[1:]
    assert len(examples) == 5
    for example in examples:
        overrides = [o for o in shlex.split(example) if o != "-m"]
        if not any(o.startswith("resume=") for o in overrides):
            RunConf.parse(compose([o.partition(",")[0] for o in overrides]))


def test_what_it_points_to_exists(told: str) -> None:
    for module in re.findall(r"scripts\.(\w+)", told):
        assert (REPOSITORY / "scripts" / f"{module}.py").exists(), module
    for page in re.findall(r"docs/\w+\.md", told):
        assert (REPOSITORY / page).exists(), page
