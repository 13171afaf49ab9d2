"""Poisson batches of a public expected size, drawn from a cryptographic stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.data_loader import dtype_safe, shape_safe, wrap_collate_with_empty
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

from twinweave.errors import ConfigError
from twinweave.generators.random_source import RandomSource


class PoissonSampler:
    """Row numbers of `steps` batches: each of n rows is in each batch with probability `rate`."""

    def __init__(self, n: int, *, rate: float, steps: int, source: RandomSource) -> None:
        self.n, self.rate, self.steps, self.source = n, rate, steps, source

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for _ in range(self.steps):
            yield self.source.poisson_sample(self.n, self.rate)

    def __len__(self) -> int:
        return self.steps


class PoissonLoader(DataLoader[Any]):
    """A loader's rows in Poisson batches, some of which are empty.

    One pass is all the steps that were planned: there are no epochs. Nothing about it but the
    batches themselves depends on how many rows there are. Rows of a `TensorDataset` are
    gathered as a whole, on their own device: [(n, ...), ...].
    """

    def __init__(
        self, loader: DataLoader[Any], *, rate: float, steps: int, source: RandomSource
    ) -> None:
        dataset: Any = loader.dataset
        if isinstance(dataset, IterableDataset):
            raise ConfigError("data_loader", "its rows have no numbers", "Give a map of rows.")
        first = dataset[0] if len(dataset) else ()
        self._numbers = PoissonSampler(len(dataset), rate=rate, steps=steps, source=source)
        super().__init__(
            dataset,
            batch_sampler=self._numbers,  # type: ignore[arg-type]  # arrays, which index as lists do
            collate_fn=wrap_collate_with_empty(
                collate_fn=loader.collate_fn,
                sample_empty_shapes=[(0, *shape_safe(part)) for part in first],
                dtypes=[dtype_safe(part) for part in first],
            ),
            num_workers=loader.num_workers,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
        )
        self._whole = isinstance(dataset, TensorDataset) and loader.collate_fn is default_collate

    def __iter__(self) -> Any:
        return self._gathered() if self._whole else super().__iter__()

    def _gathered(self) -> Iterator[list[torch.Tensor]]:
        assert isinstance(self.dataset, TensorDataset)
        for index in self._numbers:
            rows = torch.as_tensor(index)
            yield [part[rows.to(part.device)] for part in self.dataset.tensors]
