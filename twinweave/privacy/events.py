"""What was released: data only, no arithmetic. The accountant says what it cost.

Unit of privacy: a user, all rows of one id at every party. Adjacency: one user added or
removed everywhere (DESIGN section 6).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from twinweave.errors import ConfigError
from twinweave.parsing import STRICT


class Stage(StrEnum):
    PREPROCESSING = "preprocessing"
    SELECTION = "selection"
    MEASUREMENT = "measurement"
    TRAINING = "training"
    EVALUATION = "evaluation"


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussian:
    """Integer table + discrete Gaussian noise of scale noise_multiplier * sensitivity.

    One user changes one cell, by a whole number of at most `sensitivity` units (1 for counts,
    VALUE_UNITS for sums). A table of which one user changes several cells is several events.
    """

    __pydantic_config__ = STRICT

    noise_multiplier: float
    sensitivity: int = 1

    def __post_init__(self) -> None:
        _positive("noise_multiplier", self.noise_multiplier)
        _positive("sensitivity", self.sensitivity)


@dataclass(frozen=True, kw_only=True)
class SharedBinomial:
    """Counts + Binomial(coins, 1/2) - coins/2 in every cell; one user changes one cell by 1."""

    __pydantic_config__ = STRICT

    coins: int

    def __post_init__(self) -> None:
        _positive("coins", self.coins)


@dataclass(frozen=True, kw_only=True)
class PoissonSgd:
    """DP-SGD: `steps` Gaussian sums of per-user gradients clipped to 1, Poisson sampled."""

    __pydantic_config__ = STRICT

    noise_multiplier: float
    sampling_rate: float
    steps: int

    def __post_init__(self) -> None:
        _positive("noise_multiplier", self.noise_multiplier)
        _positive("steps", self.steps)
        if not 0 < self.sampling_rate <= 1:
            raise ConfigError("sampling_rate", "not in (0, 1]", "Give a Poisson sampling rate.")


@dataclass(frozen=True, kw_only=True)
class NonPrivate:
    """A release with no guarantee (`SgdPlan(unsafe=True)`): epsilon is infinite."""

    __pydantic_config__ = STRICT

    reason: str


Mechanism = DiscreteGaussian | SharedBinomial | PoissonSgd | NonPrivate


@dataclass(frozen=True, kw_only=True)
class Event:
    """One release: what, in which stage, on whose users' data."""

    __pydantic_config__ = STRICT

    label: str
    stage: Stage
    parties: tuple[str, ...]
    mechanism: Mechanism


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(name, "must be positive and finite", "Give a number above 0.")
