"""Exact sums of per-row clipped gradients, in one backward pass.

`BookKeeping` is the default: measured fastest on every network here, and exact. Opacus's own
modes (`opacus_modes`) stay selectable, and are what the tests hold it against.

A row whose gradient is not finite adds exactly nothing, in every mode and along the same path:
whether a step ends, and how, tells nothing of the rows. As 0 times infinity is not 0, such a
row's values are replaced, never multiplied away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from twinweave.errors import ConfigError
from twinweave.generators.conf import GradientMode

Losses = Callable[[], Tensor]
"""Runs the module on some rows and returns each row's own loss, (n,)."""

_TINY = 1e-6
"""Room for rounding: a clipped norm stays below the clip."""


class ClippedSums(Protocol):
    def add(self, losses: Losses, out: list[Tensor]) -> None:
        """Add sum_i min(1, C / |g_i|) g_i to `out`, a tensor a parameter.

        g_i is the gradient of row i's loss in all trainable parameters together, in the order
        of `trainable(module)`. A row whose |g_i| is not finite adds nothing.
        """
        ...


def trainable(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in module.named_parameters() if p.requires_grad]


def clipped_sums(module: nn.Module, clip: float, mode: GradientMode = "bookkeeping") -> ClippedSums:
    if mode == "bookkeeping":
        return BookKeeping(module, clip)
    from twinweave.generators.opacus_modes import GhostSums, StoredSums

    return GhostSums(module, clip) if mode == "ghost" else StoredSums(module, clip, mode)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clipping:
    """What is left of each row. factor: (n,). dropped: numbers of the rows that add nothing."""

    factor: Tensor
    dropped: Tensor

    @classmethod
    def to(cls, clip: float, norms: Tensor) -> Clipping:
        """min(1, C / norm); a row whose norm, (n,), is not finite is dropped."""
        factor = (clip / (norms.double() + _TINY)).clamp(max=1.0).float()
        dropped = torch.isfinite(norms).logical_not_().nonzero()[:, 0]
        return cls(factor=factor.index_fill_(0, dropped, 0.0), dropped=dropped)

    def kept(self, values: Tensor) -> Tensor:
        """(n, ...) values, those of dropped rows replaced by zeros."""
        return values.index_fill(0, self.dropped, 0.0)

    def scaled(self, values: Tensor) -> Tensor:
        """(n, ...) values, each row's times its factor."""
        factor = self.factor.reshape(-1, *[1] * (values.ndim - 1))
        return (values * factor).index_fill_(0, self.dropped, 0.0)


@dataclass(eq=False)
class _Use:
    """One pass through one layer: its input, its output, and the output's gradient."""

    layer: nn.Module
    input: Tensor
    output: Tensor
    versions: tuple[int, int] = field(init=False)
    grad: Tensor | None = None
    per_row: dict[str, Tensor] | None = None

    def __post_init__(self) -> None:
        self.versions = self._now()

    def _now(self) -> tuple[int, int]:
        return self.input._version, self.output._version

    def check(self, n: int) -> None:
        if self._now() != self.versions:
            raise ConfigError(
                f"generator layer {type(self.layer).__name__}",
                "its input or output is changed in place, so row gradients would be wrong",
                "Use activations and sums that are not in place.",
            )
        if not (len(self.input) == len(self.output) == n):
            raise ConfigError(
                f"generator layer {type(self.layer).__name__}",
                "its first dimension is not the rows of the batch",
                "Expand inputs that all rows share to (rows, ...) before the layer.",
            )


class BookKeeping:
    """Book-keeping clipping: Bu, Wang, Zha, Karypis (2023), "Differentially private
    optimization on large model at small cost", section 3.

    One forward and one backward pass to the layers' outputs (parameter gradients are not
    computed there); norms from inputs and output gradients; then one weighted product a layer
    gives the clipped sum. nn.Linear and nn.Embedding in closed form ("ghost" norms, Goodfellow
    2015, Li et al. 2022), every other layer through Opacus's per-sample gradient of that layer.

    Parameters used outside a layer's own forward get no gradient: the sum is then incomplete,
    never more sensitive. Raises ConfigError for layers that mix rows or share parameters.
    """

    def __init__(self, module: nn.Module, clip: float) -> None:
        self.clip = clip
        self.parameters = [p for _, p in trainable(module)]
        self._at = {id(p): i for i, p in enumerate(self.parameters)}
        self._uses: list[_Use] = []
        self._recording = False
        layers = [m for m in module.modules() if own_parameters(m) or _mixes_rows(m)]
        owned = [id(p) for m in layers for p in own_parameters(m).values()]
        if len(owned) != len(set(owned)):
            raise ConfigError("generator", "layers share a parameter", "Give each its own.")
        for layer in layers:
            _kind(layer)  # refuses what is not supported before anything is trained
            layer.register_forward_hook(self._record)

    def add(self, losses: Losses, out: list[Tensor]) -> None:
        loss, groups = self._backward(losses)
        squares = torch.zeros(len(loss), dtype=torch.float64, device=loss.device)
        for uses in groups:
            squares += _kind(uses[0].layer).squares(uses)
        clipping = Clipping.to(self.clip, squares.sqrt())
        for uses in groups:
            layer = uses[0].layer
            targets = {n: out[self._at[id(p)]] for n, p in own_parameters(layer).items()}
            _kind(layer).add(uses, clipping, targets)

    def _backward(self, losses: Losses) -> tuple[Tensor, list[list[_Use]]]:
        self._uses, self._recording = [], True
        try:
            with torch.enable_grad():
                loss = losses()
        finally:
            self._recording = False
            uses, self._uses = self._uses, []
        if loss.ndim != 1:
            raise ConfigError("generator loss", "is not one number a row", "Return shape (rows,).")
        for use in uses:
            use.check(len(loss))
        outputs = [u.output for u in uses]
        grads = torch.autograd.grad(loss.sum(), outputs, allow_unused=True) if uses else ()
        groups: dict[int, list[_Use]] = {}
        for use, grad in zip(uses, grads, strict=True):
            if grad is not None:
                use.grad = grad
                groups.setdefault(id(use.layer), []).append(use)
        return loss.detach(), list(groups.values())

    def _record(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if self._recording:
            self._uses.append(_Use(layer, inputs[0].detach(), output))


def own_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters that belong to the layer itself."""
    return {n: p for n, p in layer.named_parameters(recurse=False) if p.requires_grad}


def _joined(uses: list[_Use], input_dims: int) -> tuple[Tensor, Tensor]:
    """Inputs and output gradients of all uses as sequences: (n, t, ...), (n, t, width).

    input_dims: dimensions of one position of the input (1 for vectors, 0 for indices).
    """
    inputs, grads = [], []
    for use in uses:
        assert use.grad is not None
        n = len(use.input)
        inputs.append(use.input.reshape(n, -1, *use.input.shape[use.input.ndim - input_dims :]))
        grads.append(use.grad.reshape(n, -1, use.grad.shape[-1]))
    if len(uses) == 1:
        return inputs[0], grads[0]
    return torch.cat(inputs, dim=1), torch.cat(grads, dim=1)


def lengths(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Squared length over these dimensions, in double precision: squares of single precision
    vanish or overflow long before the gradient itself does, and an unseen norm clips nothing."""
    length: Tensor = torch.linalg.vector_norm(values, dim=dims, dtype=torch.float64)
    return length.square()


def _ghost(products: Tensor, squares: Tensor) -> Tensor:
    """Squared norm of a sum over positions, never below the truth: (n,).

    products: (n, t, t) inner products of the positions' gradients. squares: (n, t), their
    diagonal. Positions that cancel could leave rounding alone, and a row unclipped: a bound on
    the rounding is added, 1e-6 of the square of the summed lengths.
    """
    return products.sum(dim=(1, 2)).clamp(min=0) + _TINY * squares.sqrt().sum(dim=1).square()


class _LinearKind:
    def squares(self, uses: list[_Use]) -> Tensor:
        """Squared norm of each row's gradient in this layer, (n,)."""
        layer = uses[0].layer
        a, g = _joined(uses, 1)
        if a.shape[1] == 1:
            left = lengths(a, (1, 2)) if "weight" in own_parameters(layer) else 0.0
            return (left + float("bias" in own_parameters(layer))) * lengths(g, (1, 2))
        total = torch.zeros(len(a), dtype=torch.float64, device=g.device)
        if "weight" in own_parameters(layer):
            if 2 * a.shape[1] ** 2 <= a.shape[2] * g.shape[2]:
                a, wide = a.double(), g.double()
                products = (a @ a.transpose(1, 2)) * (wide @ wide.transpose(1, 2))
                total += _ghost(products, lengths(a, (2,)) * lengths(g, (2,)))
            else:
                total += lengths(g.transpose(1, 2) @ a, (1, 2))
        if "bias" in own_parameters(layer):
            total += lengths(g.sum(dim=1), (1,))
        return total

    def add(self, uses: list[_Use], clipping: Clipping, targets: dict[str, Tensor]) -> None:
        """Add the sum of the rows' clipped gradients to the targets."""
        a, g = _joined(uses, 1)
        weighted = clipping.scaled(g).flatten(0, 1)
        if "weight" in targets:
            targets["weight"].addmm_(weighted.T, clipping.kept(a).flatten(0, 1))
        if "bias" in targets:
            targets["bias"].add_(weighted.sum(dim=0))


class _EmbeddingKind:
    def squares(self, uses: list[_Use]) -> Tensor:
        index, g = self._read(uses)
        if index.shape[1] == 1:
            return lengths(g, (1, 2))
        same, wide = index[:, :, None].eq(index[:, None, :]).double(), g.double()
        return _ghost(same * (wide @ wide.transpose(1, 2)), lengths(g, (2,)))

    def add(self, uses: list[_Use], clipping: Clipping, targets: dict[str, Tensor]) -> None:
        index, g = self._read(uses)
        weighted = clipping.scaled(g).flatten(0, 1)
        targets["weight"].index_add_(0, index.flatten(), weighted)

    def _read(self, uses: list[_Use]) -> tuple[Tensor, Tensor]:
        index, g = _joined(uses, 0)
        layer = uses[0].layer
        assert isinstance(layer, nn.Embedding)
        if layer.padding_idx is not None:
            g = torch.where(index.ne(layer.padding_idx)[:, :, None], g, 0.0)
        return index, g


class _OpacusKind:
    """Any other layer that Opacus can differentiate row by row (norms, convolutions)."""

    def squares(self, uses: list[_Use]) -> Tensor:
        per_row = self._per_row(uses).values()
        return torch.stack([lengths(g.flatten(1), (1,)) for g in per_row]).sum(dim=0)

    def add(self, uses: list[_Use], clipping: Clipping, targets: dict[str, Tensor]) -> None:
        for name, g in self._per_row(uses).items():
            targets[name].add_(torch.tensordot(clipping.factor, clipping.kept(g), dims=([0], [0])))

    def _per_row(self, uses: list[_Use]) -> dict[str, Tensor]:
        """Each row's gradient, (n, *shape), computed once for norms and sum together."""
        if uses[0].per_row is not None:
            return uses[0].per_row
        layer = uses[0].layer
        sampler = _opacus_samplers()[type(layer)]
        names = {id(p): name for name, p in own_parameters(layer).items()}
        total: dict[str, Tensor] = {}
        for use in uses:
            for parameter, g in sampler(layer, [use.input], use.grad).items():
                if (name := names.get(id(parameter))) is not None:
                    total[name] = total[name] + g if name in total else g
        uses[0].per_row = total
        return total


_LINEAR, _EMBEDDING, _OTHER = _LinearKind(), _EmbeddingKind(), _OpacusKind()


def _kind(layer: nn.Module) -> _LinearKind | _EmbeddingKind | _OpacusKind:
    """How the layer is differentiated. Raises ConfigError where it cannot be, row by row."""
    if type(layer) is nn.Linear:
        return _LINEAR
    if type(layer) is nn.Embedding:
        return _EMBEDDING
    if _mixes_rows(layer) or type(layer) not in _opacus_samplers():
        raise ConfigError(
            f"generator layer {type(layer).__name__}",
            "has no exact gradient for each row alone",
            "Keep parameters in nn.Linear, nn.Embedding or nn.LayerNorm; no batch statistics.",
        )
    return _OTHER


def _mixes_rows(layer: nn.Module) -> bool:
    return isinstance(layer, nn.modules.batchnorm._BatchNorm)


def _opacus_samplers() -> dict[type[nn.Module], Callable[..., dict[nn.Parameter, Tensor]]]:
    from opacus.grad_sample import GradSampleModule

    samplers: dict[type[nn.Module], Callable[..., dict[nn.Parameter, Tensor]]]
    samplers = GradSampleModule.GRAD_SAMPLERS
    return samplers
