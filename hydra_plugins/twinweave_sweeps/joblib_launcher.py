"""Several runs of a sweep at once, each in a process of its own, by joblib's process pool (loky).

A process of its own: one that is killed, for its memory say, takes no other run with it, and
nothing of one run is left in the next. Each gets its share of the cores, and what it prints goes
to a file in the sweep's folder, as the lines of several would mix.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


class JoblibLauncher(Launcher):
    """n_jobs: at once; -1: one for every core."""

    def __init__(self, n_jobs: int) -> None:
        from joblib import cpu_count

        self.cores = cpu_count()
        self.n_jobs = self.cores if n_jobs < 1 else n_jobs

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """What each run came to, in their order. A run that is interrupted ends all."""
        setup_globals()
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        if self.config.engine == "flower" and self.config.superlink is None:
            from scripts.engines.flower import wake

            wake()
        with ThreadPoolExecutor(self.n_jobs) as threads:
            jobs = [
                threads.submit(self._one, number, list(overrides))
                for number, overrides in enumerate(job_overrides, initial_job_idx)
            ]
            try:
                _first_error(jobs)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return [job.result() for job in jobs]

    def _one(self, number: int, overrides: Sequence[str]) -> JobReturn:
        """Play one run in a new process."""
        from joblib.externals.loky.process_executor import (
            ProcessPoolExecutor,
            TerminatedWorkerError,
        )

        config = self._configured(number, overrides)
        log = Path(str(config.hydra.sweep.dir)) / f"{config.hydra.sweep.subdir}.log"
        print(f"run {number} begins, and writes to {log}", flush=True)
        threads = str(max(1, self.cores // self.n_jobs))
        share = {name: os.environ.get(name, threads) for name in THREADS}
        with ProcessPoolExecutor(max_workers=1, env=share) as process:
            work = process.submit(
                _play, self.context, config, self.task, Singleton.get_state(), log
            )
            try:
                ended: JobReturn = work.result()
            except TerminatedWorkerError:
                ended = _killed(config)
        print(f"run {number} ended", flush=True)
        return ended

    def _configured(self, number: int, overrides: Sequence[str]) -> DictConfig:
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{number}"
            config.hydra.job.num = number
        return config


def _first_error(jobs: Sequence[Future[JobReturn]]) -> None:
    """Wait for all, or until one raises; raise what it raised."""
    left = set(jobs)
    while left:
        done, left = wait(left, return_when=FIRST_COMPLETED)
        for job in done:
            job.result()


def _play(
    context: HydraContext, config: DictConfig, task: TaskFunction, state: dict[Any, Any], log: Path
) -> JobReturn:
    """In the new process: the run, its output in a file."""
    setup_globals()
    Singleton.set_state(state)
    sys.stdout.flush()
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    return run_job(
        hydra_context=context,
        config=config,
        task_function=task,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _killed(config: DictConfig) -> JobReturn:
    """A run whose process is gone, which nobody else would note."""
    from scripts.sweeps import failed
    from twinweave.errors import RunError

    hydra = config.hydra
    out = Path(str(hydra.sweep.dir)) / str(hydra.sweep.subdir)
    told = failed(
        hydra,
        f"its process was killed, as by a system that is out of memory. Go on: resume={out}",
        RunError.exit_code,
    )
    return JobReturn(status=JobStatus.COMPLETED, _return_value=told)
