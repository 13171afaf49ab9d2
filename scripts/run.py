"""Run Twinweave: `python -m scripts.run [overrides]`; `-m` for sweeps (Hydra).

Exit status 0 only for a run that finished; otherwise the error's own code (twinweave/errors.py).
"""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

from twinweave.environment import prepare

prepare()  # before Flower is imported

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import twinweave
from scripts.ending import AS_IT_IS, DEVELOPER, UNEXPECTED, printable, tell, unexpected
from scripts.engines.display import Display
from scripts.engines.told import quiet
from scripts.sweeps import Told, outcome
from server.lifecycle import shown_by
from server.opening import opened
from twinweave import rundir
from twinweave.analysis.audit.results import gate_of
from twinweave.checkpoint import FOLDER
from twinweave.config import RunConf, conf_folder, plain
from twinweave.errors import AppError, RunError, WithheldError
from twinweave.folder import drop_if_empty
from twinweave.overrides import refused
from twinweave.report.comparison import checked_objectives
from twinweave.rundir import REPORT


@hydra.main(config_path=str(conf_folder()), config_name="run", version_base=None)
def main(raw: DictConfig) -> Told | None:
    return outcome(lambda: play(_opened(raw)))


def _opened(raw: DictConfig) -> RunConf:
    """The configuration of the run, new or resumed, and its folder."""
    hydra_conf = HydraConfig.get()
    overrides = list(hydra_conf.overrides.task)
    if hydra_conf.mode is RunMode.MULTIRUN:
        checked_objectives(raw.objective)
    if hydra_conf.mode is RunMode.MULTIRUN and raw.resume is None:
        raw.output = hydra_conf.runtime.output_dir
        overrides.append(f"output={raw.output}")
    data = plain(raw)
    here = data["resume"] is not None and Path(data["resume"]).exists()
    if data["superlink"] is None or here:
        return opened(data, overrides)
    conf = RunConf.parse(data)  # the folder is made where the SuperLink runs
    return replace(conf, output=str(Path(conf.output).resolve()))


def play(conf: RunConf) -> RunConf:
    """The run, by the engine it names; its configuration. Raises the run's own AppError."""
    try:
        if conf.engine == "inprocess":
            from scripts.engines.inprocess import run_in_process

            out = Path(conf.output)
            with quiet(out) as terminal, Display(out, terminal) as display, shown_by(display.line):
                run_in_process(conf)
        else:
            from scripts.engines.flower import run_with_flower

            run_with_flower(conf, conf.superlink)
    except BaseException as error:
        drop_if_empty(Path(conf.output))
        if isinstance(error, KeyboardInterrupt):
            _tell_how_to_go_on(Path(conf.output))
        if isinstance(error, AppError) or not isinstance(error, Exception) or AS_IT_IS:
            raise
        raise _unexpected(error, Path(conf.output)) from None
    _check_gate(Path(conf.output))
    return conf


def _unexpected(error: Exception, out: Path) -> RunError:
    """A mistake in the program, and where its traceback is."""
    log = out / rundir.LOG
    where = f"{log} has the traceback" if log.exists() else f"{DEVELOPER}=1 shows where"
    told = RunError(f"{unexpected(error)}: {' '.join(str(error).split())}. {where}.")
    told.exit_code = UNEXPECTED
    return told


def _check_gate(out: Path) -> None:
    """Raise WithheldError where the run's tables are withheld; where its folder is not here,
    the run's own last lines say so."""
    if not (out / REPORT).exists():
        return
    gate = gate_of(twinweave.load(out).report)
    if gate.withheld:
        raise WithheldError(
            f"the synthetic tables are withheld. {gate.why}. {out / REPORT} has more."
        )


def _tell_how_to_go_on(out: Path) -> None:
    if (out / FOLDER).exists():
        print(f"the run can go on: resume={out}", file=sys.stderr)
    elif (out / REPORT).exists():
        print(f"the run had come to its end: {out / REPORT}", file=sys.stderr)


def command() -> int:
    """Hydra's command line, its refusals in our words."""
    printable(sys.stdout)
    if AS_IT_IS:
        main()
        return 0
    os.environ[DEVELOPER] = "1"  # or Hydra prints what it refuses itself, and ends the process
    try:
        main()
    except (Exception, KeyboardInterrupt) as error:
        if not _of_hydra(error):
            return tell(error)
        said = [word for word in sys.argv[1:] if not word.startswith("-")]
        return tell(refused(error, said, conf_folder()))
    return 0


def _of_hydra(error: BaseException) -> TypeGuard[Exception]:
    """Whether it was raised where a command line is read."""
    if not isinstance(error, (HydraException, OmegaConfBaseException, ValueError)):
        return False
    last = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
    return str(last.f_globals.get("__name__", "")).startswith(("hydra.", "omegaconf."))


if __name__ == "__main__":
    sys.exit(command())
