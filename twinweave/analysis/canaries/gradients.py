"""Observers of every noisy gradient of a training that has canaries in it.

Rows of a table move a network's parameters all together, each a little: canaries among them see
neither half the noise nor twice the steps. So canaries are gradients here, of the clip's length
and along axes of parameter space of their own (`generators/canaries.py`). Who sees all noisy
gradients has the Gaussian mechanism in front of him, Poisson sampled, as many times as there are
steps, and that is what the accountant composes (worst case of Nasr et al. 2021, "Adversary
instantiation"; many directions in one run as in Andrew et al. 2023, "One-shot empirical privacy
estimation"). All canaries of a run are independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn, optim

from twinweave.generators.canaries import OWN
from twinweave.generators.engine import PrivacyEngine
from twinweave.generators.plan import SgdPlan
from twinweave.privacy.events import PoissonSgd


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
        own = next(p for name, p in module.named_parameters() if name.endswith(OWN))
        watched = Watched(optimizer, lambda: self._see(own))
        return super().make_private(module=module, optimizer=watched, **others)

    def _see(self, own: nn.Parameter) -> None:
        assert own.grad is not None
        mean = own.grad[:-1, 0].double().cpu().numpy()
        self._evidence.add(mean * (self.expected_batch_size / self._clip))
