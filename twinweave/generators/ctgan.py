"""Generator `ctgan`: a conditional Wasserstein generator whose discriminator stays at the party.

After Xu et al. (2019), "Modeling tabular data using conditional GAN", and Xie et al. (2018),
"Differentially private generative adversarial network". Only the discriminator meets real
rows, and only the columns its party holds. Each of its steps is one DP-SGD step: the row
gradients of the Wasserstein loss are clipped, real and generated alike (so that neither side
outweighs the other; generated rows do not depend on the batch, so the sum's sensitivity is
still the clip), and noise is added once. All the rest is post-processing: the discriminator,
the generator's steps against it, the generator's update.

Where we differ from CTGAN: real rows are Poisson sampled, never chosen by a condition, and a
real row's condition is its own level of a random column; generated rows' conditions come from
noisy one-way tables; half of all rows have no condition, and that is the mode in which rows are
sampled. No gradient penalty, as interpolated points would touch real rows once more: layers are
projected onto a ball of spectral norm after each step. No batch norm, no packing (pac = 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twinweave.generators.base import LocalRound
from twinweave.generators.conf import CtganConf
from twinweave.generators.flat import Arrays, FlatAdam, flatten, unflatten
from twinweave.generators.mlp import (
    Blocks,
    Decoder,
    DecoderGenerator,
    gumbel,
    initialise,
    mlp,
    shares,
)
from twinweave.generators.union import OneWay, UnionLayout

if TYPE_CHECKING:
    from twinweave.generators.canaries import Canaries
    from twinweave.generators.training import Tally, Trace

_UNCONDITIONAL = 0.5
_POWER_STEPS = 2


class Ctgan(DecoderGenerator):
    """A generated row follows z, presence and, while training, a condition."""

    conf: CtganConf

    def __init__(
        self, conf: CtganConf, layout: UnionLayout, *, seed: int = 0, one_way: OneWay | None = None
    ) -> None:
        super().__init__(conf, layout)
        self.decoder = Decoder(conf, layout, extra=layout.width)
        self.start(seed, one_way)

    def trained_by(self, held: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
        """The others' gradients are zero: what their columns give is not judged here."""
        z = np.ones(self.latent, dtype=bool)
        inputs = [z, self.layout.proven(held), self.layout.positions(held)]
        return self.decoder_trained_by(held, np.concatenate(inputs))

    def train_privately(self, local: LocalRound) -> tuple[Trace, Arrays]:
        """Private discriminator steps, and a step of the generator after every few."""
        from twinweave.generators.training import Tally

        adversary = self.adversary(local)
        tally = Tally()
        self.train()
        for step, (batch,) in enumerate(adversary.private.loader, start=1):
            adversary.private_step(batch, tally)
            if step % self.conf.discriminator_steps == 0:
                adversary.generator_step()
        return tally.trace(), adversary.state()

    def adversary(self, local: LocalRound) -> Adversary:
        """What a party holds against the generator in a round."""
        return Adversary(self, local, Discriminator(self.conf, self.layout, local.held))

    def with_canaries(self, canaries: Canaries) -> CanaryCtgan:
        made = CanaryCtgan(self.conf, self.layout, canaries)
        made.weights = self.weights
        return made


class Discriminator(nn.Module):
    """Scores rows on the columns one party holds. Private state of that party.

    Each row's score depends on that row and its condition alone.
    """

    def __init__(self, conf: CtganConf, layout: UnionLayout, held: NDArray[np.bool_]) -> None:
        super().__init__()
        self.lipschitz = conf.lipschitz
        seen = np.flatnonzero(layout.positions(held))
        self.register_buffer("seen", torch.from_numpy(seen), persistent=False)
        self.net = mlp(
            2 * len(seen), conf.discriminator_width, conf.discriminator_layers, 1, "leaky_relu"
        )
        self._vectors: dict[int, Tensor] = {}

    seen: Tensor

    def forward(self, rows: Tensor, conditions: Tensor) -> Tensor:
        """(n, width) rows and conditions over the union's blocks -> (n,) scores."""
        inputs = torch.cat([rows[:, self.seen], conditions[:, self.seen]], dim=1)
        score: Tensor = self.net(inputs)
        return score[:, 0]

    @torch.no_grad()
    def project(self) -> None:
        """Scale layers down to spectral norm `lipschitz`, by power iteration (Miyato 2018)."""
        for number, layer in enumerate(self.net):
            if isinstance(layer, nn.Linear):
                norm = self._spectral_norm(number, layer.weight)
                layer.weight.mul_((self.lipschitz / norm.clamp(min=1e-12)).clamp(max=1.0))

    def _spectral_norm(self, number: int, weight: Tensor) -> Tensor:
        """Started from the vector of the step before, or with more iterations from ones."""
        v = self._vectors.get(number, weight.new_ones(weight.shape[1]))
        for _ in range(_POWER_STEPS if number in self._vectors else 5 * _POWER_STEPS):
            u = nn.functional.normalize(weight @ v, dim=0)
            v = nn.functional.normalize(weight.T @ u, dim=0)
        self._vectors[number] = v
        norm: Tensor = (weight @ v).norm()
        return norm


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditions:
    """Which columns may be conditions, (columns,) 0/1, and the levels of generated ones.

    log_shares: (width,) log of the noisy one-way shares. Columns without a table are never
    conditions; with none at all, every row goes without.
    """

    allowed: Tensor
    log_shares: Tensor
    blocks: Blocks

    @classmethod
    def of(
        cls, layout: UnionLayout, blocks: Blocks, held: NDArray[np.bool_], one_way: OneWay
    ) -> Conditions:
        allowed = np.array(
            [bool(h) and n in one_way for n, h in zip(layout.names, held, strict=True)]
        )
        parts = [
            np.log(shares(one_way[name])) if ok else np.zeros(size)
            for name, ok, size in zip(layout.names, allowed, layout.sizes, strict=True)
        ]
        device = blocks.offsets.device
        return cls(
            allowed=torch.from_numpy(allowed.astype(np.float32)).to(device),
            log_shares=torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(device),
            blocks=blocks,
        )

    def columns(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, columns) 0/1: one random allowed column a row, or none in half of the rows."""
        device = self.allowed.device
        out = torch.zeros((n, len(self.allowed)), device=device)
        if not n or not self.allowed.any():
            return out
        chosen = torch.multinomial(
            self.allowed.expand(n, -1), 1, replacement=True, generator=generator
        )
        kept = torch.rand((n, 1), generator=generator, device=device) >= _UNCONDITIONAL
        return out.scatter_(1, chosen, kept.float())

    def distance(self, logits: Tensor) -> Tensor:
        """Sum over allowed columns of KL(noisy table || mean softmax of generated rows)."""
        mean = self.blocks.softmax(logits).mean(dim=0).clamp(min=1e-9)
        each = self.log_shares.exp() * (self.log_shares - mean.log())
        return (each * self.allowed[self.blocks.column]).sum()

    def generated(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Conditions of n generated rows: (n, width) one-hot, and their columns."""
        columns = self.columns(n, generator)
        levels = self.blocks.draw(self.log_shares.expand(n, -1), generator)
        return self.blocks.one_hot(levels) * self.blocks.spread(columns), columns


class Adversary:
    """One party's discriminator at work against the shared generator, for one round."""

    def __init__(self, network: Ctgan, local: LocalRound, discriminator: Discriminator) -> None:
        from twinweave.generators.training import MICRO_BATCH, PrivateTraining

        held, source, state = local.held, local.engine.source, local.state
        self.network, self.plan, self.micro_batch = network, local.plan, MICRO_BATCH
        self.conf = conf = network.conf
        self.device = next(network.parameters()).device
        self.generator = source.torch_generator(self.device.type)
        self.discriminator = discriminator
        initialise(self.discriminator, source.torch_generator())
        if "discriminator" in state:
            unflatten(self.discriminator.parameters(), state["discriminator"])
        self.discriminator.to(self.device).project()
        self.private = PrivateTraining(
            self.discriminator,
            local.codes,
            self.plan,
            local.engine,
            mode=conf.gradients,
            adam=_part(state, "d."),
        )
        self.adam = FlatAdam(
            list(network.parameters()), learning_rate=conf.generator_learning_rate, betas=(0.5, 0.9)
        )
        self.conditions = Conditions.of(network.layout, network.blocks, held, local.one_way)
        bits = 0.5 + 0.5 * network.layout.proven(held).astype(np.float32)
        self.presence = torch.from_numpy(bits).to(self.device)

    def row_loss(
        self, codes: Tensor, generator: torch.Generator, fake: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """`minus_score` with a random condition for each real row."""
        return self.minus_score(codes, self.conditions.columns(len(codes), generator), fake)

    def minus_score(
        self, codes: Tensor, columns: Tensor, fake: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Minus the scores of real rows, then the scores of generated ones, in one pass.

        columns: (n, columns) 0/1, the column of each real row that is its condition, or none.
        fake: generated rows and their conditions, (m, width) each. Returns (n + m,).
        """
        rows = self.network.blocks.one_hot(codes)
        conditions = rows * self.network.blocks.spread(columns)
        if fake is None:
            out: Tensor = -self.private.module(rows, conditions)
            return out
        score = self.private.module(torch.cat([rows, fake[0]]), torch.cat([conditions, fake[1]]))
        return torch.cat([-score[: len(rows)], score[len(rows) :]])

    def fake(self, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """n generated rows: straight-through one-hot, logits, conditions and their columns."""
        hot, columns = self.conditions.generated(n, self.generator)
        z = torch.randn((n, self.network.latent), generator=self.generator, device=self.device)
        logits = self.network.decoder(z, self.presence.expand(n, -1), hot)
        noisy = (logits + gumbel(logits, self.generator)) / self.conf.temperature
        soft = self.network.blocks.softmax(noisy)
        parts = torch.split(noisy.detach(), self.network.blocks.sizes, dim=1)
        levels = torch.stack([p.argmax(dim=1) for p in parts], dim=1)
        hard = self.network.blocks.one_hot(levels)
        return hard + soft - soft.detach(), logits, hot, columns

    def private_step(self, codes: Tensor, tally: Tally) -> None:
        """One charged step on a Poisson batch of rows, (n, columns), and as many fake rows."""
        with torch.no_grad():
            rows, _, hot, _ = self.fake(max(1, round(self.plan.expected_batch)))
        *first, last = torch.split(codes, self.micro_batch)

        def losses(part: Tensor, fake: tuple[Tensor, Tensor] | None) -> Tensor:
            out = self.row_loss(part, self.generator, fake)
            tally.seen(out[: len(part)])
            return out

        chunks = [partial(losses, part, None) for part in first]
        self.private.step([*chunks, partial(losses, last, (rows, hot))])
        tally.batch(len(codes))
        self.discriminator.project()

    def generator_step(self) -> None:
        """One step of the generator against the discriminator: touches no real row."""
        rows, logits, hot, columns = self.fake(self.conf.generator_batch)
        obey = self.network.blocks.cross_entropy(logits, hot, columns).mean()
        self.adam.zero_grad()
        with self.private.unhooked():
            loss = self.conf.condition * obey - self.discriminator(rows, hot).mean()
            loss = loss + self.conf.anchor * self.conditions.distance(logits)
            torch.autograd.backward(loss, inputs=list(self.network.parameters()))
        self.adam.step()

    def state(self) -> Arrays:
        """What stays at the party: the discriminator and the private optimiser."""
        kept = {f"d.{name}": value for name, value in self.private.adam.moments().items()}
        return {"discriminator": flatten(self.discriminator.parameters()), **kept}


class CanaryCtgan(Ctgan):
    """With canaries before the discriminator of a party, which alone meets rows."""

    def __init__(self, conf: CtganConf, layout: UnionLayout, canaries: Canaries) -> None:
        super().__init__(conf, layout)
        self._canaries = (canaries,)  # no part of the network itself

    def adversary(self, local: LocalRound) -> Adversary:
        judge = CanaryDiscriminator(self.conf, self.layout, local.held)
        judge.canaries = self._canaries[0]
        return CanaryAdversary(self, local, judge)


class CanaryDiscriminator(Discriminator):
    """Scores a canary by its own parameter. which: canaries of the rows to come, or None."""

    canaries: Canaries
    which: Tensor | None = None

    def forward(self, rows: Tensor, conditions: Tensor) -> Tensor:
        score = super().forward(rows, conditions)
        if self.which is None:
            return score
        return -self.canaries.in_place_of(-score, self.which)


class CanaryAdversary(Adversary):
    """Tells the discriminator which rows are canaries; generated ones are none."""

    discriminator: CanaryDiscriminator

    def row_loss(
        self, codes: Tensor, generator: torch.Generator, fake: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        nobody = self.discriminator.canaries.count
        fakes = codes.new_full((len(fake[0]) if fake else 0,), nobody)
        self.discriminator.which = torch.cat([codes[:, -1], fakes])
        try:
            return super().row_loss(codes[:, :-1], generator, fake)
        finally:
            self.discriminator.which = None


def _part(state: Arrays, prefix: str) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
