"""DP-SGD at one party: the plan that is charged, and the steps that it pays for.

Abadi et al. (2016), "Deep learning with differential privacy", algorithm 1, with true Poisson
sampling. A step releases (sum of clipped row gradients + N(0, (sigma C)^2 I)) / B, where the
expected batch size B, the sampling rate and the number of steps are constants of the run; what
the optimiser, the network and the server do with it is post-processing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twinweave.errors import ConfigError
from twinweave.generators.conf import GradientMode
from twinweave.generators.flat import Arrays, FlatAdam, views
from twinweave.generators.per_row import Losses, clipped_sums, trainable
from twinweave.generators.plan import SgdPlan
from twinweave.generators.random_source import RandomSource

RowLoss = Callable[[Tensor, torch.Generator], Tensor]
"""(n, columns) int64 codes -> (n,) loss of each row alone, see `base.RowLossGenerator`."""

MICRO_BATCH = 4096
"""Rows through the network at once: bounds memory, changes nothing else."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a round looked like. Depends on the data without noise: never leaves the party.

    batches: rows of each step. loss: mean a row.
    """

    batches: tuple[int, ...] = field(repr=False)
    loss: float


class PrivateSgd:
    """The private steps of one plan on one module, by Adam.

    active: (parameters,) 0/1 over the flattened trainable parameters; entries at 0 are not
        trained and get no noise. For what a party cannot influence at all (blocks of columns
        it lacks): noise there would only do harm. Safe whatever it says, as entries at 0
        release nothing. Must not depend on the data.
    mode: how row gradients are had, see `per_row`.

    gradient: what the last step released, (parameters,). The trainable parameters become views
    of one flat buffer, on the module's device.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: SgdPlan,
        *,
        source: RandomSource,
        active: NDArray[np.bool_] | None = None,
        mode: GradientMode = "bookkeeping",
    ) -> None:
        self.plan = plan
        self._source = source
        parameters = [p for _, p in trainable(module)]
        self._adam = FlatAdam(parameters, learning_rate=plan.learning_rate)
        self._sum = torch.zeros_like(self._adam.flat)
        self._sums = list(views(self._sum, parameters))
        self._clipped = clipped_sums(module, plan.clip, mode)
        self._active = self._mask(active)
        self._taken = 0

    def _mask(self, active: NDArray[np.bool_] | None) -> Tensor | None:
        if active is None or active.all():
            return None
        if active.shape != tuple(self._sum.shape):
            raise ConfigError("active", "is not one entry a parameter", "Flatten in module order.")
        return torch.from_numpy(active.astype(np.float32)).to(self._sum.device)

    def batch(self, n: int) -> NDArray[np.int64]:
        """Row numbers of one Poisson batch out of n rows; may be empty."""
        return self._source.poisson_sample(n, self.plan.sampling_rate)

    def step(self, chunks: Iterable[Losses]) -> None:
        """Take one private step over a batch, given in chunks (none: noise alone).

        Raises ConfigError once the steps of the plan are taken.
        """
        if self._taken >= self.plan.steps:
            raise ConfigError("steps", "the plan's steps are taken", "Charge for another round.")
        self._taken += 1
        self._sum.zero_()
        for losses in chunks:
            self._clipped.add(losses, self._sums)
        if self.plan.noise_multiplier:
            scale = self.plan.noise_multiplier * self.plan.clip
            noise = self._source.normal(self._sum.numel()).mul_(scale)
            self._sum.add_(noise.to(self._sum.device))
        if self._active is not None:
            self._sum.mul_(self._active)
        self.gradient = self._sum / self.plan.expected_batch
        self._adam.step(self.gradient)

    def state(self) -> Arrays:
        """Adam's moments: post-processing of private gradients, kept at the party."""
        return self._adam.state()

    def restore(self, state: Arrays) -> None:
        """Go on from `state()` of an earlier round."""
        self._adam.restore(state)


def private_steps(
    module: nn.Module,
    row_loss: RowLoss,
    codes: NDArray[np.int32],
    plan: SgdPlan,
    *,
    source: RandomSource,
    active: NDArray[np.bool_] | None = None,
    adam: Arrays | None = None,
    mode: GradientMode = "bookkeeping",
) -> tuple[Trace, Arrays]:
    """Train a module on a loss of its rows for the steps of a plan, in place.

    codes: (n, columns) int32 of one party's rows, ABSENT where not held. adam: state of the
    round before. Returns what happened, and Adam's state for the next round: both stay here.
    """
    optimizer = PrivateSgd(module, plan, source=source, active=active, mode=mode)
    optimizer.restore(adam or {})
    device = next(module.parameters()).device
    generator = source.torch_generator(device.type)
    rows = torch.from_numpy(codes.astype(np.int64)).to(device)
    tally = Tally()

    def losses(part: Tensor) -> Tensor:
        return tally.seen(row_loss(rows[part], generator))

    module.train()
    for _ in range(plan.steps):
        index = torch.from_numpy(optimizer.batch(len(rows))).to(device)
        parts = torch.split(index, MICRO_BATCH) if len(index) else ()
        optimizer.step(partial(losses, part) for part in parts)
        tally.batch(len(index))
    return tally.trace(), optimizer.state()


class Tally:
    """Collects a `Trace`."""

    def __init__(self) -> None:
        self._batches: list[int] = []
        self._loss = 0.0

    def seen(self, losses: Tensor) -> Tensor:
        self._loss += float(losses.detach().sum())
        return losses

    def batch(self, rows: int) -> None:
        self._batches.append(rows)

    def trace(self) -> Trace:
        return Trace(batches=tuple(self._batches), loss=self._loss / max(1, sum(self._batches)))
