"""Opacus's private optimiser with exact clipping and noise from a cryptographic source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn, optim

from twinweave.errors import ConfigError
from twinweave.generators.engine.clipping import ClippedRows
from twinweave.generators.flat import views
from twinweave.generators.random_source import RandomSource


class CryptographicOptimizer(DPOptimizer):  # type: ignore[misc]
    """Releases (sum of clipped row gradients + N(0, (sigma C)^2 I)) / B, and steps by it.

    Abadi et al. (2016), "Deep learning with differential privacy", algorithm 1. What the wrapped
    optimiser does with `released` is post-processing. Differs from Opacus's: all parameters'
    noise is one draw of `source`; the step is counted before that; B is the public expected
    batch and no matter of accumulated passes; the sum does not outlive its step.

    rows: the wrapped module. active: (parameters,) 0/1 over the flattened parameters; entries
    at 0 are not trained and get no noise. For what a party cannot influence at all (blocks of
    columns it lacks): noise there would only do harm. Safe whatever it says, as entries at 0
    release nothing. Must not depend on the data.
    """

    def __init__(
        self,
        optimizer: optim.Optimizer,
        *,
        rows: ClippedRows,
        source: RandomSource,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: float,
        loss_reduction: str = "mean",
        active: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
            loss_reduction=loss_reduction,
            secure_mode=True,
        )
        self._rows, self._source = rows, source
        parameters: list[nn.Parameter] = self.params
        self._sum = torch.cat([torch.zeros_like(p).flatten() for p in parameters])
        self._sums = dict(zip(parameters, views(self._sum, parameters), strict=True))
        self._active = self._mask(active)
        self.released = torch.zeros_like(self._sum)
        """What the last step released, (parameters,)."""

    def _mask(self, active: NDArray[np.bool_] | None) -> Tensor | None:
        if active is None or active.all():
            return None
        if active.shape != tuple(self._sum.shape):
            raise ConfigError("active", "is not one entry a parameter", "Flatten in module order.")
        return torch.from_numpy(active.astype(np.float32)).to(self._sum.device)

    @property
    def accumulated_iterations(self) -> int:
        """Of a step, whatever the number of passes that its batch took."""
        return 1

    def clip_and_accumulate(self) -> None:
        """Add the clipped rows of the last backward pass to the sum of this step."""
        self._rows.add_clipped(self.max_grad_norm, self._sums)

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool:  # noqa: ARG002
        """See Opacus; but a step is counted, or refused, before its noise is drawn."""
        self.clip_and_accumulate()
        self._is_last_step_skipped = self._check_skip_next_step()
        if self._is_last_step_skipped:
            return False
        if self.step_hook:
            self.step_hook(self)
        self.add_noise()
        self.scale_grad()
        return True

    def add_noise(self) -> None:
        """Move the sum, with its noise, to the parameters' gradients."""
        self.released = self._noise().add_(self._sum)
        if self._active is not None:
            self.released.mul_(self._active)
        self._sum.zero_()
        for p, part in zip(self._sums, views(self.released, self._sums), strict=True):
            p.grad = part

    def _noise(self) -> Tensor:
        if not self.noise_multiplier:
            return torch.zeros_like(self._sum)
        noise = self._source.normal(self._sum.numel())
        return noise.mul_(self.noise_multiplier * self.max_grad_norm).to(self._sum)

    def scale_grad(self) -> None:
        """Divide by the public expected batch, where losses are means."""
        if self.loss_reduction == "mean":
            self.released.div_(self.expected_batch_size)

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Forget gradients that came back and were not stepped by."""
        rows: Any = self._rows
        rows.set_grad_sample_to_none()
        self.original_optimizer.zero_grad(set_to_none)
