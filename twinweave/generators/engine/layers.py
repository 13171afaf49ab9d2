"""How each kind of layer is clipped in the mode `bookkeeping`: norms of rows, clipped sums.

nn.Linear and nn.Embedding in closed form ("ghost" norms, Goodfellow 2015, Li et al. 2022), every
other layer through the per-sample gradient that Opacus has registered for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from twinweave.errors import ConfigError
from twinweave.generators.engine.clipping import (
    TINY,
    Clipping,
    changed_in_place,
    lengths,
    mixes_rows,
    not_row_by_row,
    own_parameters,
)

Sums = Mapping[nn.Parameter, Tensor]

_CACHED = 1 << 19
"""Numbers."""

_SHORT = 1 << 12
"""Positions times numbers at each, up to which inner products are taken in single precision:
what they may be wrong by then changes no norm by more than about a ten-thousandth."""

_VANISHED = torch.finfo(torch.float32).tiny
"""What one operation in single precision may lose by coming too near to zero."""


@dataclass(eq=False)
class Use:
    """One pass through one layer: its input, its output, and the output's gradient.

    Both tensors are detached; they tell whether what they stand for was changed in place.
    """

    layer: nn.Module
    input: Tensor
    output: Tensor
    versions: tuple[int, int] = field(init=False)
    grad: Tensor | None = None
    per_row: dict[nn.Parameter, Tensor] | None = None

    def __post_init__(self) -> None:
        self.versions = self._now()

    def _now(self) -> tuple[int, int]:
        return self.input._version, self.output._version

    def came_back(self, grad: Tensor) -> None:
        """Keep the output's gradient. Raises ConfigError where the rows came back before."""
        if self.grad is not None:
            raise backward_twice()
        self.grad = grad

    def check(self, n: int) -> None:
        """Raise ConfigError where row gradients would be wrong. n: rows of the batch."""
        if self._now() != self.versions:
            raise changed_in_place(self.layer)
        if not (len(self.input) == len(self.output) == n):
            raise ConfigError(
                f"generator layer {type(self.layer).__name__}",
                "its first dimension is not the rows of the batch",
                "Expand inputs that all rows share to (rows, ...) before the layer.",
            )


def backward_twice() -> ConfigError:
    return ConfigError(
        "generator loss",
        "goes backward twice before a step, so rows would count twice",
        "Call the optimiser's step, or zero_grad, after each backward pass.",
    )


def _joined(uses: list[Use], input_dims: int) -> tuple[Tensor, Tensor]:
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


def _rounding(each: Tensor) -> Tensor:
    """A bound on what rounding hides of a squared norm: 1e-6 of (sum of lengths) squared, (n,).

    each: (n, t), squared lengths of the positions' gradients. Positions that cancel could leave
    rounding alone, another one in the norm than in the sum, and a row unclipped.
    """
    return TINY * each.sqrt().sum(dim=1).square()


def _ghost(products: Tensor) -> Tensor:
    """(n, t, t) inner products of the positions' gradients -> (n,) squared norm of their sum."""
    return products.sum(dim=(1, 2)).clamp(min=0)


def _single(left: Tensor, right: Tensor, inputs: int, outputs: int) -> Tensor:
    """Inner products of the positions' inputs and of their output gradients, both (n, t, t), in
    single precision -> (n,) squared norm of each row's weight gradient, never below the truth.

    inputs, outputs: numbers in a vector. An inner product of k numbers is wrong by 2**-24 k of
    its vectors' lengths at most, however it is added up (Higham 2002, section 3.1), and by what
    vanishes in 2 k operations; both are added for all pairs of positions. What is too large for
    single precision counts as infinite.
    """
    long, broad = _long(left, inputs), _long(right, outputs)
    hidden = 1.01 * 2.0**-24 * (inputs + outputs + 2) * (long * broad).sum(dim=1).square()
    for lost, others in ((inputs, broad), (outputs, long)):
        hidden += 3 * lost * _VANISHED * (others.sum(dim=1).square() + lost * _VANISHED)
    found = (left.double() * right.double()).sum(dim=(1, 2)).clamp(min=0) + hidden
    return torch.where(torch.isfinite(found), found, torch.inf)


def _long(products: Tensor, numbers: int) -> Tensor:
    """(n, t, t) inner products of vectors of so many numbers -> (n, t), at least their lengths."""
    squares = products.diagonal(dim1=1, dim2=2).double()
    return ((1 + 2.0**-22 * numbers) * squares + 3 * numbers * _VANISHED).sqrt()


def _direct(a: Tensor, g: Tensor) -> Tensor:
    """(n, t, inputs), (n, t, outputs) -> (n,) squared norm of each row's weight gradient.

    The gradients themselves, of so many rows at once as a processor's cache holds.
    """
    rows = max(1, _CACHED // (a.shape[2] * g.shape[2]))
    parts = zip(torch.split(a, rows), torch.split(g.transpose(1, 2), rows), strict=True)
    return torch.cat([lengths(right @ left, (1, 2)) for left, right in parts])


class _LinearKind:
    def squares(self, uses: list[Use]) -> Tensor:
        """Squared norm of each row's gradient in this layer, (n,)."""
        own = own_parameters(uses[0].layer)
        a, g = _joined(uses, 1)
        if a.shape[1] == 1:
            left = lengths(a, (1, 2)) if "weight" in own else 0.0
            return (left + float("bias" in own)) * lengths(g, (1, 2))
        total = torch.zeros(len(a), dtype=torch.float64, device=g.device)
        if "weight" in own:
            total += self._weight(a, g)
        if "bias" in own:
            uses[0].per_row = {own["bias"]: g.sum(dim=1)}
            total += lengths(uses[0].per_row[own["bias"]], (1,))
        return total

    def _weight(self, a: Tensor, g: Tensor) -> Tensor:
        """By inner products where positions are few for the layer's size, else directly.

        In single precision where the sequence is so short that what rounding may hide there is
        little.
        """
        work, size = a.shape[1] * (a.shape[2] + g.shape[2]), a.shape[2] * g.shape[2]
        if work <= _SHORT and 2 * work <= size:
            return _single(a @ a.transpose(1, 2), g @ g.transpose(1, 2), a.shape[2], g.shape[2])
        hidden = _rounding(lengths(a, (2,)) * lengths(g, (2,)))
        if 8 * work > size:
            return _direct(a, g) + hidden
        a, g = a.double(), g.double()
        return _ghost((a @ a.transpose(1, 2)) * (g @ g.transpose(1, 2))) + hidden

    def add(self, uses: list[Use], clipping: Clipping, out: Sums) -> None:
        """Add the sum of the rows' clipped gradients to the layer's parameters in `out`."""
        layer, per_row = uses[0].layer, uses[0].per_row or {}
        a, g = _joined(uses, 1)
        weighted = clipping.scaled(g).flatten(0, 1)
        if (weight := _target(layer, "weight", out)) is not None:
            weight.addmm_(weighted.T, clipping.kept(a).flatten(0, 1))
        if (bias := _target(layer, "bias", out)) is not None:
            known = per_row.get(own_parameters(layer)["bias"])
            bias.add_(weighted.sum(dim=0) if known is None else clipping.sum(known))


class _EmbeddingKind:
    def squares(self, uses: list[Use]) -> Tensor:
        index, g = self._read(uses)
        if index.shape[1] == 1:
            return lengths(g, (1, 2))
        same = index[:, :, None].eq(index[:, None, :])
        if index.shape[1] * g.shape[2] <= _SHORT:
            return _single(same.float(), g @ g.transpose(1, 2), 1, g.shape[2])
        wide = g.double()
        return _ghost(same.double() * (wide @ wide.transpose(1, 2))) + _rounding(lengths(g, (2,)))

    def add(self, uses: list[Use], clipping: Clipping, out: Sums) -> None:
        index, g = self._read(uses)
        weighted = clipping.scaled(g).flatten(0, 1)
        if (weight := _target(uses[0].layer, "weight", out)) is not None:
            weight.index_add_(0, index.flatten(), weighted)

    def _read(self, uses: list[Use]) -> tuple[Tensor, Tensor]:
        index, g = _joined(uses, 0)
        layer = uses[0].layer
        assert isinstance(layer, nn.Embedding)
        if layer.padding_idx is not None:
            g = torch.where(index.ne(layer.padding_idx)[:, :, None], g, 0.0)
        return index, g


class _OpacusKind:
    """Any other layer that Opacus can differentiate row by row (norms, convolutions)."""

    def squares(self, uses: list[Use]) -> Tensor:
        per_row = self._per_row(uses).values()
        return torch.stack([lengths(g.flatten(1), (1,)) for g in per_row]).sum(dim=0)

    def add(self, uses: list[Use], clipping: Clipping, out: Sums) -> None:
        for parameter, g in self._per_row(uses).items():
            if parameter in out:
                out[parameter].add_(clipping.sum(g))

    def _per_row(self, uses: list[Use]) -> dict[nn.Parameter, Tensor]:
        """Each row's gradient, (n, *shape), computed once for norms and sum together."""
        if uses[0].per_row is not None:
            return uses[0].per_row
        layer = uses[0].layer
        own = set(own_parameters(layer).values())
        total: dict[nn.Parameter, Tensor] = {}
        for use in uses:
            for parameter, g in _registered()[type(layer)](layer, [use.input], use.grad).items():
                if parameter in own:
                    total[parameter] = total[parameter] + g if parameter in total else g
        uses[0].per_row = total
        return total


LayerKind = _LinearKind | _EmbeddingKind | _OpacusKind
_LINEAR, _EMBEDDING, _OTHER = _LinearKind(), _EmbeddingKind(), _OpacusKind()


def kind_of(layer: nn.Module) -> LayerKind:
    """How the layer is differentiated. Raises ConfigError where it cannot be, row by row."""
    if type(layer) is nn.Linear:
        return _LINEAR
    if type(layer) is nn.Embedding:
        return _EMBEDDING
    if mixes_rows(layer) or type(layer) not in _registered():
        raise not_row_by_row(layer)
    return _OTHER


def _target(layer: nn.Module, name: str, out: Sums) -> Tensor | None:
    """Where a parameter of the layer is summed; None where it is not trained."""
    parameter = own_parameters(layer).get(name)
    return None if parameter is None else out.get(parameter)


def _registered() -> dict[type[nn.Module], Callable[..., dict[nn.Parameter, Tensor]]]:
    """Opacus's per-sample gradients by layer: what `register_grad_sampler` adds to."""
    samplers: dict[type[nn.Module], Callable[..., dict[nn.Parameter, Tensor]]]
    samplers = GradSampleModule.GRAD_SAMPLERS
    return samplers
