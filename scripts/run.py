"""Run Twinweave: `python -m scripts.run [overrides]`; `-m` for sweeps (Hydra).

Exit status 0 only for a run that finished; otherwise the error's own code (twinweave/errors.py).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from twinweave.environment import prepare

prepare()  # before Flower is imported

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import twinweave
from scripts.sweeps import Told, outcome
from server.opening import opened
from twinweave.checkpoint import FOLDER
from twinweave.config import RunConf, conf_folder, plain
from twinweave.errors import WithheldError
from twinweave.folder import drop_if_empty
from twinweave.rundir import REPORT


@hydra.main(config_path=str(conf_folder()), config_name="run", version_base=None)
def main(raw: DictConfig) -> Told | None:
    return outcome(lambda: play(_opened(raw)))


def _opened(raw: DictConfig) -> RunConf:
    """The configuration of the run, new or resumed, and its folder."""
    hydra_conf = HydraConfig.get()
    overrides = list(hydra_conf.overrides.task)
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

            run_in_process(conf)
        else:
            from scripts.engines.flower import run_with_flower

            run_with_flower(conf, conf.superlink)
    except BaseException as error:
        drop_if_empty(Path(conf.output))
        if isinstance(error, KeyboardInterrupt):
            _tell_how_to_go_on(Path(conf.output))
        raise
    _check_gate(Path(conf.output))
    return conf


def _check_gate(out: Path) -> None:
    """Raise WithheldError where the run's tables are withheld; where its folder is not here,
    the run's own last lines say so."""
    if not (out / REPORT).exists():
        return
    audit = twinweave.load(out).report.get("audit")
    if audit is not None and audit["gate"]["state"] == "withheld":
        why = "; ".join(f"{r['source']}: {r['what']}" for r in audit["gate"]["reasons"])
        raise WithheldError(f"the synthetic tables are withheld. {why}. {out / REPORT} has more.")


def _tell_how_to_go_on(out: Path) -> None:
    if (out / FOLDER).exists():
        print(f"the run can go on: resume={out}", file=sys.stderr)


if __name__ == "__main__":
    main()
