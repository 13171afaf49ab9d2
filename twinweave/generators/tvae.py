"""Generator `tvae`: a variational autoencoder over one-hot blocks.

After Xu et al. (2019), "Modeling tabular data using conditional GAN", section 4.5, with three
differences: every column is discrete in the public schema (no mixture model is fitted to
data), levels are drawn from the softmax, and columns that a row lacks enter neither input nor
loss. Encoder and decoder are both shared; every step sees a row through DP-SGD alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinweave.generators.base import RowLossGenerator
from twinweave.generators.conf import TvaeConf
from twinweave.generators.mlp import Decoder, DecoderGenerator, mlp, presence_input
from twinweave.generators.union import OneWay, UnionLayout
from twinweave.tables.contingency import ABSENT


class Tvae(RowLossGenerator, DecoderGenerator):
    """See `registry.KINDS`."""

    conf: TvaeConf

    def __init__(
        self, conf: TvaeConf, layout: UnionLayout, *, seed: int = 0, one_way: OneWay | None = None
    ) -> None:
        super().__init__(conf, layout)
        self.beta = conf.beta
        uses = torch.from_numpy(latent_shares(layout, conf.latent).astype(np.float32))
        self.register_buffer("uses", uses, persistent=False)
        inputs = layout.width + len(layout.sizes) + len(layout.parties)
        self.encoder = mlp(inputs, conf.width, conf.layers, 2 * conf.latent, conf.activation)
        self.decoder = Decoder(conf, layout)
        self.start(seed, one_way)

    def row_loss(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        """`bound` with one standard normal latent sample a row."""
        noise = torch.randn((len(codes), self.latent), generator=generator, device=generator.device)
        return self.bound(codes, noise)

    def bound(self, codes: Tensor, noise: Tensor) -> Tensor:
        """Negative evidence bound (KL times beta) over the number of held columns: (n,), nats.

        codes: (n, columns) int64, ABSENT where not held. noise: (n, latent). A party counts
        as present where the row has a column of its own alone, as unknown elsewhere.
        """
        held = (codes != ABSENT).float()
        hot = self.blocks.one_hot(codes)
        presence = self.blocks.proven_presence(held)
        encoded = self.encoder(torch.cat([hot, held, presence_input(presence)], dim=1))
        mean, log_variance = (encoded * self._used(presence).repeat(1, 2)).chunk(2, dim=1)
        z = mean + noise * (log_variance / 2).exp()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        lost = self.blocks.cross_entropy(self.logits(z, presence), hot, held)
        out: Tensor = (lost + self.beta * kl) / held.sum(dim=1).clamp(min=1)
        return out

    uses: Tensor

    def _used(self, presence: Tensor) -> Tensor:
        """(n, parties) presence -> (n, latent) 0/1: coordinates that carry such a row."""
        proven = (presence == 1).float()
        used = (proven @ self.uses).clamp(max=1)
        return torch.where(proven.any(dim=1, keepdim=True), used, torch.ones_like(used))

    def trained_by(self, held: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
        """Entries of each parameter that a party with these columns trains. Public.

        The others' gradients are zero for every such row (absent blocks at input and output,
        presence it cannot prove, latent coordinates it does not encode), but for what the
        decoder does with another party's latent coordinates: that is the other's to train.
        """
        parties = self.layout.proven(held)
        uses = latent_shares(self.layout, self.latent)
        z = uses[parties].any(axis=0) if parties.any() else np.ones(self.latent, dtype=bool)
        mask = self.decoder_trained_by(held, np.concatenate([z, parties]))
        inputs = np.concatenate([self.layout.positions(held), held, parties])
        mask["encoder.0.weight"] &= inputs[None, :]
        last = f"encoder.{len(self.encoder) - 1}"
        mask[f"{last}.weight"] &= np.tile(z, 2)[:, None]
        mask[f"{last}.bias"] &= np.tile(z, 2)
        return mask


def latent_shares(layout: UnionLayout, latent: int) -> NDArray[np.bool_]:
    """(parties, latent): coordinates of z that carry what a party's rows tell.

    Parties with columns of their own alone get separate coordinates: they encode their rows
    apart, and the same coordinate would tie their columns together at random. Averaged, the
    columns of two parties start out independent; the fit ties them as measured.
    """
    apart = np.flatnonzero(layout.alone.any(axis=0))
    out = np.ones((len(layout.parties), latent), dtype=bool)
    if len(apart) > 1:
        owner = apart[np.arange(latent) * len(apart) // latent]
        out[apart] = owner == apart[:, None]
    return out
