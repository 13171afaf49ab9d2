"""Fit a generator's output to noisy measurements: post-processing, no privacy cost.

After GEM (Liu, Vietri, Wu 2021, "Iterative methods for private synthetic data", section 4):
a fixed batch of latents gives one product distribution each, their mixture is the model, and
its expected tables are compared with the measured ones. Differs: every table is measured
once and weighted by the precision of its noise (Gaussian likelihood); presence is part of
the latent; after the network, the mixture's own logits are refined directly (as the relaxed
rows of RAP, Aydore et al. 2021), along the natural gradient.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.cells import CellProducts, cell_products
from twinweave.generators.layout import ABSENT, Layout, Rows
from twinweave.generators.synthesis import FitConf
from twinweave.privacy.measurement import Measurement

if TYPE_CHECKING:
    import torch

    from twinweave.generators.base import SoftNetwork

Progress = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """A mixture of product distributions with equal weights: what the fit leaves.

    logits: float32 (latents, width); presence: bool (latents, parties). trace: misfit per
    measured cell (chi-square over cells; about 1 when only noise is left) along the steps.
    """

    layout: Layout
    logits: NDArray[np.float32] = field(repr=False)
    presence: NDArray[np.bool_] = field(repr=False)
    trace: tuple[float, ...] = ()
    cpu_seconds: float = 0.0

    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of every column's block: (latents, width)."""
        blocks = []
        for a, b in pairwise(self.layout.offsets.tolist()):
            x = np.exp(self.logits[:, a:b] - self.logits[:, a:b].max(axis=1, keepdims=True))
            blocks.append(x / x.sum(axis=1, keepdims=True))
        return np.hstack(blocks).astype(np.float64)

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """n rows, each latent equally often, columns stratified within a latent."""
        latents = len(self.logits)
        each = -(-n // latents)
        chosen = rng.permutation(latents * each)[:n]
        latent = chosen // each
        presence = self.presence[latent]
        codes = np.empty((n, len(self.layout.names)), dtype=np.int32)
        probabilities = self.probabilities()
        for j, (a, b) in enumerate(pairwise(self.layout.offsets.tolist())):
            u = (rng.random((latents, each)).argsort(axis=1) + rng.random((latents, each))) / each
            upper = probabilities[:, a:b].cumsum(axis=1)[:, :-1]
            picked = u.reshape(-1)[chosen]
            codes[:, j] = (picked[:, None] > upper[latent]).sum(axis=1)
        codes[~self.layout.visible(presence)] = ABSENT
        return Rows(codes=codes, presence=presence)


def fit(
    network: SoftNetwork | None,
    layout: Layout,
    measurements: Sequence[Measurement],
    presence: NDArray[np.bool_],
    users: float,
    conf: FitConf,
    seed: int,
    progress: Progress | None = None,
) -> Mixture:
    """Fit to the count measurements (weighted ones are ignored); the network is changed.

    presence: bool (latents, parties), the pattern of each latent, in the estimated
    proportions. users: estimated size of the union; the mixture's tables are scaled to it.
    Without a network the logits start at the one-way tables. Deterministic under `seed` on one
    thread count.
    """
    import torch

    started = time.process_time()
    generator = torch.Generator().manual_seed(seed)
    products = cell_products(layout, measurements, presence)
    bits = torch.from_numpy(presence.astype(np.float32))
    loss = _Loss(layout, products, bits, users)
    trace: list[float] = []
    if network is None:
        logits = torch.from_numpy(_marginals(layout, measurements)).repeat(len(presence), 1)
    else:
        z = torch.randn(len(presence), network.latent, generator=generator)
        trace += _train(network, loss, z, bits, conf, progress)
        with torch.no_grad():
            logits = network.logits(z, bits).clone()
    logits += conf.spread * torch.randn(logits.shape, generator=generator)

    def refine() -> float:
        logits.grad, value = loss.natural_gradient(logits)
        return value

    trace += _descend(refine, [logits], conf.free_steps, conf.free_lr, "fit mixture", progress)
    return Mixture(layout=layout, logits=logits.numpy(), presence=presence,
                   trace=tuple(trace), cpu_seconds=time.process_time() - started)  # fmt: skip


def _train(
    network: SoftNetwork,
    loss: _Loss,
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


def _marginals(layout: Layout, measurements: Sequence[Measurement]) -> NDArray[np.float32]:
    """Logits of the measured local one-way tables, 0 where a column has none: (width,)."""
    out = np.zeros(layout.width, dtype=np.float32)
    for m in measurements:
        if len(m.query.columns) == 1 and not m.query.is_cross and m.query.weight is None:
            j = layout.names.index(m.query.columns[0])
            counts = np.maximum(m.values, 0) + m.variance**0.5
            out[layout.offsets[j] : layout.offsets[j + 1]] = np.log(counts / counts.sum())
    return out


def chi_square(
    layout: Layout,
    measurements: Sequence[Measurement],
    logits: NDArray[np.floating[Any]],
    presence: NDArray[np.bool_],
    users: float,
) -> float:
    """Misfit per measured cell of a mixture's expected tables, scaled to so many users."""
    import torch

    products = cell_products(layout, measurements, presence)
    bits = torch.from_numpy(presence.astype(np.float32))
    with torch.no_grad():
        loss = _Loss(layout, products, bits, users)
        return float(loss(loss.softmax(torch.from_numpy(logits.astype(np.float32)))))


class _Loss:
    """Chi-square per measured cell of the mixture's expected tables."""

    def __init__(
        self, layout: Layout, products: CellProducts, presence: torch.Tensor, users: float
    ) -> None:
        import torch

        self.layout, self.scale = layout, users / len(presence)
        self.cells = sum(int((s.precision > 0).sum()) for s in products.slices)
        self.fixed = torch.from_numpy(products.fixed)
        self.columns = [torch.from_numpy(c) for c in products.sources]
        self.held = [presence[:, p : p + 1] for p in products.parties]
        self.slices = [
            (s.factors, torch.from_numpy(s.left), torch.from_numpy(s.right),
             torch.from_numpy(s.target), torch.from_numpy(s.precision))
            for s in products.slices
        ]  # fmt: skip

    def softmax(self, logits: torch.Tensor) -> torch.Tensor:
        import torch

        blocks = torch.split(logits, list(self.layout.sizes), dim=1)
        return torch.cat([block.softmax(dim=1) for block in blocks], dim=1)

    def __call__(self, soft: torch.Tensor) -> torch.Tensor:
        """soft: (latents, width) probabilities of each column's block."""
        import torch

        parts = [soft[:, c] * h for c, h in zip(self.columns, self.held, strict=True)]
        features = torch.cat([*parts, self.fixed], dim=1)
        total = soft.new_zeros(())
        for factors, left, right, target, precision in self.slices:
            a = features[:, left]
            for f in factors:
                a = a * features[:, f : f + 1]
            table = a.T @ features[:, right] * self.scale
            total = total + ((table - target).square() * precision).sum()
        return total / self.cells

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
) -> list[float]:
    """Adam with a cosine schedule; returns the loss at about twenty steps and the last.

    gradients: sets the parameters' gradients and returns the loss.
    """
    import torch

    if not steps:
        return []
    optimiser = torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=lr / 50)
    trace = []
    for step in range(steps):
        optimiser.zero_grad()
        value = gradients()
        optimiser.step()
        schedule.step()
        if step % max(1, steps // 20) == 0 or step == steps - 1:
            trace.append(value)
            if progress:
                progress(stage, step + 1, steps)
    return trace
