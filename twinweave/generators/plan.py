"""One party's private steps of a round: what is charged and what is drawn. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from twinweave.errors import ConfigError
from twinweave.generators.conf import TrainingConf, check_clip
from twinweave.parsing import Parsed, check_not_negative, check_positive
from twinweave.privacy.events import NonPrivate, PoissonSgd


@dataclass(frozen=True, kw_only=True)
class SgdPlan(Parsed):
    """One party's private steps of one round: what is charged and what is drawn.

    noise_multiplier: sigma, noise over clip. clip: C. steps: exactly, of this round.
    expected_batch: rows; the gradient's constant divisor. Add or remove one user: sensitivity
    C of the sum, whatever the batch. unsafe: allow noise_multiplier 0; the mechanism is then
    NonPrivate.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    clip: float
    learning_rate: float
    expected_batch: float
    unsafe: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.sampling_rate <= 1:
            raise ConfigError("sampling_rate", "not in (0, 1]", "Give a Poisson sampling rate.")
        check_positive("", self, "learning_rate", "expected_batch", "steps")
        check_clip("", self.clip)
        check_not_negative("", self, "noise_multiplier")
        if self.noise_multiplier == 0 and not self.unsafe:
            raise ConfigError(
                "noise_multiplier",
                "is 0, which gives no privacy at all",
                "Calibrate it to a budget, or plan it with unsafe=True.",
            )

    @classmethod
    def of(
        cls, conf: TrainingConf, *, rows: int, noise_multiplier: float, unsafe: bool = False
    ) -> SgdPlan:
        """The plan of one round for a table of `rows` rows (public)."""
        if rows < 1:
            raise ConfigError("rows", "the table is empty", "Train on a table with rows.")
        rate = min(1.0, conf.expected_batch / rows)
        return cls(
            noise_multiplier=noise_multiplier,
            sampling_rate=rate,
            steps=conf.local_steps,
            clip=conf.clip,
            learning_rate=conf.learning_rate,
            expected_batch=rate * rows,
            unsafe=unsafe,
        )

    def mechanism(self, rounds: int = 1) -> PoissonSgd | NonPrivate:
        """What `rounds` rounds of this plan release."""
        return steps_of(self.noise_multiplier, self.sampling_rate, self.steps * rounds)


def steps_of(noise_multiplier: float, sampling_rate: float, steps: int) -> PoissonSgd | NonPrivate:
    """What so many private steps release."""
    if noise_multiplier == 0:
        return NonPrivate(reason="training without noise (unsafe)")
    return PoissonSgd(noise_multiplier=noise_multiplier, sampling_rate=sampling_rate, steps=steps)
