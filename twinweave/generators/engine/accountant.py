"""Opacus's accountant, which keeps our ledger's events and leaves arithmetic to our accountant."""

from __future__ import annotations

from opacus.accountants import IAccountant, register_accountant

from twinweave.errors import ConfigError
from twinweave.generators.plan import steps_of
from twinweave.privacy import accountant
from twinweave.privacy.events import Event, NonPrivate, PoissonSgd, Stage

NAME = "ledger"


class LedgerAccountant(IAccountant):  # type: ignore[misc]
    """Counts the steps that are taken, before their noise is drawn.

    most: steps that were charged for; a further one is refused. history: as Opacus's accountants
    keep it, (noise multiplier, sampling rate, steps) in order.
    """

    def __init__(self, most: int | None = None) -> None:
        self.history: list[tuple[float, float, int]] = []
        self._most = most

    def step(self, *, noise_multiplier: float, sample_rate: float) -> None:
        """Count one step. Raises ConfigError once the steps of the plan are taken."""
        if self._most is not None and len(self) >= self._most:
            raise ConfigError("steps", "the plan's steps are taken", "Charge for another round.")
        last = self.history[-1] if self.history else None
        if last and last[:2] == (noise_multiplier, sample_rate):
            self.history[-1] = (noise_multiplier, sample_rate, last[2] + 1)
        else:
            self.history.append((noise_multiplier, sample_rate, 1))

    def mechanisms(self) -> tuple[PoissonSgd | NonPrivate, ...]:
        """What was released so far: one mechanism for each noise and rate, in order."""
        return tuple(steps_of(noise, rate, steps) for noise, rate, steps in self.history)

    def events(self, *, label: str, parties: tuple[str, ...]) -> tuple[Event, ...]:
        """The same as a ledger's events, about these parties' users."""
        return tuple(
            Event(label=label, stage=Stage.TRAINING, parties=parties, mechanism=mechanism)
            for mechanism in self.mechanisms()
        )

    def get_epsilon(self, delta: float) -> float:
        """Epsilon of the steps so far, rounded up; inf without noise. Raises ConfigError."""
        return accountant.epsilon_of_mechanisms(self.mechanisms(), delta)

    def __len__(self) -> int:
        return sum(steps for *_, steps in self.history)

    @classmethod
    def mechanism(cls) -> str:
        return NAME


register_accountant(NAME, LedgerAccountant, force=True)
