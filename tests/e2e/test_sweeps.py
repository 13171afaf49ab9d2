"""A sweep by Optuna, two runs at once, on data whose budget is enough for two of three."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import compare
from tests.source import REPOSITORY
from twinweave.report.sweep import read_rows

CAMPAIGN = ["data.parties.0.source.campaign.users=120", "generator=none", "workload=lift"]
PRIVATE = ["privacy=default", "privacy.epsilon=8", "privacy.delta=1e-5"]


def test_runs_at_once_add_up_in_the_guard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna", reason="the extra `sweeps` is not installed")
    command = [sys.executable, "-m", "scripts.run", "-m", "engine=inprocess", *CAMPAIGN, *PRIVATE]
    command += ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra/launcher=joblib"]
    command += [f"privacy.guard.path={tmp_path / 'guard.sqlite'}", "privacy.guard.epsilon=12.8"]
    command += ["privacy.priority_share=interval(0.3,0.9)", f"hydra.sweep.dir={tmp_path / 'all'}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 15, done.stderr
    *both, bad = read_rows(tmp_path / "all")
    assert all(row.values[0] and not row.error for row in both)
    assert bad.code == 15
    assert "privacy budget" in bad.error
    assert f"{bad.folder}: {bad.error}" in done.stdout
    assert "of 12.8 in all" in done.stdout
    best = (tmp_path / "all" / "optimization_results.yaml").read_text()
    assert f"run: {min(both, key=lambda row: row.values[0] or 0).folder}" in best
    assert "TWINWEAVE" in (tmp_path / "all" / "1.log").read_text()

    assert compare.main([str(tmp_path / "all"), "--out", str(tmp_path)]) == 0
    assert "3 runs; beaten by no other: " in capsys.readouterr().out
    page = (tmp_path / "comparison.html").read_text()
    assert "of 12.8 in all" in page
    assert "privacy budget" in page
