"""A run through Flower's own command, watched: its exit status says nothing about the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from twinweave import rundir
from twinweave.config import RunConf
from twinweave.errors import RunError
from twinweave.parsing import canonical_json

REPOSITORY = Path(__file__).resolve().parent.parent


def run_with_flower(conf: RunConf, superlink: str | None = None) -> None:
    """`flwr run . --stream` with this configuration; raises RunError unless it finished.

    superlink: a connection from Flower's configuration; None is the default one (local
    simulation, started on demand).
    """
    Path(conf.output).mkdir(parents=True, exist_ok=True)
    overrides = Path(conf.output) / "flower.toml"
    # JSON's escapes are those of a TOML basic string.
    text = json.dumps(canonical_json(conf), ensure_ascii=False)
    overrides.write_text(f"config = {text}\n")
    command = [str(Path(sys.executable).with_name("flwr")), "run", str(REPOSITORY)]
    command += [superlink] if superlink else []
    command += ["--stream", "--run-config", str(overrides)]
    if conf.federation.mode == "simulation":
        command += ["--federation-config", f"num-supernodes={len(conf.data.parties)}"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment()
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
    except KeyboardInterrupt:
        process.terminate()
        raise
    process.wait()
    _check(Path(conf.output))


def _check(out: Path) -> None:
    status = out / rundir.STATUS
    if not status.exists():
        raise RunError("Flower did not start the run. Its messages above say why.")
    state = json.loads(status.read_text())
    if state["state"] == "failed":
        error = RunError(state["error"])
        error.exit_code = int(state["exit_code"])
        raise error
    if state["state"] != "finished":
        raise RunError(f"the run ended without finishing. {out / rundir.LOG} has its log.")


def _environment() -> dict[str, str]:
    """Flower's subprocesses find this environment's commands first."""
    bin_folder = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([bin_folder, os.environ.get("PATH", "")])}
