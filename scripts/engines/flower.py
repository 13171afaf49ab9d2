"""A run through Flower's own command, watched: its exit status says nothing about the run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from scripts.engines.told import without_tracebacks
from twinweave import rundir
from twinweave.config import RunConf
from twinweave.environment import QUIET
from twinweave.errors import RunError
from twinweave.parsing import canonical_json

REPOSITORY = Path(__file__).resolve().parents[2]
FLWR = Path(sys.executable).with_name("flwr")
_STARTED = re.compile(r"started run (\d+)")


def run_with_flower(
    conf: RunConf, superlink: str | None = None, application: Path = REPOSITORY
) -> None:
    """`flwr run . --stream` with this configuration; raises RunError unless it finished.

    superlink: a connection from Flower's configuration; None is the default one (local
    simulation, started on demand). application: the folder that is bundled and shipped.
    """
    Path(conf.output).mkdir(parents=True, exist_ok=True)
    overrides = Path(conf.output) / "flower.toml"
    # JSON's escapes are those of a TOML basic string.
    text = json.dumps(canonical_json(conf), ensure_ascii=False)
    overrides.write_text(f"config = {text}\n")
    where = [superlink] if superlink else []
    command = [str(FLWR), "run", str(application), *where]
    command += ["--stream", "--run-config", str(overrides)]
    if conf.federation.mode == "simulation":
        command += ["--federation-config", f"num-supernodes={len(conf.data.parties)}"]
    (Path(conf.output) / rundir.STATUS).unlink(missing_ok=True)  # of an earlier run here
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment()
    )
    assert process.stdout is not None
    number = None
    try:
        for line in without_tracebacks(process.stdout):
            print(line, end="", flush=True)
            if number is None and (found := _STARTED.search(line)):
                number = found[1]
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        if number is not None:  # the command only watched: the run itself would go on
            _flwr("stop", number, *where)
        raise
    _check(Path(conf.output), number, where)


def _check(out: Path, number: str | None, where: list[str]) -> None:
    """Raise unless the run finished: its status file says, or Flower where that is elsewhere."""
    status = out / rundir.STATUS
    if not status.exists():
        if not where or number is None:
            raise RunError("Flower did not start the run. Its messages above say why.")
        _check_elsewhere(number, where)
        return
    state = json.loads(status.read_text())
    if state["state"] == "failed":
        error = RunError(state["error"])
        error.exit_code = int(state["exit_code"])
        raise error
    if state["state"] != "finished":
        raise RunError(f"the run ended without finishing. {out / rundir.LOG} has its log.")


def _check_elsewhere(number: str, where: list[str]) -> None:
    """The run directory is on the SuperLink's machine: only Flower knows how the run ended."""
    listed = _flwr("list", "--run-id", number, "--format", "json", *where)
    try:
        state = json.loads(listed)["runs"][0]["status"]
    except (ValueError, LookupError):
        state = "unknown"
    if state != "finished:completed":
        raise RunError(f"Flower says of run {number}: {state}. The server's last line says why.")


def _flwr(*arguments: str) -> str:
    command = [str(FLWR), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=_environment()).stdout


def _environment() -> dict[str, str]:
    """Flower's subprocesses find this environment's commands first; Ray keeps its tips."""
    bin_folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([bin_folder, os.environ.get("PATH", "")])
    return {**QUIET, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", **os.environ, "PATH": path}
