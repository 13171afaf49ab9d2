"""Mode `ghost`: Opacus takes norms from a first backward pass, the sum from a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import Tensor, nn

from twinweave.errors import ConfigError
from twinweave.generators.engine.clipping import Clipping, own_parameters

_LARGEST = 1e6
"""Of what enters a layer."""


class GradSampleModuleGhost(GradSampleModuleFastGradientClipping):  # type: ignore[misc]
    """Opacus's own, in which rows that are not finite add exactly nothing.

    The second pass adds up rows inside autograd, where a dropped row must meet every
    parameter with zeros: what enters a layer is zero from the start in rows that are not
    finite, and what comes back through it is zero in all dropped rows. Opacus computes norms in
    single precision, where the square of a tiny gradient vanishes: so a row with an input beyond
    `_LARGEST` counts as not finite, and what could hide then is far below any clip.

    For rows that are vectors: Opacus's norms of sequences can be lost in rounding. Raises
    ConfigError for others.
    """

    def __init__(self, m: nn.Module, **options: Any) -> None:
        super().__init__(m, **options)
        self._running = self._ready = False
        self._finite: Tensor | None = None
        self._clipping: Clipping | None = None
        for layer in m.modules():
            if own_parameters(layer):
                layer.register_forward_pre_hook(self._enter)
                layer.register_forward_hook(self._leave)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        self._finite, self._clipping, self._running = None, None, self.hooks_enabled
        for p in self.trainable_parameters:
            p._norm_sample = None
        try:
            out: Tensor = super().forward(*args, **kwargs)
        finally:
            self._running = False
        return out

    def get_clipping_coef(self) -> Tensor:
        """Between the passes: what is left of each row, (n,). No gradient is left of the first."""
        norms = torch.stack([n for n in self._norms() if n is not None]).norm(dim=0)
        if self._finite is not None:
            norms = torch.where(self._finite, norms, torch.inf)
        self._clipping = Clipping.to(self.max_grad_norm, norms)
        for p in self.trainable_parameters:
            p.grad = None
        self._ready = True
        return self._clipping.factor

    def _norms(self) -> list[Tensor | None]:
        """Of layers that the rows do not use: None."""
        return [p._norm_sample for p in self.trainable_parameters]

    def add_clipped(self, clip: float, out: Mapping[nn.Parameter, Tensor]) -> None:
        """See `ClippedRows`; the clip is the module's own `max_grad_norm`."""
        if not self._ready:  # what stands in the gradients is an earlier step's
            return
        if clip != self.max_grad_norm:
            raise ConfigError("max_grad_norm", "changed after wrapping", "Make it private anew.")
        for p, target in out.items():
            if p.grad is not None:
                target.add_(p.grad)
        self.set_grad_sample_to_none()

    def set_grad_sample_to_none(self) -> None:
        """Forget gradients that came back."""
        super().set_grad_sample_to_none()
        self._ready = False

    def _enter(self, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        rows = inputs[0]
        if not self._running:
            return None
        if rows.ndim > (2 if rows.is_floating_point() else 1):
            raise ConfigError(
                f"generator layer {type(layer).__name__}",
                "reads sequences, whose norms mode `ghost` can lose in rounding",
                "Choose the mode `bookkeeping`.",
            )
        if not rows.is_floating_point():
            return None
        finite = (rows.abs() <= _LARGEST).all(dim=1)  # false for a NaN, too
        self._finite = finite if self._finite is None else self._finite & finite
        return (torch.where(finite[:, None], rows, 0.0), *inputs[1:])

    def _leave(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG002
        if self._running and output.requires_grad:
            output.register_hook(self._back)  # type: ignore[no-untyped-call]

    def _back(self, grad: Tensor) -> Tensor:
        return grad if self._clipping is None else self._clipping.kept(grad)
