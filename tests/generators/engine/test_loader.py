"""Poisson batches: from the party's own source, empty ones included, as many as planned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.generators.toys import KEY
from twinweave.generators.engine.loader import PoissonLoader
from twinweave.generators.random_source import RandomSource


class Listed(Dataset[Any]):
    """Rows without tensors of their own: collated by torch, one by one."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.full((4,), float(i)), int(i)


@pytest.mark.parametrize("rows", [TensorDataset(torch.zeros(30, 4), torch.arange(30)), Listed(30)])
def test_batches_are_poisson_with_empty_ones_and_as_many_as_planned(rows: Dataset[Any]) -> None:
    loader = PoissonLoader(DataLoader(rows), rate=0.05, steps=60, source=RandomSource(KEY))
    batches = list(loader)
    assert len(batches) == len(loader) == 60
    sizes = [len(x) for x, _ in batches]
    assert {0, 1, 2} < set(sizes)
    assert all(x.shape[1:] == (4,) and len(x) == len(y) for x, y in batches)
    source = RandomSource(KEY)
    assert sizes == [len(source.poisson_sample(30, 0.05)) for _ in range(60)]
