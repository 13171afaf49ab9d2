"""A module's private steps: the engine of DP-SGD at work on one party's rows.

Loads Opacus: imported where rows are trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from twinweave.generators.conf import GradientMode
from twinweave.generators.engine import PrivacyEngine
from twinweave.generators.flat import Arrays, FlatAdam
from twinweave.generators.plan import SgdPlan

Losses = Callable[[], Tensor]
"""Runs the wrapped module on some rows of a batch: each row's own loss, (n,)."""
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


class PrivateTraining:
    """A module, made private by the party's engine, and trained by Adam for a plan's steps.

    codes: (n, columns) of the party's rows. module, optimizer, loader: as wrapped. The
    trainable parameters become views of one flat buffer, on the module's device.
    """

    def __init__(
        self,
        module: nn.Module,
        codes: NDArray[np.int32],
        plan: SgdPlan,
        engine: PrivacyEngine,
        *,
        mode: GradientMode,
        active: NDArray[np.bool_] | None = None,
        adam: Arrays | None = None,
    ) -> None:
        parameters = [p for p in module.parameters() if p.requires_grad]
        rows = torch.from_numpy(codes.astype(np.int64)).to(parameters[0].device)
        self.adam = FlatAdam(parameters, learning_rate=plan.learning_rate)
        self.adam.restore(adam or {})
        self.module, self.optimizer, *twice, self.loader = engine.make_private(
            module=module,
            optimizer=self.adam,
            criterion=Mean(),
            data_loader=DataLoader(TensorDataset(rows)),
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.clip,
            grad_sample_mode=mode,
            active=active,
        )
        self._mean = twice[0] if twice else Mean()

    @contextmanager
    def unhooked(self) -> Iterator[None]:
        """Meanwhile the module is a plain one: for steps that touch no row."""
        self.module.disable_hooks()
        try:
            yield
        finally:
            self.module.enable_hooks()

    def step(self, chunks: Iterable[Losses]) -> None:
        """Take one private step over a batch, given in chunks (none: noise alone).

        Raises ConfigError once the steps of the plan are taken.
        """
        for losses in chunks:
            self._mean(losses()).backward()
            self.optimizer.signal_skip_step()
            self.optimizer.step()
        self.optimizer.step()
        self.optimizer.zero_grad()


class Mean(nn.Module):
    """Opacus's kind of criterion, for a module that gives the losses itself."""

    reduction = "mean"

    def forward(self, losses: Tensor) -> Tensor:
        return losses.mean() if self.reduction == "mean" else losses


class RowLosses(nn.Module):
    """A network as the module of its rows' losses: (n, columns) int64 codes -> (n,)."""

    def __init__(self, network: nn.Module, row_loss: RowLoss, generator: torch.Generator) -> None:
        super().__init__()
        self.network = network
        self._row_loss, self._generator = row_loss, generator

    def forward(self, codes: Tensor) -> Tensor:
        return self._row_loss(codes, self._generator)


def private_steps(
    module: nn.Module,
    row_loss: RowLoss,
    codes: NDArray[np.int32],
    plan: SgdPlan,
    engine: PrivacyEngine,
    *,
    active: NDArray[np.bool_] | None = None,
    adam: Arrays | None = None,
    mode: GradientMode = "bookkeeping",
    micro_batch: int | None = None,
) -> tuple[Trace, Arrays]:
    """Train a module on a loss of its rows for the steps of a plan, in place.

    codes: (n, columns) int32 of one party's rows, ABSENT where not held. adam: state of the
    round before. micro_batch: rows through the module at once; None: MICRO_BATCH.
    Returns what happened, and Adam's state for the next round: both stay here.
    """
    module.train()
    device = next(module.parameters()).device
    losses = RowLosses(module, row_loss, engine.source.torch_generator(device.type))
    training = PrivateTraining(losses, codes, plan, engine, mode=mode, active=active, adam=adam)
    tally = Tally()

    def seen(part: Tensor) -> Tensor:
        return tally.seen(training.module(part))

    for (batch,) in training.loader:
        parts = torch.split(batch, micro_batch or MICRO_BATCH) if len(batch) else ()
        training.step(partial(seen, part) for part in parts)
        tally.batch(len(batch))
    return tally.trace(), training.adam.moments()


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
