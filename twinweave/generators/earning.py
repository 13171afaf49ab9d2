"""What private training is worth of a run's budget: a rule from public facts.

The study behind it is `scripts/studies/training.py`, its table in docs/synthesis.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinweave.errors import ConfigError
from twinweave.generators.conf import TrainingConf


@dataclass(frozen=True, kw_only=True)
class TrainingShare:
    """What the training gets. share: of mu**2, on the scale of `privacy.shares`; 0: the generator
    is fitted to the tables alone, unless `unsafe`: trained without noise, for no share. why: a
    sentence for whoever reads the report."""

    share: float
    why: str
    unsafe: bool = False

    @property
    def trains(self) -> bool:
        """Whether parties take steps on their rows."""
        return self.unsafe or self.share > 0


def check_unsafe(generator: TrainingConf | None, unsafe: bool) -> None:
    """Raise ConfigError where a run is to train without noise and nothing trains, or where what
    trains is for such a run alone."""
    if generator is not None:
        generator.check_unsafe(unsafe)
    if unsafe and not (generator and generator.steps):
        raise ConfigError(
            "privacy.unsafe",
            "is true, but the run trains nothing: it is for a generator with private steps",
            "Leave it out, or choose a generator and give it rounds and local_steps.",
        )


def training_share(
    generator: TrainingConf | None, asked: float | None, *, unsafe: bool = False
) -> TrainingShare | None:
    """None without a generator. asked: a share of the user's own; None: `auto`. unsafe: train
    without noise, for no share.

    `auto` is none: at five tables of 9 to 33 columns and 472 to 32,561 users, epsilon 1, training
    brought the tables of two and three columns of the synthetic rows no nearer to held-out rows,
    and models trained on them gained nothing that training on shuffled columns did not give as
    well. The exception is a published model, which was not studied and is nothing without.
    """
    if generator is None:
        return None
    if unsafe:
        why = "without noise (privacy.unsafe): no share of the budget, and no guarantee at all"
        return TrainingShare(share=0.0, why=why, unsafe=True)
    if not generator.steps:
        return TrainingShare(share=0.0, why="none, as the generator has no private steps")
    steps = f"{generator.rounds} rounds of {generator.local_steps} private steps at each party"
    if asked is None and generator.auto_share:
        share = generator.auto_share
        return TrainingShare(share=share, why=f"{share:g} of the shares (auto): {steps}")
    if asked is None:
        return TrainingShare(
            share=0.0,
            why="none (auto): the generator is fitted to the tables alone, which make more of the "
            "same budget wherever it was studied; privacy.shares.training=0.1 trains",
        )
    if not asked:
        return TrainingShare(share=0.0, why="none, as asked")
    return TrainingShare(share=asked, why=f"{asked:g} of the shares, as asked: {steps}")
