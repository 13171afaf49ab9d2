"""Canaries in DP-SGD: rows whose gradient is the worst there is, whatever the weights are.

Rows of a table move a network's parameters all together, each a little: canaries among them see
neither half the noise nor twice the steps. So a canary here is a row with a parameter of its
own, which is added to the network for it, and whose loss is a multiple of that parameter. Its
gradient lies along one axis of parameter space, at right angles to all others, is the same in
every step, and is longer than the clip: what is left of it is the clip. An observer of all noisy
gradients has the Gaussian mechanism in front of him, Poisson sampled, as many times as there are
steps, and that is what the accountant composes (worst case of Nasr et al. 2021, "Adversary
instantiation"; many directions in one run as in Andrew et al. 2023, "One-shot empirical privacy
estimation"). All canaries of a run are independent.

Loader, clipping, optimiser, noise and accountant are the engine's, the steps the generator's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn, optim

from twinweave.generators.base import LocalRound, RowLossGenerator
from twinweave.generators.conf import CtganConf
from twinweave.generators.ctgan import Adversary, Ctgan, Discriminator
from twinweave.generators.engine import PrivacyEngine
from twinweave.generators.plan import SgdPlan
from twinweave.generators.union import Rows, UnionLayout
from twinweave.privacy.events import PoissonSgd

LOUD = 8.0
"""Length of a canary's gradient, in clips."""


class Canaries(nn.Module):
    """One parameter for each of `count` canaries, and one that stands for nobody, at the end."""

    def __init__(self, count: int, clip: float) -> None:
        super().__init__()
        self.count, self._length = count, LOUD * clip
        self.own = nn.Embedding(count + 1, 1)
        nn.init.zeros_(self.own.weight)

    def in_place_of(self, losses: Tensor, which: Tensor) -> Tensor:
        """(n,) losses, a canary's own instead of its row's. which: (n,), `count` for nobody."""
        pull = self._length * self.own(which)[:, 0]
        return torch.where(which < self.count, pull, losses)


class CanaryRows(RowLossGenerator):
    """A generator that learns from its loss of a row, with canaries among the rows.

    Codes have one more column, the last: the row's canary, or their number for none.
    """

    def __init__(self, inner: RowLossGenerator, canaries: Canaries) -> None:
        super().__init__(inner.conf, inner.layout)
        self.inner, self.canaries = inner, canaries

    def row_loss(self, codes: Tensor, generator: torch.Generator) -> Tensor:
        own = self.inner.row_loss(codes[:, :-1], generator)
        return self.canaries.in_place_of(own, codes[:, -1])

    def trained_by(self, held: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
        mine = {f"inner.{name}": mask for name, mask in self.inner.trained_by(held).items()}
        every = {name: np.ones(tuple(p.shape), bool) for name, p in self.named_parameters()}
        return every | mine

    def sample(self, presence: NDArray[np.bool_], generator: torch.Generator) -> Rows:
        return self.inner.sample(presence, generator)


class CanaryCtgan(Ctgan):
    """The same for the discriminator of a party, which alone meets rows."""

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


class Watched(optim.Optimizer):
    """An optimiser whose every step is seen, before it is taken. Torch's constructor, which
    would load the compiler, is not called."""

    def __init__(self, inner: optim.Optimizer, seen: Callable[[], None]) -> None:
        self.inner, self._seen = inner, seen
        self.param_groups, self.defaults, self.state = (
            inner.param_groups,
            inner.defaults,
            inner.state,
        )

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none)

    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        self._seen()
        self.inner.step()


class Evidence:
    """What several observers of all noisy gradients make of each canary.

    The first two weigh a step by its likelihood ratio, of q N(1, s^2) + (1 - q) N(0, s^2) against
    N(0, s^2) in clips: one takes s for what the ledger says, one for half of it. Whoever trusts
    the ledger's noise is blind to less of it: what should be large and is not, is likely for
    nobody. The third trusts nothing, and adds up.
    """

    def __init__(self, claimed: PoissonSgd, canaries: int) -> None:
        self._claimed = claimed
        self.scores = np.zeros((3, canaries))

    def add(self, x: NDArray[np.float64]) -> None:
        """One step. x: (canaries,), each one's coordinate of the noisy sum, in clips."""
        q, s = self._claimed.sampling_rate, self._claimed.noise_multiplier
        for scores, assumed in zip(self.scores, (s, s / 2), strict=False):
            shown = math.log(q) + (2 * x - 1) / (2 * assumed * assumed)
            scores += np.logaddexp(math.log1p(-q), shown) if q < 1 else shown
        self.scores[2] += x - q / 2


class WatchedEngine(PrivacyEngine):
    """The engine, and observers of every noisy gradient that it gives away."""

    _evidence: Evidence
    _clip: float

    @classmethod
    def watching(cls, plan: SgdPlan, evidence: Evidence) -> WatchedEngine:
        """evidence: of the rounds before; this round's is added."""
        engine = cls(
            sample_rate=plan.sampling_rate,
            expected_batch_size=plan.expected_batch,
            steps=plan.steps,
        )
        engine._evidence, engine._clip = evidence, plan.clip
        return engine

    def make_private(self, *, module: nn.Module, optimizer: Any, **others: Any) -> tuple[Any, ...]:
        """See `PrivacyEngine`."""
        own = next(p for name, p in module.named_parameters() if name.endswith(_OWN))
        watched = Watched(optimizer, lambda: self._see(own))
        return super().make_private(module=module, optimizer=watched, **others)

    def _see(self, own: nn.Parameter) -> None:
        assert own.grad is not None
        mean = own.grad[:-1, 0].double().cpu().numpy()
        self._evidence.add(mean * (self.expected_batch_size / self._clip))


_OWN = "canaries.own.weight"
