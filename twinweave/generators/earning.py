"""What private training is worth of a run's budget: a rule from public facts.

The study behind it is `scripts/studies/training.py`, its table in docs/synthesis.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinweave.generators.conf import TrainingConf


@dataclass(frozen=True, kw_only=True)
class TrainingShare:
    """What the training gets. share: of mu**2, on the scale of `privacy.shares`; 0: the generator
    is fitted to the tables alone. why: a sentence for whoever reads the report."""

    share: float
    why: str


def training_share(generator: TrainingConf | None, asked: float | None) -> TrainingShare | None:
    """None without a generator. asked: a share of the user's own; None: `auto`.

    `auto` is none: on six tables, of 9 to 33 columns, 472 to 32,561 rows and epsilon 1 and 3, no
    share of the budget made rows that were nearer to held-out ones, by tables of two and three
    columns or by models trained on them, than the same budget spent on the tables.
    """
    if generator is None:
        return None
    if not generator.steps:
        return TrainingShare(share=0.0, why="none, as the generator has no private steps")
    if asked is None:
        return TrainingShare(
            share=0.0,
            why="none (auto): the tables make more of the same budget wherever it was studied; "
            "privacy.shares.training=0.1 trains",
        )
    if not asked:
        return TrainingShare(share=0.0, why="none, as asked")
    steps = f"{generator.rounds} rounds of {generator.local_steps} private steps at each party"
    return TrainingShare(share=asked, why=f"{asked:g} of the shares, as asked: {steps}")
