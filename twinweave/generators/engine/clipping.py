"""What is left of each row's gradient, and which rows are left out.

A row whose gradient is not finite adds exactly nothing, in every mode and along the same path:
whether a step ends, and how, tells nothing of the rows. As 0 times infinity is not 0, such a
row's values are replaced, never multiplied away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from twinweave.errors import ConfigError

TINY = 1e-6
"""Room for rounding: a clipped norm stays below the clip."""


class ClippedRows(Protocol):
    """What a module of every gradient mode offers to the optimiser."""

    def add_clipped(self, clip: float, out: Mapping[nn.Parameter, Tensor]) -> None:
        """Add sum_i min(1, C / |g_i|) g_i over the rows of the last backward pass; forget them.

        g_i is the gradient of row i's loss in all trainable parameters together; those named in
        `out` get their part of the sum. A row whose |g_i| is not finite adds nothing.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Clipping:
    """What is left of each row. factor: (n,). dropped: numbers of the rows that add nothing."""

    factor: Tensor
    dropped: Tensor

    @classmethod
    def to(cls, clip: float, norms: Tensor, *, scale: int = 1) -> Clipping:
        """min(1, C / norm) of gradients that still have to be multiplied by `scale`.

        norms: (n,), before `scale`; a row whose norm is not finite is dropped.
        """
        allowed = clip / (norms.double() * scale + TINY)
        factor = (allowed.clamp(max=1.0) * scale).float()
        dropped = torch.isfinite(norms).logical_not_().nonzero()[:, 0]
        return cls(factor=factor.index_fill_(0, dropped, 0.0), dropped=dropped)

    def kept(self, values: Tensor) -> Tensor:
        """(n, ...) values, those of dropped rows replaced by zeros."""
        return values.index_fill(0, self.dropped, 0.0)

    def scaled(self, values: Tensor) -> Tensor:
        """(n, ...) values, each row's times its factor."""
        factor = self.factor.reshape(-1, *[1] * (values.ndim - 1))
        return (values * factor).index_fill_(0, self.dropped, 0.0)

    def sum(self, values: Tensor) -> Tensor:
        """(n, ...) gradients -> (...), the sum of the clipped ones."""
        total: Tensor = torch.tensordot(self.factor, self.kept(values), dims=([0], [0]))
        return total


def lengths(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Squared length over these dimensions, in double precision and never below the truth.

    Squares of single precision vanish long before the gradient itself does, and an unseen norm
    clips nothing: so what can vanish at most is added, 2**-126 a number.
    """
    length: Tensor = torch.linalg.vector_norm(values, dim=dims)
    vanished = math.prod(values.shape[d] for d in dims) * torch.finfo(torch.float32).tiny
    return length.double().square_().add_(vanished)


def own_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters that belong to the layer itself."""
    return {n: p for n, p in layer.named_parameters(recurse=False) if p.requires_grad}


def mixes_rows(layer: nn.Module) -> bool:
    """Whether a layer's output for a row depends on the rows beside it."""
    return isinstance(layer, nn.modules.batchnorm._BatchNorm)


def check_layer(layer: nn.Module) -> None:
    """Raise ConfigError for a layer that no mode can take row by row."""
    if mixes_rows(layer):
        raise not_row_by_row(layer)
    if getattr(layer, "inplace", False):
        raise changed_in_place(layer)


def changed_in_place(layer: nn.Module) -> ConfigError:
    return ConfigError(
        f"generator layer {type(layer).__name__}",
        "its input or output is changed in place, so row gradients would be wrong",
        "Use activations and sums that are not in place.",
    )


def not_row_by_row(layer: nn.Module) -> ConfigError:
    return ConfigError(
        f"generator layer {type(layer).__name__}",
        "has no exact gradient for each row alone",
        "Keep parameters in nn.Linear, nn.Embedding or nn.LayerNorm; no batch statistics.",
    )
