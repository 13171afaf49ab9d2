"""Configuration of the synthesis: `conf/synthesis/*.yaml`. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from twinweave.errors import ConfigError
from twinweave.parsing import Parsed, check_not_negative, check_positive


@dataclass(frozen=True, kw_only=True)
class FitConf(Parsed):
    """How long and how finely to fit.

    latents: product distributions in the mixture.
    network_steps: of stage 1, which fits the network's own parameters to the tables.
    network_lr: its learning rate.
    spread: standard deviation, in logits, of the normal noise that tells the latents apart when
        stage 2 starts from the network's output (the one-way tables without one).
    free_steps: of stage 2, which fits the mixture's logits, at most: fewer where more would fit
        noise.
    free_lr: its learning rate.
    """

    latents: int = 1024
    network_steps: int = 100
    network_lr: float = 2e-3
    spread: float = 1.0
    free_steps: int = 250
    free_lr: float = 0.3

    def __post_init__(self) -> None:
        check_positive("synthesis.fit", self, "latents", "network_lr", "free_lr")
        check_not_negative("synthesis.fit", self, "network_steps", "free_steps", "spread")


@dataclass(frozen=True, kw_only=True)
class RakeConf(Parsed):
    """How rows are weighed and drawn until they meet the tables.

    candidates: rows offered for each row wanted. steps: of L-BFGS, at most.
    strength: evidence that the candidates' own distribution counts for, in multiples of the
        union's size: at 1 it is trusted as much as a sample of that size would be.
    exchanges: rounds of swaps that bring the rows drawn closer to the weighted tables.
    """

    candidates: float = 4.0
    strength: float = 0.3
    steps: int = 60
    exchanges: int = 200

    def __post_init__(self) -> None:
        check_positive("synthesis.rake", self, "strength")
        check_not_negative("synthesis.rake", self, "steps", "exchanges")
        if self.candidates < 1:
            raise ConfigError("synthesis.rake.candidates", "below 1", "Give 1 or more.")


@dataclass(frozen=True, kw_only=True)
class SynthesisConf(Parsed):
    """How synthetic rows are made from the noisy tables (conf/synthesis).

    rows: synthetic rows of the union; None: its estimated size.
    mixture: also for a network without soft output, a mixture is fitted to the measurements
        and gives this part of the candidates. None: what a network that writes few of them
        (`Generator.most_candidates`) leaves; of others none.
    csv: write the synthetic tables as CSV too.
    """

    fit: FitConf = field(default_factory=FitConf)
    rake: RakeConf = field(default_factory=RakeConf)
    rows: int | None = None
    mixture: float | None = None
    csv: bool = False
