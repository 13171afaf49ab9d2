"""What was released: data only, no arithmetic. The accountant says what it cost.

Unit of privacy: a user, all rows of one id at every party. Adjacency: one user added or
removed everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from twinweave.errors import ConfigError
from twinweave.parsing import STRICT, check_positive

MOST_NOISE = 10**9
"""Noise multiplier: far beyond what leaves anything to see, and within what can be computed."""
LEAST_NOISE = 1e-9
"""Noise multiplier: below it epsilon is past 10**18, and its square past what is computed with."""
MOST_COINS = 1 << 32
"""In a cell."""


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
    IS_TABLE: ClassVar[bool] = True
    IS_BOUNDED: ClassVar[bool] = True
    NOTE: ClassVar[str] = ""

    def __post_init__(self) -> None:
        names = "noise_multiplier", "sensitivity"
        check_positive("", self, *names, least=LEAST_NOISE, most=MOST_NOISE)


@dataclass(frozen=True, kw_only=True)
class SharedBinomial:
    """Integer table + Binomial(coins, 1/2) - coins/2 in every cell.

    One user changes one cell, by a whole number of at most `sensitivity` units (1 for counts,
    VALUE_UNITS for sums).
    """

    __pydantic_config__ = STRICT

    coins: int
    sensitivity: int = 1
    IS_TABLE: ClassVar[bool] = True
    IS_BOUNDED: ClassVar[bool] = True
    NOTE: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_positive("", self, "coins", "sensitivity", most=MOST_COINS)


@dataclass(frozen=True, kw_only=True)
class PoissonSgd:
    """DP-SGD: `steps` Gaussian sums of per-user gradients clipped to 1, Poisson sampled."""

    __pydantic_config__ = STRICT

    noise_multiplier: float
    sampling_rate: float
    steps: int
    IS_TABLE: ClassVar[bool] = False
    IS_BOUNDED: ClassVar[bool] = True
    NOTE: ClassVar[str] = (
        "Exception: the noise on DP-SGD gradients is floating point, not discrete. Every other "
        "release carries discrete noise drawn from a cryptographic generator."
    )

    def __post_init__(self) -> None:
        names = "noise_multiplier", "steps"
        check_positive("", self, *names, least=LEAST_NOISE, most=MOST_NOISE)
        if not 0 < self.sampling_rate <= 1:
            raise ConfigError("sampling_rate", "not in (0, 1]", "Give a Poisson sampling rate.")


@dataclass(frozen=True, kw_only=True)
class NonPrivate:
    """A release with no guarantee: training without noise (`privacy.unsafe`). Epsilon is
    infinite."""

    __pydantic_config__ = STRICT

    reason: str
    IS_TABLE: ClassVar[bool] = False
    IS_BOUNDED: ClassVar[bool] = False
    NOTE: ClassVar[str] = "A release without any guarantee was made (unsafe): epsilon is infinite."


Mechanism = DiscreteGaussian | SharedBinomial | PoissonSgd | NonPrivate
"""Each says whether it IS_TABLE, a table's noise and no training's, and IS_BOUNDED, of a finite
epsilon at all; and has a NOTE: the sentence that must stand beside an epsilon it is part of, or
""."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One release: what, in which stage, on whose users' data."""

    __pydantic_config__ = STRICT

    label: str
    stage: Stage
    parties: tuple[str, ...]
    mechanism: Mechanism
