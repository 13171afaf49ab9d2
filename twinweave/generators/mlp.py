"""Multilayer networks over the one-hot blocks of a `UnionLayout`: what tvae and ctgan are built of.

No batch statistics anywhere: a row's output depends on that row alone.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twinweave.generators.base import SoftGenerator
from twinweave.generators.conf import Activation, CtganConf, TvaeConf
from twinweave.generators.union import OneWay, Rows, UnionLayout
from twinweave.tables.contingency import ABSENT

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}

SAMPLE_CHUNK = 8192
"""Rows decoded at once: bounds the memory of sampling."""

_SMOOTHING = 1e-3
"""Least probability given to a level by noisy one-way tables."""


def mlp(
    inputs: int, width: int, layers: int, outputs: int, activation: Activation
) -> nn.Sequential:
    """`layers` hidden layers of `width` units, each followed by the activation, then linear."""
    sizes = [inputs] + [width] * layers
    parts: list[nn.Module] = []
    for a, b in pairwise(sizes):
        parts += [nn.Linear(a, b), ACTIVATIONS[activation]()]
    return nn.Sequential(*parts, nn.Linear(sizes[-1], outputs))


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Uniform weights of variance 1 / inputs, biases zero, the same for the same generator."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = (3.0 / layer.in_features) ** 0.5
            with torch.no_grad():
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.zero_()


class Blocks(nn.Module):
    """Torch side of a layout: one-hot blocks, softmax by block, what is held and by whom.

    The constants are not parameters, nor part of a state: they follow from the layout.
    """

    def __init__(self, layout: UnionLayout) -> None:
        super().__init__()
        self.sizes = list(layout.sizes)
        self.width = layout.width
        for name, constant in (
            ("offsets", layout.offsets[:-1].copy()),
            ("alone", layout.alone.astype(np.float32)),
            ("column", np.repeat(np.arange(len(layout.sizes)), layout.sizes)),
        ):
            self.register_buffer(name, torch.from_numpy(constant), persistent=False)

    offsets: Tensor
    alone: Tensor
    column: Tensor

    def one_hot(self, codes: Tensor) -> Tensor:
        """(n, columns) int64 -> (n, width) float32; zero blocks where ABSENT."""
        out = torch.zeros((len(codes), self.width), device=codes.device)
        at = (codes + self.offsets).clamp(min=0)
        return out.scatter_add_(1, at, (codes != ABSENT).float())

    def spread(self, per_column: Tensor) -> Tensor:
        """(n, columns) -> (n, width): each column's number over its whole block."""
        return per_column[:, self.column]

    def proven_presence(self, held: Tensor) -> Tensor:
        """(n, columns) 0/1 held -> (n, parties): 1 where a row has a column of that party
        alone, else 1/2, unknown."""
        return 0.5 + 0.5 * ((held @ self.alone) > 0).float()

    def cross_entropy(self, logits: Tensor, hot: Tensor, held: Tensor) -> Tensor:
        """Sum over the held columns of -log softmax at the row's level: (n,), in nats."""
        norms = [part.logsumexp(dim=1) for part in torch.split(logits, self.sizes, dim=1)]
        return (torch.stack(norms, dim=1) * held).sum(dim=1) - (logits * hot).sum(dim=1)

    def softmax(self, logits: Tensor) -> Tensor:
        """Softmax within each block: (n, width)."""
        return torch.cat([p.softmax(dim=1) for p in torch.split(logits, self.sizes, dim=1)], dim=1)

    def draw(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """One level for each column from its softmax (Gumbel maximum): (n, columns) int64."""
        noisy = logits + gumbel(logits, generator)
        return torch.stack([p.argmax(dim=1) for p in torch.split(noisy, self.sizes, dim=1)], dim=1)


def gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise of the same shape."""
    uniform = torch.rand(like.shape, generator=generator, device=like.device)
    return -(-uniform.clamp(min=1e-20, max=1 - 1e-7).log()).log()


def presence_input(presence: Tensor) -> Tensor:
    """Presence 0, 1/2, 1 -> -1, 0, 1: what is unknown moves no weight."""
    return 2 * presence - 1


class Decoder(nn.Module):
    """(z, presence, extra) -> logits of every union column, all driven by the same z."""

    def __init__(self, conf: TvaeConf | CtganConf, layout: UnionLayout, *, extra: int = 0) -> None:
        super().__init__()
        self.extra = extra
        inputs = conf.latent + len(layout.parties) + extra
        self.net = mlp(inputs, conf.width, conf.layers, layout.width, conf.activation)

    def forward(self, z: Tensor, presence: Tensor, extra: Tensor | None = None) -> Tensor:
        parts = [z, presence_input(presence)]
        if self.extra:
            parts.append(z.new_zeros((len(z), self.extra)) if extra is None else extra)
        logits: Tensor = self.net(torch.cat(parts, dim=1))
        return logits

    @property
    def last(self) -> nn.Linear:
        layer = self.net[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def start_at(self, layout: UnionLayout, one_way: OneWay) -> None:
        """Set the last bias to the log of noisy one-way tables (counts or shares), a column.

        Post-processing of measurements: training starts at the product of the marginals.
        """
        with torch.no_grad():
            for name, part in zip(
                layout.names, torch.split(self.last.bias, list(layout.sizes)), strict=True
            ):
                if name in one_way:
                    share = torch.from_numpy(shares(one_way[name])).to(part)
                    part.copy_(share.log() - share.log().mean())


def shares(table: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """A noisy one-way table as probabilities, none of them zero."""
    counts = np.maximum(np.asarray(table, dtype=np.float64), 0)
    total = counts.sum()
    even = 1 / len(counts)
    plain = counts / total if total > 0 else np.full(len(counts), even)
    out: NDArray[np.float64] = (1 - _SMOOTHING) * plain + _SMOOTHING * even
    return out


class DecoderGenerator(SoftGenerator):
    """A generator whose rows come out of one `Decoder`.

    A kind's constructor adds its networks, the decoder last, then calls `start`.
    """

    conf: TvaeConf | CtganConf
    decoder: Decoder

    def __init__(self, conf: TvaeConf | CtganConf, layout: UnionLayout) -> None:
        super().__init__(conf, layout)
        self.latent = conf.latent
        self.blocks = Blocks(layout)

    def start(self, seed: int, one_way: OneWay | None) -> None:
        """Set the weights that come before the first round."""
        initialise(self, torch.Generator().manual_seed(seed))
        self.decoder.start_at(self.layout, one_way or {})

    def logits(self, z: Tensor, presence: Tensor) -> Tensor:
        out: Tensor = self.decoder(z, presence)
        return out

    @torch.no_grad()
    def sample(self, presence: NDArray[np.bool_], generator: torch.Generator) -> Rows:
        """Levels are drawn from the softmax, never its maximum. See `Generator.sample`."""
        parts = []
        bits = torch.from_numpy(presence.astype(np.float32)).to(generator.device)
        for chunk in torch.split(bits, SAMPLE_CHUNK):
            z = torch.randn((len(chunk), self.latent), generator=generator, device=chunk.device)
            parts.append(self.blocks.draw(self.logits(z, chunk), generator).cpu())
        drawn = torch.cat(parts).numpy()
        codes = np.where(self.layout.visible(presence), drawn, ABSENT).astype(np.int32)
        return Rows(codes=codes, presence=presence.astype(bool))

    def decoder_trained_by(
        self, held: NDArray[np.bool_], inputs: NDArray[np.bool_]
    ) -> dict[str, NDArray[np.bool_]]:
        """`trained_by` as far as the decoder says: its used `inputs`, the held columns' outputs."""
        last = f"decoder.net.{len(self.decoder.net) - 1}"
        outputs = self.layout.positions(held)
        mask = {n: np.ones(tuple(p.shape), dtype=bool) for n, p in self.shared_parameters()}
        mask["decoder.net.0.weight"] &= inputs[None, :]
        mask[f"{last}.weight"] &= outputs[:, None]
        mask[f"{last}.bias"] &= outputs
        return mask
