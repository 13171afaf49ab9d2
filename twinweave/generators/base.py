"""The interface every generator implements, and the configuration they share.

A network is an `nn.Module` whose `shared_parameters()` travel (masked) between the parties
and the server; everything else (a discriminator, say) stays at the party.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows

if TYPE_CHECKING:
    import torch
    from torch import nn


class Network(Protocol):
    """What the local trainer, the fit and the synthesis need of a generator."""

    def shared_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Named parameters that are averaged over the parties, in a fixed order."""
        ...

    def sample(self, presence: NDArray[np.bool_], generator: torch.Generator) -> Rows:
        """Draw one row of the union for each row of `presence` (n, parties)."""
        ...


class SoftNetwork(Network, Protocol):
    """A network with differentiable output: what the fit to the measurements trains."""

    latent: int

    def logits(self, z: torch.Tensor, presence: torch.Tensor) -> torch.Tensor:
        """(n, latent) noise and (n, parties) presence in 0..1 -> (n, UnionLayout.width) logits.

        Presence 1/2 means unknown (a party training alone does not know who else holds a
        user). Softmax within each column's block gives that column's distribution.
        """
        ...


class RowLoss(Protocol):
    """A network trained by DP-SGD on its own per-row loss (tvae, llm; ctgan's discriminator)."""

    def row_loss(self, codes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """(n, columns) int64 codes, ABSENT where not held -> (n,) loss of each row alone.

        Rows never interact (no batch statistics), so per-row clipping bounds the
        sensitivity. Mean over the held columns or tokens of a row, never over the batch.
        """
        ...
