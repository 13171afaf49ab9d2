"""Canaries in a generator's training: rows whose gradient is the worst there is, for an audit.

A canary is a row with a parameter of its own, which is added to the network for it, and whose
loss is a multiple of that parameter: so its gradient lies along one axis of parameter space, at
right angles to all others, is the same in every step, and is longer than the clip.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twinweave.generators.base import RowLossGenerator
from twinweave.generators.union import Rows

OWN = "canaries.own.weight"
"""Ends the name of the canaries' parameters in every network that has them."""

LOUD = 8.0
"""Length of a canary's gradient, in clips."""


class Canaries(nn.Module):
    """One parameter for each of `count` canaries, and one that stands for nobody, at the end."""

    def __init__(self, count: int, clip: float) -> None:
        super().__init__()
        self.count, self._length = count, LOUD * clip
        self.own = nn.Embedding(count + 1, 1)
        nn.init.zeros_(self.own.weight)

    def in_place_of(self, losses: Tensor, which: Tensor) -> Tensor:
        """(n,) losses, a canary's own instead of its row's. which: (n,), `count` for nobody."""
        return torch.where(which < self.count, self.losses(which), losses)

    def losses(self, which: Tensor) -> Tensor:
        """(n,) of canaries alone."""
        loss: Tensor = self._length * self.own(which)[:, 0]
        return loss


class CanaryRows(RowLossGenerator):
    """A generator that learns from its loss of a row, with canaries among the rows.

    Codes have one more column, the last: the row's canary, or their number for none.
    """

    def __init__(self, inner: RowLossGenerator, canaries: Canaries) -> None:
        super().__init__(inner.conf, inner.layout)
        self.inner, self.canaries = inner, canaries
        self.micro_batch = inner.micro_batch

    def row_loss(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """Where all rows are canaries, the network itself has nothing to say."""
        which = codes[:, -1]
        if bool((which < self.canaries.count).all()):
            return self.canaries.losses(which)
        own = self.inner.row_loss(codes[:, :-1], generator)
        return self.canaries.in_place_of(own, which)

    def shared_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The network's, then the canaries'."""
        for name, parameter in self.inner.shared_parameters():
            yield f"inner.{name}", parameter
        yield OWN, self.canaries.own.weight  # type: ignore[misc]

    def trained_by(self, held: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
        mine = {f"inner.{name}": mask for name, mask in self.inner.trained_by(held).items()}
        return mine | {OWN: np.ones(tuple(self.canaries.own.weight.shape), dtype=np.bool_)}

    def sample(self, presence: NDArray[np.bool_], generator: torch.Generator) -> Rows:
        return self.inner.sample(presence, generator)
