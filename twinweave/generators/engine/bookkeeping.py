"""Mode `bookkeeping`: exact sums of clipped gradients in one backward pass. The fastest here.

Book-keeping clipping: Bu, Wang, Zha, Karypis (2023), "Differentially private optimization on
large model at small cost", section 3. A forward and a backward pass to the layers' outputs
(parameter gradients are not computed there); norms from inputs and output gradients; then one
weighted product a layer gives the clipped sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from opacus.grad_sample import AbstractGradSampleModule
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from twinweave.errors import ConfigError
from twinweave.generators.engine.clipping import Clipping, mixes_rows, own_parameters
from twinweave.generators.engine.layers import LayerKind, Use, backward_twice, kind_of


class GradSampleModuleBookKeeping(AbstractGradSampleModule):  # type: ignore[misc]
    """Gives clipped sums; row gradients themselves never exist, nor does an unclipped sum.

    The module's output has the rows first. Parameters used outside a layer's own forward get no
    gradient: the sum is then incomplete, never more sensitive. Raises ConfigError for layers
    that mix rows or share parameters.
    """

    def __init__(
        self, m: nn.Module, *, batch_first: bool = True, loss_reduction: str = "mean"
    ) -> None:
        super().__init__(m, batch_first=batch_first, loss_reduction=loss_reduction)
        self.hooks_enabled = True
        self._uses: list[Use] = []
        self._rows = 0
        self._recording = False
        layers = [layer for layer in m.modules() if own_parameters(layer) or mixes_rows(layer)]
        self._kinds: dict[nn.Module, LayerKind] = {layer: kind_of(layer) for layer in layers}
        owned = [p for layer in layers for p in own_parameters(layer).values()]
        if len(owned) != len(set(owned)):
            raise ConfigError("generator", "layers share a parameter", "Give each its own.")
        self._trained = owned
        self._handles: list[RemovableHandle] = [
            layer.register_forward_hook(self._record) for layer in layers
        ]

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The module's own output, whose backward pass brings the rows' gradients.

        Raises ConfigError where rows of an earlier pass came back and were not stepped by.
        """
        if not (self.hooks_enabled and self.training and torch.is_grad_enabled()):
            return self._module(*args, **kwargs)  # type: ignore[no-any-return]
        if any(use.grad is not None for use in self._uses):
            raise backward_twice()
        with self._recorded():
            out: Tensor = self._module(*args, **kwargs)
        self._rows = len(out)
        return out

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Layers keep what they see; their parameters get no gradient of their own."""
        self._uses, self._recording = [], True
        for p in self._trained:
            p.requires_grad_(False)
        try:
            yield
        finally:
            self._recording = False
            for p in self._trained:
                p.requires_grad_(True)

    def _record(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if not self._recording:
            return
        if not output.requires_grad:  # of a first layer: the backward pass ends here
            output.requires_grad_()
        use = Use(layer, inputs[0].detach(), output.detach())
        output.register_hook(use.came_back)  # type: ignore[no-untyped-call]
        self._uses.append(use)

    def add_clipped(self, clip: float, out: Mapping[nn.Parameter, Tensor]) -> None:
        """See `ClippedRows`."""
        uses, self._uses = self._uses, []
        groups: dict[nn.Module, list[Use]] = {}
        for use in uses:
            if use.grad is not None:
                use.check(self._rows)
                groups.setdefault(use.layer, []).append(use)
        if not groups:
            return
        squares = [self._kinds[layer].squares(group) for layer, group in groups.items()]
        scale = self._rows if self.loss_reduction == "mean" else 1
        clipping = Clipping.to(clip, torch.stack(squares).sum(dim=0).sqrt(), scale=scale)
        for layer, group in groups.items():
            self._kinds[layer].add(group, clipping, out)

    def set_grad_sample_to_none(self) -> None:
        """Forget gradients that came back."""
        for use in self._uses:
            use.grad = None

    def enable_hooks(self) -> None:
        self.hooks_enabled = True

    def disable_hooks(self) -> None:
        """Until enabled, the module is a plain one."""
        self.hooks_enabled = False

    def remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
