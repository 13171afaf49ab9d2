"""The clipped sums of `per_row` through Opacus 1.6's own modes: slower, and as exact."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from twinweave.generators.conf import GradientMode
from twinweave.generators.per_row import Clipping, Losses, lengths, own_parameters, trainable

_WRAPPING: dict[str, Any] = {"loss_reduction": "sum", "strict": False}


_LARGEST = 1e6
"""Of what enters a layer in mode `ghost`."""


class StoredSums:
    """Modes `hooks` and `functorch`: the gradient of every row is kept in memory."""

    def __init__(self, module: nn.Module, clip: float, mode: GradientMode) -> None:
        from opacus import GradSampleModule

        self.clip = clip
        self.wrapped = GradSampleModule(module, force_functorch=mode == "functorch", **_WRAPPING)
        self.parameters = [p for _, p in trainable(module)]

    def add(self, losses: Losses, out: list[Tensor]) -> None:
        self.wrapped.zero_grad(set_to_none=True)
        torch.autograd.backward(losses().sum())
        rows: list[Tensor | None] = [vars(p).get("grad_sample") for p in self.parameters]
        squares = [lengths(g.flatten(1), (1,)) for g in rows if g is not None]
        clipping = Clipping.to(self.clip, torch.stack(squares).sum(dim=0).sqrt())
        for target, g in zip(out, rows, strict=True):
            if g is not None:  # a layer that these rows do not use has none
                target.add_(torch.tensordot(clipping.factor, clipping.kept(g), dims=([0], [0])))
        self.wrapped.zero_grad(set_to_none=True)


class GhostSums:
    """Mode `ghost`: norms from a first backward pass, the sum from a second.

    The second pass adds up rows inside autograd, where a dropped row must meet every
    parameter with zeros: what enters a layer is zero from the start in rows that are not
    finite, and what comes back through it is zero in all dropped rows. Opacus computes norms in
    single precision, where the square of a tiny gradient vanishes: so a row with an input beyond
    `_LARGEST` counts as not finite, and what could hide then is far below any clip.

    For rows that are vectors: Opacus's norms of sequences can be lost in rounding.
    """

    def __init__(self, module: nn.Module, clip: float) -> None:
        from opacus.grad_sample import GradSampleModuleFastGradientClipping as Ghost

        self.clip = clip
        self._running = False
        self._finite: Tensor | None = None
        self._clipping: Clipping | None = None
        for layer in module.modules():
            if own_parameters(layer):
                layer.register_forward_pre_hook(self._enter)
                layer.register_forward_hook(self._leave)
        self.wrapped = Ghost(module, max_grad_norm=clip, **_WRAPPING)
        self.parameters = [p for _, p in trainable(module)]

    def add(self, losses: Losses, out: list[Tensor]) -> None:
        self._reset()
        self.wrapped.enable_hooks()
        self._running = True
        try:
            loss = losses()
        finally:
            self._running = False
        torch.autograd.backward(loss.sum(), retain_graph=True)
        self._clipping = clipping = self._clip()
        self.wrapped.disable_hooks()
        for p in self.parameters:
            p.grad = None
        torch.autograd.backward(clipping.scaled(loss).sum())
        for target, p in zip(out, self.parameters, strict=True):
            if p.grad is not None:
                target.add_(p.grad)
        self._reset()

    def _reset(self) -> None:
        self._finite = self._clipping = None
        self.wrapped.zero_grad(set_to_none=True)
        for p in self.parameters:
            vars(p)["_norm_sample"] = None

    def _clip(self) -> Clipping:
        found: list[Tensor | None] = [vars(p)["_norm_sample"] for p in self.parameters]
        norms = torch.stack([n for n in found if n is not None]).norm(dim=0)
        if self._finite is not None:
            norms = torch.where(self._finite, norms, torch.inf)
        return Clipping.to(self.clip, norms)

    def _enter(self, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:  # noqa: ARG002
        rows = inputs[0]
        if not (self._running and rows.is_floating_point()):
            return None
        finite = (rows.abs() <= _LARGEST).flatten(1).all(dim=1)  # false for a NaN, too
        self._finite = finite if self._finite is None else self._finite & finite
        return (torch.where(finite.reshape(-1, *[1] * (rows.ndim - 1)), rows, 0.0), *inputs[1:])

    def _leave(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG002
        if self._running and output.requires_grad:
            output.register_hook(self._back)  # type: ignore[no-untyped-call]

    def _back(self, grad: Tensor) -> Tensor:
        return grad if self._clipping is None else self._clipping.kept(grad)
