"""The slow, obvious way to a clipped sum, which the fast ones are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from twinweave.generators.per_row import ClippedSums, Losses, trainable


def brute_force(
    module: nn.Module, loss_of_row: Sequence[Callable[..., Tensor]], clip: float
) -> Tensor:
    """The definition: one row at a time, one gradient, one clip, one sum of the finite ones."""
    total = torch.zeros(sum(p.numel() for _, p in trainable(module)))
    parameters = [p for _, p in trainable(module)]
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


def clipped_sum(sums: ClippedSums, module: nn.Module, losses: Losses) -> Tensor:
    out = [torch.zeros_like(p) for _, p in trainable(module)]
    sums.add(losses, out)
    return torch.cat([o.flatten() for o in out])


def worst_change(total: Callable[[list[int]], Tensor], n: int) -> float:
    """Largest move of a sum when one of n rows is left out."""
    every = total(list(range(n)))
    left = [total([i for i in range(n) if i != j]) for j in range(n)]
    return max(float((every - part).norm()) for part in left)
