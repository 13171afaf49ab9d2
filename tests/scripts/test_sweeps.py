"""A sweep goes on past a run that fails, and ends with a table of all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from joblib import cpu_count
from omegaconf import OmegaConf

from hydra_plugins.twinweave_sweeps.optuna_sweeper import OptunaSweeper, _choices
from scripts import sweeps
from scripts.sweeps import table
from tests.source import REPOSITORY
from twinweave import rundir
from twinweave.config import RunConf, compose
from twinweave.errors import ConfigError
from twinweave.report.comparison import checked_objectives, objective_of
from twinweave.report.sweep import Row, note, read_rows

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
ROWS = {
    "fidelity": {"by_ways": [{"ways": 1, "tvd": 0.1}, {"ways": 2, "tvd": 0.25}]},
    "fairness": {"audits": [{"label_parity": {"value": v}} for v in (0.1, 0.3)]},
}


def sweep(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.run", "-m", *words]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_one_bad_value_does_not_end_a_sweep(tmp_path: Path, launcher: str) -> None:
    """Both are refused before an engine starts; the second is asked all the same."""
    asked = ["engine=inprocess", "privacy.epsilon=0,200", f"hydra/launcher={launcher}"]
    done = sweep(*asked, f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 11, done.stderr
    rows = read_rows(tmp_path)
    assert [row.overrides[1] for row in rows] == ["privacy.epsilon=0", "privacy.epsilon=200"]
    assert all(row.values == () and row.code == 11 for row in rows)
    assert "2 runs in" in done.stdout
    assert done.stdout.count("failed") == 2
    told = done.stderr if launcher == "basic" else done.stdout
    assert told.count("configuration 'privacy'") >= 2


PROGRAM = """
import json, os, pathlib, signal
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(config_path="conf", config_name="run", version_base=None)
def main(conf):
    if conf.x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    print("said", conf.x)
    out = pathlib.Path(HydraConfig.get().runtime.output_dir)
    told = [os.getpid(), os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]]
    (out / "told.json").write_text(json.dumps(told))

main()
"""


def test_a_run_that_is_killed_takes_no_other_with_it(tmp_path: Path) -> None:
    """Each in a process of its own, with its share of the cores, and its lines in a file."""
    shutil.copytree(REPOSITORY / "conf" / "hydra", tmp_path / "conf" / "hydra")
    (tmp_path / "conf" / "run.yaml").write_text("engine: inprocess\nx: 0\n")
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", "-m", "hydra/launcher=joblib", "x=1,2,3"]
    paths = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "7"}
    environment = {k: v for k, v in os.environ.items() if k != "MKL_NUM_THREADS"} | paths
    done = subprocess.run(
        [*command, "hydra.sweep.dir=all"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "all"
    (killed,) = read_rows(folder)
    assert (killed.folder, killed.code) == ("1", 18)
    assert killed.error.startswith("its process was killed")
    told = [json.loads((folder / name / "told.json").read_text()) for name in ("0", "2")]
    assert told[0][0] != told[1][0]
    assert told[0][1:] == ["7", str(max(1, cpu_count() // 2))]
    assert (folder / "2.log").read_text() == "said 3\n"
    assert "said" not in done.stdout


def test_optuna_is_asked_for_the_next_run(tmp_path: Path) -> None:
    """Every run is refused, and the search goes on to its end; no run is called the best."""
    pytest.importorskip("optuna", reason="the extra `sweeps` is not installed")
    asked = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "privacy.k=-1"]
    done = sweep(*asked, "privacy.epsilon=interval(0.5,1.0)", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 11, done.stderr
    assert len({row.overrides for row in read_rows(tmp_path)}) == 3
    best = OmegaConf.load(tmp_path / "optimization_results.yaml")
    assert best == {"name": "optuna", "best": []}


@pytest.mark.parametrize(
    ("sampler", "direction", "told"),
    [
        ("tpa", "minimize", "Give one of tpe, random, nsgaii"),
        ("tpe", ["minimize"], "does not fit the objectives"),
        ("tpe", "least", "does not fit the objectives"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(sampler: str, direction: Any, told: str) -> None:
    pytest.importorskip("optuna", reason="the extra `sweeps` is not installed")
    search = OptunaSweeper(3, 1, sampler, 0, direction, {})
    search.config = OmegaConf.create({"objective": ["utility", "fairness"]})
    with pytest.raises(ConfigError, match=told):
        search._study()


def test_a_choice_that_does_not_exist_comes_up_before_the_first_run() -> None:
    optuna = pytest.importorskip("optuna", reason="the extra `sweeps` is not installed")
    space = {
        "generator": optuna.distributions.CategoricalDistribution(["tvae", "tvea"]),
        "seed": optuna.distributions.IntDistribution(1, 3),
        "audit": optuna.distributions.CategoricalDistribution(["off", "quick"]),
    }
    assert [job[1:] for job in _choices(["engine=inprocess"], space)] == [
        ["audit=off", "generator=tvae"],
        ["audit=off", "generator=tvea"],
        ["generator=tvae", "audit=off"],
        ["generator=tvae", "audit=quick"],
    ]


def test_a_private_sweep_without_a_lasting_guard_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guard = {"mode": "on", "path": None}
    conf = {"hydra": {"sweep": {"dir": str(tmp_path)}}, "privacy": {"guard": guard}}
    sweeps.Table().on_multirun_start(OmegaConf.create(conf))
    assert capsys.readouterr().err.startswith("warning: every run of this sweep spends")
    for quiet in ({"mode": "off"}, {"path": "g.sqlite"}):
        told = conf | {"privacy": {"guard": guard | quiet}}
        sweeps.Table().on_multirun_start(OmegaConf.create(told))
    assert capsys.readouterr().err == ""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Hydra's configuration inside a sweep's run."""
    told: dict[str, Any] = {
        "sweep": {"dir": str(tmp_path), "subdir": "0"},
        "overrides": {"task": ["seed=1"]},
        "sweeper": {"direction": "minimize"},
        "mode": RunMode.MULTIRUN,
    }
    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(told))
    return told


def ended(out: Path, objective: str) -> RunConf:
    rundir.write_json(out / rundir.REPORT, REPORT)
    return RunConf.parse(compose([f"output={out}", f"objective={objective}"]))


def broken() -> RunConf:
    raise KeyError


def interrupted() -> RunConf:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("direction", "worst"), [("minimize", inf), ("maximize", -inf)])
def test_what_a_sweeper_is_told(
    tmp_path: Path,
    told: dict[str, Any],
    direction: str,
    worst: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mistake in the program too is the worst there is, in one line, and no end to the sweep."""
    told["sweeper"] = {"direction": direction}
    assert sweeps.outcome(broken) == worst
    assert capsys.readouterr().err.startswith("error: unexpected KeyError")
    assert sweeps.outcome(lambda: ended(tmp_path, "noise_ratio")) == 0.5
    assert sweeps.outcome(lambda: ended(tmp_path, "utility")) == worst
    rows = read_rows(tmp_path)
    assert [(row.values, row.code) for row in rows] == [((), 1), ((0.5,), 0), ((None,), 0)]
    told["mode"] = RunMode.RUN
    with pytest.raises(KeyError):
        sweeps.outcome(broken)
    assert sweeps.outcome(lambda: ended(tmp_path, "noise_ratio")) is None


def test_several_objectives_are_a_list_each_with_its_own_worst(
    tmp_path: Path, told: dict[str, Any]
) -> None:
    told["sweeper"] = {"direction": ["minimize", "maximize"]}
    asked = "[noise_ratio,fairness]"
    assert sweeps.outcome(lambda: ended(tmp_path, asked)) == [0.5, -inf]


def test_an_interrupted_run_ends_its_sweep(
    told: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    told["sweeper"] = {}
    with pytest.raises(SystemExit, match="130"):
        sweeps.outcome(interrupted)
    assert capsys.readouterr().err == "interrupted [exit status 130: docs/errors.md]\n"


def test_a_table_shows_what_was_varied_and_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    rundir.write_json(tmp_path / "0" / rundir.REPORT, REPORT)
    rows = [
        Row(overrides=("seed=1", "privacy.epsilon=1"), folder="0", values=(0.5,)),
        Row(overrides=("seed=1", "+x=2"), folder="1", error="no such x.", code=11),
    ]
    lines = table(rows, tmp_path, ["noise_ratio"]).splitlines()
    assert lines[0].split()[:3] == ["privacy.epsilon", "x", "epsilon"]
    assert lines[1].split() == ["1", "0.999", "lift", "0.0345", "0.01", "to", "0.06", "0.5", "0"]
    assert lines[2].split() == ["2", "failed", "1"]
    assert lines[3] == "1: no such x."


def test_a_table_says_which_objective_no_run_has(tmp_path: Path) -> None:
    rows = [Row(overrides=("seed=1",), folder="0", values=(0.2, None))]
    lines = table(rows, tmp_path, ["utility", "no.such"]).splitlines()
    assert lines[0].split("  ")[-3:] == ["distance of pairs", "no.such", "folder"]
    assert lines[1].split() == ["0.2", "unknown", "0"]
    assert lines[2].startswith("objective no.such: no run has it")


def test_objectives() -> None:
    assert objective_of(REPORT, "noise_ratio") == 0.5
    assert objective_of({"synthetic": ROWS}, "utility") == 0.25  # of pairs
    assert objective_of({"synthetic": ROWS}, "fairness") == 0.3  # the largest
    assert objective_of(REPORT, "lift.values.0.overall.absolute.interval.1") == 0.06
    for name in ("lift.values.1", "lift.values.0.overall.verdict", "no.such", "lift.values.x"):
        assert objective_of(REPORT, name) is None
    for name in ("noise_ratio", "utility", "fairness"):
        assert objective_of({}, name) is None
    without = {"lift": {"conversions": [{"overall": OVERALL | {"sampling_error": 0.0}}]}}
    assert objective_of(without, "noise_ratio") is None


@pytest.mark.parametrize("asked", ["utilty", "privacy", ["utility", "nonsense"], [], None, 5])
def test_what_names_no_number_is_refused_before_a_run(asked: object) -> None:
    with pytest.raises(ConfigError, match=r"'objective'.* Give utility, noise_ratio, fairness"):
        checked_objectives(asked)


def test_what_names_a_number() -> None:
    assert checked_objectives("seconds") == ("seconds",)
    listed = OmegaConf.create(["utility", "lift.conversions.0.overall.mde"])
    assert checked_objectives(listed) == ("utility", "lift.conversions.0.overall.mde")


def test_runs_that_end_at_once_are_all_noted(tmp_path: Path) -> None:
    """Long lines, longer than what one write of a buffer holds."""
    rows = [Row(overrides=("x" * 20_000,), folder=str(i)) for i in range(40)]
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(note, [tmp_path] * len(rows), rows))
    assert read_rows(tmp_path) == rows
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == len(rows)
    assert json.loads((tmp_path / "runs.jsonl").read_text().splitlines()[0])["code"] == 0
