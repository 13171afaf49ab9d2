"""Optuna chooses the runs of a sweep, by what the earlier ones came to.

Written over Optuna's own ask and tell. Hydra's own plugin, hydra-optuna-sweeper, needs an Optuna
before 3, and lets pip install pre-releases of Hydra that it does not work with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Transformer
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from twinweave.errors import ConfigError
from twinweave.report.comparison import checked_objectives

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution

RESULTS = "optimization_results.yaml"
SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "nsgaii": "NSGAIISampler"}


class OptunaSweeper(Sweeper):
    """The fields are those of conf/hydra/sweeper/optuna.yaml."""

    config: Any  # Hydra types all three as what they are before `setup` too
    hydra_context: Any
    launcher: Any

    def __init__(
        self,
        n_trials: int,
        n_jobs: int,
        sampler: str,
        seed: int | None,
        direction: str | Sequence[str],
        params: Mapping[str, Any],
    ) -> None:
        self.n_trials, self.n_jobs = n_trials, n_jobs
        self.sampler, self.seed = sampler, seed
        self.direction, self.params = direction, params

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run `n_trials` jobs, and write down which were best."""
        given = [f"{name}={value}" for name, value in self.params.items()]
        fixed, space = self._space([*given, *arguments])
        study = self._study()
        self.validate_batch_is_legal(list(_choices(fixed, space)))  # raises before the first run
        at_once = getattr(self.launcher, "n_jobs", max(1, self.n_jobs))
        done = 0
        while done < self.n_trials:
            trials = [study.ask(space) for _ in range(min(at_once, self.n_trials - done))]
            jobs = [[*fixed, *(f"{k}={v}" for k, v in t.params.items())] for t in trials]
            returns = self.launcher.launch(jobs, initial_job_idx=done)
            for trial, job in zip(trials, returns, strict=True):
                _tell(study, trial, job.return_value)
            done += len(trials)
        folder = Path(str(self.config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(_results(study)), folder / RESULTS)

    def _space(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
        """What every run gets, and what is searched."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        fixed: list[str] = []
        space: dict[str, BaseDistribution] = {}
        for override in parser.parse_overrides(list(arguments)):
            key = override.get_key_element()
            if override.is_sweep_override():
                space[key] = _distribution(override)
            else:
                fixed.append(f"{key}={override.get_value_element_as_str()}")
        if not space:
            raise ConfigError(
                "hydra/sweeper=optuna",
                "has nothing to search",
                "Give a setting a range, such as 'privacy.priority_share=interval(0.3,0.9)'.",
            )
        return fixed, space

    def _study(self) -> Study:
        optuna = _optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if self.sampler not in SAMPLERS:
            raise ConfigError(
                "hydra.sweeper.sampler", "is none", f"Give one of {', '.join(SAMPLERS)}."
            )
        number, direction = len(checked_objectives(self.config.objective)), self.direction
        directions = [direction] * number if isinstance(direction, str) else list(direction)
        if len(directions) != number or not {"minimize", "maximize"}.issuperset(directions):
            raise ConfigError(
                "hydra.sweeper.direction",
                "does not fit the objectives",
                "Give minimize or maximize, or a list with one for each objective.",
            )
        sampler = getattr(optuna.samplers, SAMPLERS[self.sampler])(seed=self.seed)
        study: Study = optuna.create_study(directions=directions, sampler=sampler)
        return study


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "hydra/sweeper=optuna",
            "needs Optuna, which is not installed",
            'pip install -c constraints.txt -e ".[sweeps]"',
        ) from None
    return optuna


def _distribution(override: Override) -> BaseDistribution:
    """Of choice(a,b) or a,b; range(low,high,step); interval(low,high), tagged `log` or not."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    swept: Any = override.value()
    if override.is_interval_sweep():
        low, high, log = swept.start, swept.end, "log" in swept.tags
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    values: list[Any] = list(override.sweep_iterator(transformer=Transformer.encode))
    if override.is_range_sweep() and not swept.shuffle:
        kind = IntDistribution if all(isinstance(v, int) for v in values) else FloatDistribution
        return kind(min(values), max(values), step=abs(swept.step))
    return CategoricalDistribution(values)


def _choices(
    fixed: Sequence[str], space: Mapping[str, BaseDistribution]
) -> Iterator[Sequence[str]]:
    """Jobs in which every choice comes up: one that does not exist should end no sweep halfway."""
    listed = {name: getattr(d, "choices", ()) for name, d in space.items()}
    for name, choices in listed.items():
        others = [f"{n}={c[0]}" for n, c in listed.items() if c and n != name]
        for choice in choices:
            yield [*fixed, *others, f"{name}={choice}"]


def _tell(study: Study, trial: Trial, told: float | Sequence[float]) -> None:
    """A run that failed is not learned from in a search for several: only one number is told."""
    from optuna.trial import TrialState

    values = [told] if isinstance(told, (int, float)) else list(told)
    if len(values) == len(study.directions) and (len(values) == 1 or all(map(isfinite, values))):
        study.tell(trial, values)
    else:
        study.tell(trial, state=TrialState.FAIL)


def _results(study: Study) -> dict[str, Any]:
    """The best runs: that with the best number; of several, those that no other beats."""
    best = [t for t in study.best_trials if all(map(isfinite, t.values))]
    return {
        "name": "optuna",
        "best": [
            {"run": t.number, "params": dict(t.params), "values": list(t.values)} for t in best
        ],
    }
