"""Small networks whose rows have a loss each: every kind of layer, a plain one, a fragile one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Sequences(nn.Module):
    """Every kind of layer: embedding, sequences, a layer used twice, norms, a padded index."""

    def __init__(self, *, padding: int | None = 0, width: int = 6, length: int = 5) -> None:
        super().__init__()
        self.words = nn.Embedding(7, width, padding_idx=padding)
        self.places = nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, width)
        self.unbiased = nn.Linear(width, 40, bias=False)
        self.head = nn.Linear(40, 3)
        self.unused = nn.Linear(2, 2)
        self.group = nn.GroupNorm(2, 40)
        self.length = length

    def row_loss(self, codes: Tensor, generator: torch.Generator | None = None) -> Tensor:
        place = torch.arange(self.length).expand(len(codes), -1)
        x = self.norm(self.words(codes) + self.places(place))
        x = x + torch.tanh(self.mix(torch.tanh(self.mix(x))))
        pooled = self.group(self.unbiased(x).sum(dim=1))
        return nn.functional.cross_entropy(self.head(pooled), codes[:, 0] % 3, reduction="none")


class Dense(nn.Module):
    def __init__(self, inputs: int = 5, outputs: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))

    def row_loss(self, codes: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.net(codes.float()).square().sum(dim=1)


def rows(n: int, columns: int = 5, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 7, (n, columns)))


class Fragile(nn.Module):
    """Rows that stay finite or do not, by the numbers they bring, in four places.

    Each row is (3 features, middle, slope, end): `middle` scales the second layer's input,
    a `slope` of 0 gives a finite loss of infinite gradient, `end` scales the loss. A good row
    has ones there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 4)

    def row_loss(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        middle, slope, end = rows[:, 3:, None].unbind(dim=1)
        hidden = torch.sigmoid(self.first(rows[:, :3])) * middle
        return (self.second(hidden).square() * slope).sqrt().sum(dim=1) * end[:, 0]
