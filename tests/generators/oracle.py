"""The slow, obvious way to a clipped sum, and the engine's way, which is held against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from twinweave.generators.conf import GradientMode
from twinweave.generators.engine import PrivacyEngine
from twinweave.generators.plan import SgdPlan
from twinweave.generators.random_source import RandomSource
from twinweave.generators.training import Losses, PrivateTraining


def trainable(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def brute_force(
    module: nn.Module, loss_of_row: Sequence[Callable[..., Tensor]], clip: float
) -> Tensor:
    """The definition: one row at a time, one gradient, one clip, one sum of the finite ones."""
    parameters = trainable(module)
    total = torch.zeros(sum(p.numel() for p in parameters))
    for loss in loss_of_row:
        grads = torch.autograd.grad(loss().sum(), parameters, allow_unused=True)
        flat = torch.cat(
            [
                torch.zeros(p.numel()) if g is None else g.flatten()
                for g, p in zip(grads, parameters, strict=True)
            ]
        )
        if flat.norm().isfinite():
            total += flat * min(1.0, clip / float(flat.norm()))
    return total


class Calls(nn.Module):
    """A module of whatever losses it is called with: `Calls(network)(lambda: ...)`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, losses: Losses) -> Tensor:
        return losses()


def training_of(
    module: nn.Module,
    mode: GradientMode = "bookkeeping",
    *,
    source: bytes | None = None,
    **over: Any,
) -> PrivateTraining:
    """The engine's training of a module on one row of zeros; by default without noise.

    source: key of its randomness.
    """
    fields: dict[str, Any] = {
        "noise_multiplier": 0.0,
        "unsafe": True,
        "sampling_rate": 1.0,
        "steps": 10**6,
        "clip": 1.0,
        "learning_rate": 1e-3,
        "expected_batch": 1.0,
    }
    plan = SgdPlan(**{**fields, **over})
    engine = PrivacyEngine.of(plan, RandomSource(source))
    return PrivateTraining(module, np.zeros((1, 1), np.int32), plan, engine, mode=mode)


class ClippedSums:
    """Clipped sums as a private step without noise releases them; weights stay as they are."""

    def __init__(self, module: nn.Module, clip: float, mode: GradientMode = "bookkeeping") -> None:
        self.training = training_of(Calls(module), mode, clip=clip)

    def __call__(self, *chunks: Losses) -> Tensor:
        """(parameters,), of the rows of all chunks."""
        training, weights = self.training, self.training.adam.flat.clone()
        training.step([lambda c=c: training.module(c) for c in chunks])  # type: ignore[misc]
        training.adam.flat.copy_(weights)
        released: Tensor = training.optimizer.released
        return released


def worst_change(total: Callable[[list[int]], Tensor], n: int) -> float:
    """Largest move of a sum when one of n rows is left out."""
    every = total(list(range(n)))
    left = [total([i for i in range(n) if i != j]) for j in range(n)]
    return max(float((every - part).norm()) for part in left)
