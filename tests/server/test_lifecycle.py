"""A run's directory tells how the run ended, and the terminal its progress alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from server.lifecycle import run_directory
from twinweave.config import RunConf, compose
from twinweave.errors import BudgetError


@pytest.fixture
def conf(tmp_path: Path) -> RunConf:
    return RunConf.parse(compose([f"output={tmp_path}"]))


def status(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "status.json").read_text())


def test_a_run_that_finishes(
    conf: RunConf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_directory(conf) as say:
        assert status(tmp_path)["state"] == "running"
        say("half way")
    assert status(tmp_path) == {"state": "finished"}
    assert json.loads((tmp_path / "configuration.json").read_text())["seed"] == conf.seed
    assert capsys.readouterr().out == "half way\n"
    assert "half way" in (tmp_path / "run.log").read_text()


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (BudgetError("no budget left. Ask less."), "no budget left. Ask less.", 15),
        (ValueError("a bug"), "unexpected ValueError: a bug", 1),
    ],
)
def test_a_run_that_fails(
    conf: RunConf,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: Any,
    text: str,
    code: int,
) -> None:
    with pytest.raises(type(error)), run_directory(conf):
        raise error
    assert status(tmp_path) == {"state": "failed", "error": text, "exit_code": code}
    assert f"error: {text}" in (tmp_path / "run.log").read_text()
    assert capsys.readouterr().out == ""  # whoever started the run prints it, once
