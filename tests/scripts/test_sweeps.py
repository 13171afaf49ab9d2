"""A sweep goes on past a run that fails, and ends with a table of all."""

from __future__ import annotations

import subprocess
import sys
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from scripts import sweeps
from scripts.sweeps import Row, objective_of, read_rows, table
from tests.source import REPOSITORY
from twinweave import rundir
from twinweave.config import RunConf, compose

OVERALL = {
    "noise_sd": 0.2,
    "sampling_error": 0.4,
    "verdict": "lift",
    "absolute": {"value": 0.0345, "interval": [0.01, 0.06]},
}
REPORT = {
    "privacy": {"spent": 0.999},
    "lift": {"conversions": [{"overall": None}], "values": [{"overall": OVERALL}]},
}


def test_one_bad_value_does_not_end_a_sweep(tmp_path: Path) -> None:
    """Both are refused before an engine starts; the second is asked all the same."""
    command = [sys.executable, "-m", "scripts.run", "-m", "privacy.epsilon=0,200"]
    command += [f"hydra.sweep.dir={tmp_path}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 11, done.stderr
    rows = read_rows(tmp_path)
    assert [row.overrides for row in rows] == [("privacy.epsilon=0",), ("privacy.epsilon=200",)]
    assert all(row.value is None and row.code == 11 for row in rows)
    assert "2 runs in" in done.stdout
    assert done.stdout.count("failed") == 2
    assert done.stderr.count("error: configuration 'privacy'") == 2


@pytest.mark.parametrize(("direction", "worst"), [("minimize", inf), ("maximize", -inf)])
def test_what_a_sweeper_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direction: str, worst: float
) -> None:
    """A mistake in the program too is the worst there is, and no end to the sweep."""
    told: dict[str, Any] = {
        "sweep": {"dir": str(tmp_path), "subdir": "0"},
        "overrides": {"task": ["seed=1"]},
    }
    told |= {"sweeper": {"direction": direction}, "mode": RunMode.MULTIRUN}
    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(told))

    def broken() -> RunConf:
        raise KeyError

    def finished() -> RunConf:
        rundir.write_json(tmp_path / rundir.REPORT, REPORT)
        return RunConf.parse(compose([f"output={tmp_path}"]))

    assert sweeps.outcome(broken) == worst
    assert sweeps.outcome(finished) == 0.5
    assert [(row.value, row.code) for row in read_rows(tmp_path)] == [(None, 1), (0.5, 0)]
    told["mode"] = RunMode.RUN
    with pytest.raises(KeyError):
        sweeps.outcome(broken)
    assert sweeps.outcome(finished) is None


def test_a_table_shows_what_was_varied_and_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    rundir.write_json(tmp_path / "0" / rundir.REPORT, REPORT)
    rows = [
        Row(overrides=("seed=1", "privacy.epsilon=1"), folder="0", value=0.5),
        Row(overrides=("seed=1", "+x=2"), folder="1", value=None, error="no such x.", code=11),
    ]
    lines = table(rows, tmp_path, "noise_ratio").splitlines()
    assert lines[0].split()[:3] == ["privacy.epsilon", "x", "epsilon"]
    assert lines[1].split() == ["1", "0.999", "lift", "0.0345", "0.01", "to", "0.06", "0.5", "0"]
    assert lines[2].split() == ["2", "failed", "1"]
    assert lines[3] == "1: no such x."
    other = table([rows[0]], tmp_path, "privacy.spent").splitlines()
    assert other[0].split()[-2:] == ["privacy.spent", "folder"]


def test_objectives() -> None:
    assert objective_of(REPORT, "noise_ratio") == 0.5
    assert objective_of(REPORT, "lift.values.0.overall.absolute.interval.1") == 0.06
    for name in ("lift.values.1", "lift.values.0.overall.verdict", "no.such", "lift.values.x"):
        assert objective_of(REPORT, name) is None
    assert objective_of({}, "noise_ratio") is None
