"""A run through Flower's own command, watched: its exit status says nothing about the run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.engines.told import without_tracebacks
from twinweave import folder, rundir
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
    where = [superlink] if superlink else []
    command = [str(FLWR), "run", str(application), *where, "--stream"]
    if conf.federation.mode == "simulation":
        command += ["--federation-config", f"num-supernodes={len(conf.data.parties)}"]
    before = _told(Path(conf.output))
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as overrides:
        # JSON's escapes are those of a TOML basic string.
        text = json.dumps(canonical_json(conf), ensure_ascii=False)
        overrides.write(f"config = {text}\n")
        overrides.flush()
        number = _watched([*command, "--run-config", overrides.name], where)
    _check(Path(conf.output), number, where, before)


def wake() -> None:
    """Start the local SuperLink, unless there is one. Flower does so with its first command; two
    at once would start two on one port, and one of the commands would fail."""
    _flwr("list")


def _watched(command: Sequence[str], where: Sequence[str]) -> str | None:
    """Flower's command to its end, its lines passed on; the number of the run that it started."""
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
    return number


def _told(out: Path) -> str | None:
    """What the folder of a run says of it, None where it is not here."""
    status = out / folder.STATUS
    return status.read_text() if status.exists() else None


def _check(out: Path, number: str | None, where: Sequence[str], before: str | None = None) -> None:
    """Raise unless the run finished: its status file says, or Flower where that is elsewhere.

    before: what the file said of the run that this one resumes.
    """
    if _told(out) == before:
        if not where or number is None:
            raise RunError("Flower did not start the run. Its messages above say why.")
        _check_elsewhere(number, where)
        return
    state = folder.status(out)
    if state["state"] == "failed":
        error = RunError(state["error"])
        error.exit_code = int(state["exit_code"])
        raise error
    if state["state"] != "finished":
        raise RunError(
            f"the run ended without finishing. {out / rundir.LOG} has its log. Go on: resume={out}"
        )


def _check_elsewhere(number: str, where: Sequence[str]) -> None:
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
