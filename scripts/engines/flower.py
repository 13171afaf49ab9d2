"""A run through Flower's own command, watched: its exit status says nothing about the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.engines.display import Display
from scripts.engines.told import Told, aside
from twinweave import folder, rundir
from twinweave.config import RunConf
from twinweave.environment import QUIET
from twinweave.errors import RunError
from twinweave.parsing import canonical_json

REPOSITORY = Path(__file__).resolve().parents[2]
FLWR = Path(sys.executable).with_name("flwr")
_PATIENCE = 30.0  # seconds for a run that was told to stop


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
        with aside(Path(conf.output)) as file:
            told = Told(file)
            with Display(Path(conf.output), sys.stdout) as display:
                try:
                    _watch([*command, "--run-config", overrides.name], told, display)
                except KeyboardInterrupt:
                    if told.number is not None:  # the command only watched the run
                        display.line("stopping the run")
                        _stop(told.number, where, Path(conf.output))
                    raise
    _check(Path(conf.output), told, where, before)


def wake() -> None:
    """Start the local SuperLink, unless there is one. Flower does so with its first command; two
    at once would start two on one port, and one of the commands would fail."""
    _flwr("list")


def _watch(command: Sequence[str], told: Told, display: Display) -> None:
    """Flower's command to its end, our lines passed on."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=_environment(),
    )
    assert process.stdout is not None
    try:
        for line in told.ours(process.stdout):
            display.line(line)
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        raise


def _stop(number: str, where: Sequence[str], out: Path) -> None:
    """Stop a run, and wait until nobody works on it here: only then can it go on.

    A second Ctrl-C ends the waiting; Flower is told all the same.
    """
    subprocess.Popen(
        [str(FLWR), "stop", number, *where],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,
    ).wait()
    deadline = time.monotonic() + _PATIENCE
    while folder.alive(out) and time.monotonic() < deadline:
        time.sleep(0.1)


def _told(out: Path) -> str | None:
    """What the folder of a run says of it, None where it is not here."""
    status = out / folder.STATUS
    return status.read_text() if status.exists() else None


def _check(out: Path, told: Told, where: Sequence[str], before: str | None = None) -> None:
    """Raise unless the run finished: its status file says, or Flower where that is elsewhere.

    before: what the file said of the run that this one resumes.
    """
    if _told(out) == before:
        if not where or told.number is None:
            raise RunError(f"Flower did not start the run. It says: {' / '.join(told.last)}.")
        _check_elsewhere(told, where)
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


def _check_elsewhere(told: Told, where: Sequence[str]) -> None:
    """The run directory is on the SuperLink's machine: only Flower knows how the run ended."""
    listed = _flwr("list", "--run-id", str(told.number), "--format", "json", *where)
    try:
        state = json.loads(listed)["runs"][0]["status"]
    except (ValueError, LookupError):
        state = "unknown"
    if state == "finished:completed":
        return
    if told.error is not None:
        raise told.error
    last = " / ".join(told.last)
    raise RunError(f"Flower says of run {told.number}: {state}. Its last lines: {last}.")


def _flwr(*arguments: str) -> str:
    command = [str(FLWR), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=_environment()).stdout


def _environment() -> dict[str, str]:
    """Flower's subprocesses find this environment's commands first, and write UTF-8 whatever the
    terminal shows; Ray keeps its tips.
    """
    bin_folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([bin_folder, os.environ.get("PATH", "")])
    ours = {"PATH": path, "PYTHONUTF8": "1"}
    return {**QUIET, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", **os.environ, **ours}
