"""Modes `hooks` and `functorch`: Opacus keeps the gradient of every row. Slower, and as exact."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from opacus import GradSampleModule
from torch import Tensor, nn

from twinweave.generators.engine.clipping import Clipping, lengths


class GradSampleModuleExact(GradSampleModule):  # type: ignore[misc]
    """Opacus's own, whose rows are clipped by norms that are never below the truth."""

    def add_clipped(self, clip: float, out: Mapping[nn.Parameter, Tensor]) -> None:
        """See `ClippedRows`."""
        rows: dict[nn.Parameter, Tensor] = {
            p: p.grad_sample
            for p in self._module.parameters()
            if getattr(p, "grad_sample", None) is not None  # None in layers that rows do not use
        }
        if not rows:
            return
        squares = [lengths(g.flatten(1), (1,)) for g in rows.values()]
        clipping = Clipping.to(clip, torch.stack(squares).sum(dim=0).sqrt())
        for p, g in rows.items():
            if p in out:
                out[p].add_(clipping.sum(g))
        self.set_grad_sample_to_none()
