"""Run Twinweave: `python -m scripts.run [overrides]`; `-m` for sweeps (Hydra).

Exit status 0 only for a run that finished; otherwise the error's own code (twinweave/errors.py).
"""

from __future__ import annotations

from pathlib import Path

from twinweave.environment import prepare

prepare()  # before Flower is imported

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from scripts.sweeps import outcome
from twinweave.config import RunConf, conf_folder, plain


@hydra.main(config_path=str(conf_folder()), config_name="run", version_base=None)
def main(raw: DictConfig) -> float | None:
    return outcome(lambda: _run(raw))


def _run(raw: DictConfig) -> RunConf:
    """Play the run; its configuration. Raises the run's own AppError."""
    raw.output = str(Path(HydraConfig.get().runtime.output_dir).resolve())
    conf = RunConf.parse(plain(raw))
    if conf.engine == "inprocess":
        from scripts.engines.inprocess import run_in_process

        run_in_process(conf)
    else:
        from scripts.engines.flower import run_with_flower

        run_with_flower(conf, conf.superlink)
    return conf


if __name__ == "__main__":
    main()
