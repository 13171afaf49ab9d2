"""What a generator is: a neural sampler of whole rows, trained where the rows are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twinweave.generators.conf import GeneratorConf
from twinweave.generators.flat import Arrays, flatten, unflatten
from twinweave.generators.plan import SgdPlan
from twinweave.generators.union import OneWay, Rows, UnionLayout

if TYPE_CHECKING:
    from pathlib import Path

    from twinweave.generators.canaries import Canaries
    from twinweave.generators.engine import PrivacyEngine
    from twinweave.generators.pretrained.lineage import Training
    from twinweave.generators.training import Trace

Progress = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalRound:
    """What a party trains with in one round. Private.

    codes: (n, columns) int32, ABSENT where not held; held: (columns,). engine: of this plan.
    one_way: noisy tables. state: what the round before left, empty in the first.
    """

    codes: NDArray[np.int32] = field(repr=False)
    held: NDArray[np.bool_]
    plan: SgdPlan
    engine: PrivacyEngine
    one_way: OneWay = field(repr=False)
    state: Arrays = field(repr=False)


class Generator(nn.Module, ABC):
    """A network over the union's columns; each kind of it has its line in `registry.KINDS`.

    `shared_parameters` travel, masked, between the parties and the server; whatever else the
    training needs (a discriminator, say) stays at the party.
    """

    def __init__(self, conf: GeneratorConf, layout: UnionLayout) -> None:
        """The constructors of the kinds themselves are `registry.KINDS`."""
        super().__init__()
        self.conf = conf
        self.layout = layout

    def shared_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Named parameters that are averaged over the parties, in a fixed order."""
        return self.named_parameters()

    @property
    def weights(self) -> NDArray[np.float32]:
        """The shared parameters as one vector, (parameters,): a copy."""
        return flatten(p for _, p in self.shared_parameters())

    @weights.setter
    def weights(self, flat: NDArray[np.float32]) -> None:
        """Raises ConfigError where the vector is not as long as the parameters."""
        unflatten((p for _, p in self.shared_parameters()), flat)

    @property
    def soft(self) -> SoftGenerator | None:
        """This generator, if the fit can train it; None where it only draws rows."""
        return None

    @property
    def most_candidates(self) -> int | None:
        """Rows that it writes for a synthesis, at most; None: as many as are asked for."""
        return self.conf.most_candidates

    def shares(
        self,
        rows: Rows,  # noqa: ARG002
        column: int,  # noqa: ARG002
    ) -> NDArray[np.float64] | None:
        """Chances of each code of a column, given what is written before it: (n, size).

        None where the generator does not write a row column by column.
        """
        return None

    @abstractmethod
    def sample(self, presence: NDArray[np.bool_], generator: torch.Generator) -> Rows:
        """Draw one row of the union for each row of `presence` (n, parties)."""

    @abstractmethod
    def trained_by(self, held: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
        """Entries of each shared parameter that a party with these columns trains. Public."""

    def coverage(self, held: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """`trained_by` over the vector of weights: (parameters,)."""
        mask = self.trained_by(held)
        return np.concatenate([mask[name].ravel() for name, _ in self.shared_parameters()])

    @abstractmethod
    def train_privately(self, local: LocalRound) -> tuple[Trace, Arrays]:
        """Take `plan.steps` private steps on one party's rows, in place.

        Returns what happened and the state for the next round, both of which stay at the party.
        """

    @abstractmethod
    def with_canaries(self, canaries: Canaries) -> Generator:
        """The same network, trained on rows of which some are canaries: their codes have one
        more column, the last, with the row's canary, or `canaries.count` for none."""

    def learn_format(
        self,
        draft: Callable[[], Rows],  # noqa: ARG002
        *,
        seed: int,  # noqa: ARG002
        progress: Progress | None = None,  # noqa: ARG002
    ) -> None:
        """Learn what rows look like, in place, before the first round; free of privacy cost.

        draft: gives rows drawn from tables that are private already; only called where the
        generator has such a stage. Most have none.
        """
        return

    def write_unsafe(self, folder: Path, training: Training) -> bool:  # noqa: ARG002
        """Write what was trained without noise into a folder, marked as such, for use elsewhere.

        False, and nothing written, where the generator is of no use outside its run: most are.
        """
        return False


class SoftGenerator(Generator):
    """A generator with differentiable output: what the fit to the measurements trains."""

    latent: int

    @property
    def soft(self) -> SoftGenerator:
        return self

    @abstractmethod
    def logits(self, z: Tensor, presence: Tensor) -> Tensor:
        """(n, latent) noise and (n, parties) presence in 0..1 -> (n, width) logits.

        Presence 1/2 means unknown (a party training alone does not know who else holds a
        user). Softmax within each column's block gives that column's distribution.
        """


class RowLossGenerator(Generator):
    """A generator whose shared parameters all learn from its own loss of a row, by DP-SGD.

    micro_batch: rows through the network at once; None: as is usual (`training.MICRO_BATCH`).
    """

    micro_batch: int | None = None

    @abstractmethod
    def row_loss(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """(n, columns) int64 codes, ABSENT where not held -> (n,) loss of each row alone.

        Rows never interact (no batch statistics), so per-row clipping bounds the
        sensitivity. Mean over the held columns of a row, never over the batch.
        """

    def train_privately(self, local: LocalRound) -> tuple[Trace, Arrays]:
        from twinweave.generators.training import private_steps

        return private_steps(
            self,
            self.row_loss,
            local.codes,
            local.plan,
            local.engine,
            active=self.coverage(local.held),
            adam=local.state,
            mode=self.conf.gradients,
            micro_batch=self.micro_batch,
        )

    def with_canaries(self, canaries: Canaries) -> Generator:
        from twinweave.generators.canaries import CanaryRows

        return CanaryRows(self, canaries)
