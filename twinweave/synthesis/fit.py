"""Fit a generator's output to noisy measurements: post-processing, no privacy cost.

After GEM (Liu, Vietri, Wu 2021, "Iterative methods for private synthetic data", section 4):
a fixed batch of latents gives one product distribution each, their mixture is the model, and
its expected tables are compared with the measured ones. Differs: every table is measured
once and weighted by the precision of its noise (Gaussian likelihood); presence is part of
the latent; after the network, the mixture's own logits are refined directly (as the relaxed
rows of RAP, Aydore et al. 2021), along the natural gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave import progress as said
from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import FitConf
from twinweave.synthesis.marginals import marginals
from twinweave.synthesis.thinning import thinned
from twinweave.tables.contingency import ABSENT
from twinweave.workload.measurement import Measurement, of_levels

if TYPE_CHECKING:
    import torch

    from twinweave.generators.base import Progress, SoftGenerator


@dataclass(frozen=True, kw_only=True, eq=False)
class Latents:
    """What each component of the mixture stands for.

    presence: bool (latents, parties). users: float64 (latents,), how many users of the union
    it stands for, above 0.
    """

    presence: NDArray[np.bool_] = field(repr=False)
    users: NDArray[np.float64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """A mixture of product distributions, one a latent: what the fit leaves.

    logits: float32 (latents, width). trace: misfit per measured cell (chi-square over cells;
    about 1 when only noise is left) along the steps. steps: that the logits were refined for.
    """

    layout: UnionLayout
    latents: Latents
    logits: NDArray[np.float32] = field(repr=False)
    trace: tuple[float, ...] = ()
    steps: int = 0

    def probabilities(self, column: int) -> NDArray[np.float64]:
        """Softmax of a column's block: (latents, size)."""
        a, b = self.layout.offsets[column : column + 2]
        x = self.logits[:, a:b].astype(np.float64)
        x = np.exp(x - x.max(axis=1, keepdims=True))
        shares: NDArray[np.float64] = x / x.sum(axis=1, keepdims=True)
        return shares

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """n rows in random order, every latent and, within it, every level in proportion.

        Systematic over the latents and stratified within each, so that low-order tables vary
        less than by independent draws; the columns of a latent are independent.
        """
        share = np.cumsum(self.latents.users) / self.latents.users.sum()
        latent = np.searchsorted(share[:-1], (np.arange(n) + rng.random()) / n, side="right")
        first = np.searchsorted(latent, latent)  # rows are sorted by latent
        count = np.bincount(latent, minlength=len(self.latents))[latent]
        codes = np.empty((n, len(self.layout.names)), dtype=np.int32)
        for j, size in enumerate(self.layout.sizes):
            order = np.lexsort((rng.random(n), latent))
            rank = np.empty(n)
            rank[order] = np.arange(n) - first
            at = latent + (rank + rng.random(n)) / count
            upper = self.probabilities(j).cumsum(axis=1)[:, :-1].clip(max=1)
            upper += np.arange(len(upper))[:, None]  # one search over all latents
            codes[:, j] = np.searchsorted(upper.reshape(-1), at) - latent * (size - 1)
            codes[:, j] = codes[:, j].clip(0, size - 1)
        presence = self.latents.presence[latent]
        codes[~self.layout.visible(presence)] = ABSENT
        return Rows(codes=codes, presence=presence).take(rng.permutation(n))


def fit(
    network: SoftGenerator | None,
    layout: UnionLayout,
    measurements: Sequence[Measurement],
    latents: Latents,
    conf: FitConf,
    seed: int,
    progress: Progress | None = None,
) -> Mixture:
    """Fit to the count measurements (weighted ones are ignored); the network is changed.

    latents: as many as there are, whatever `conf.latents`. Without a network the logits start
    at the one-way tables. Both starts know the part of the precision alone that the trial fits,
    so that what is held out can judge it. Deterministic under `seed` on one thread count.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    to_fit, held = thinned(measurements, np.random.default_rng([seed, 7]))
    part = Misfit(layout, to_fit, latents)
    bits = torch.from_numpy(latents.presence.astype(np.float32))
    trace: list[float] = []
    if network is None:
        logits = torch.from_numpy(_one_way_logits(layout, to_fit)).repeat(len(latents), 1)
    else:
        z = torch.randn(len(latents), network.latent, generator=generator)
        # The network's own start needs no coarse tables, which take as long again.
        start = Misfit(layout, of_levels(to_fit), latents)
        trace += _train(network, start, z, bits, conf, progress)
        with torch.no_grad():
            logits = network.logits(z, bits).clone()
    logits += conf.spread * torch.randn(logits.shape, generator=generator)
    steps = _turn(part, Misfit(layout, held, latents), logits.clone(), conf, progress)
    loss = Misfit(layout, measurements, latents)
    refine = _refine(loss, logits)
    trace += _descend(refine, [logits], steps, conf.free_lr, "fit mixture", progress)
    return Mixture(
        layout=layout, latents=latents, logits=logits.numpy(), trace=tuple(trace), steps=steps
    )


def refit(
    mixture: Mixture,
    measurements: Sequence[Measurement],
    conf: FitConf,
    progress: Progress | None = None,
) -> Mixture:
    """A mixture fitted on to other tables, in REFIT_STEPS. Deterministic."""
    import torch

    logits = torch.from_numpy(mixture.logits.copy())
    loss = Misfit(mixture.layout, measurements, mixture.latents)
    trace = _descend(_refine(loss, logits), [logits], REFIT_STEPS, conf.free_lr, "refit", progress)
    return replace(mixture, logits=logits.numpy(), trace=tuple(trace))


REFIT_STEPS = 60
"""So many bring a label's tables to where they should be."""


def _refine(loss: Misfit, logits: torch.Tensor) -> Callable[[], float]:
    """Sets the natural gradient of the logits, and returns the loss."""

    def backward() -> float:
        logits.grad, value = loss.natural_gradient(logits)
        return value

    return backward


def _turn(
    part: Misfit,
    held: Misfit,
    logits: torch.Tensor,
    conf: FitConf,
    progress: Progress | None,
) -> int:
    """Steps on one part of the precision until the misfit to the other no longer falls.

    conf.free_steps at most. The trial has the learning rate of a whole fit; the fit that follows
    anneals over the steps found here, and so goes less far: the raking after it goes on.
    """
    judged: dict[int, float] = {}
    refine = _refine(part, logits)
    done = 0

    def step() -> float:
        nonlocal done
        if done <= PATIENCE or done % _STRIDE == 0:
            judged[done] = held.value(logits)
        done += 1
        return refine()

    def turned() -> bool:
        return done > PATIENCE + 2 * min(judged, key=judged.__getitem__)

    _descend(step, [logits], conf.free_steps, conf.free_lr, "trial fit", progress, turned)
    judged[done] = held.value(logits)
    return min(judged, key=judged.__getitem__)


PATIENCE = 20
"""A trial ends so many steps after twice those with the lowest misfit."""

_STRIDE = 5  # steps between two looks once the fit has settled down: a look costs a third of a step


def _train(
    network: SoftGenerator,
    loss: Misfit,
    z: torch.Tensor,
    bits: torch.Tensor,
    conf: FitConf,
    progress: Progress | None,
) -> list[float]:
    """The network's own parameters, those that the output depends on."""
    parameters = [p for _, p in network.shared_parameters() if p.requires_grad]

    def backward() -> float:
        value = loss(loss.softmax(network.logits(z, bits)))
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    return _descend(
        backward, parameters, conf.network_steps, conf.network_lr, "fit network", progress
    )


def _one_way_logits(
    layout: UnionLayout, measurements: Sequence[Measurement]
) -> NDArray[np.float32]:
    """Logits of the measured local one-way tables, 0 where a column has none: (width,)."""
    out = np.zeros(layout.width, dtype=np.float32)
    for m in of_levels(measurements):
        if len(m.query.columns) == 1 and not m.query.is_cross and m.query.weight is None:
            j = layout.names.index(m.query.columns[0])
            counts = np.maximum(m.values, 0) + m.variance**0.5
            out[layout.offsets[j] : layout.offsets[j + 1]] = np.log(counts / counts.sum())
    return out


class Misfit:
    """Chi-square per measured cell of the expected tables of a mixture with these latents."""

    def __init__(
        self, layout: UnionLayout, measurements: Sequence[Measurement], latents: Latents
    ) -> None:
        import torch

        tables = marginals(layout, measurements, latents.presence)
        self.layout = layout
        self.users = torch.from_numpy(latents.users.astype(np.float32))[:, None]
        presence = torch.from_numpy(latents.presence.astype(np.float32))
        self.cells = sum(int((s.precision > 0).sum()) for s in tables.grams)
        self.fixed = torch.from_numpy(tables.fixed)
        self.groups = torch.from_numpy(tables.groups)
        self.columns = [torch.from_numpy(c) for c in tables.sources]
        self.held = [presence[:, unit].amax(dim=1, keepdim=True) for unit in tables.units]
        self.grams = [
            (
                s.factors,
                torch.from_numpy(s.left),
                torch.from_numpy(s.right),
                torch.from_numpy(s.target),
                torch.from_numpy(s.precision),
            )
            for s in tables.grams
        ]

    def softmax(self, logits: torch.Tensor) -> torch.Tensor:
        import torch

        blocks = torch.split(logits, list(self.layout.sizes), dim=1)
        return torch.cat([block.softmax(dim=1) for block in blocks], dim=1)

    def __call__(self, soft: torch.Tensor) -> torch.Tensor:
        """soft: (latents, width) probabilities of each column's block."""
        import torch

        parts = [soft[:, c] * h for c, h in zip(self.columns, self.held, strict=True)]
        plain = torch.cat(parts, dim=1)
        coarse = [plain @ self.groups] if self.groups.shape[1] else []
        features = torch.cat([plain, *coarse, self.fixed], dim=1)
        total = soft.new_zeros(())
        for factors, left, right, target, precision in self.grams:
            a = features[:, left] * self.users
            for f in factors:
                a = a * features[:, f : f + 1]
            table = a.T @ features[:, right]
            total = total + ((table - target).square() * precision).sum()
        return total / self.cells

    def value(self, logits: torch.Tensor) -> float:
        """The loss at these logits."""
        import torch

        with torch.no_grad():
            return float(self(self.softmax(logits)))

    def natural_gradient(self, logits: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Of the logits, and the loss.

        The gradient by the probabilities, centred under them: the plain one divided by the
        probabilities, so that a latent that has settled on a level can still leave it.
        """
        import torch

        soft = self.softmax(logits.detach()).requires_grad_(True)
        value = self(soft)
        (slope,) = torch.autograd.grad(value, soft)
        mean = torch.split(slope * soft.detach(), list(self.layout.sizes), dim=1)
        centre = [m.sum(dim=1, keepdim=True).expand_as(m) for m in mean]
        return slope - torch.cat(centre, dim=1), float(value.detach())


def _descend(
    gradients: Callable[[], float],
    parameters: Sequence[torch.Tensor],
    steps: int,
    lr: float,
    stage: str,
    progress: Progress | None,
    enough: Callable[[], bool] | None = None,
) -> list[float]:
    """Adam with a cosine schedule; returns the loss at about twenty steps and the last.

    gradients: sets the parameters' gradients and returns the loss. enough: ends it earlier.
    """
    import torch

    if not steps:
        return []
    optimiser = torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=lr / 50)
    trace = []
    known = 0 if enough else steps
    said.report(stage, 0, known)
    for step in range(steps):
        optimiser.zero_grad()
        value = gradients()
        optimiser.step()
        schedule.step()
        said.report(stage, step + 1, known)
        if step % max(1, steps // 20) == 0 or step == steps - 1:
            trace.append(value)
            if progress:
                progress(stage, step + 1, steps)
        if enough is not None and enough():
            break
    return trace
