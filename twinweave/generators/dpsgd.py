"""DP-SGD at one party: the plan that is charged, and the steps that it pays for.

Abadi et al. (2016), "Deep learning with differential privacy", algorithm 1, with true Poisson
sampling. A step releases (sum of clipped row gradients + N(0, (sigma C)^2 I)) / B, where the
expected batch size B, the sampling rate and the number of steps are constants of the run; what
the optimiser, the network and the server do with it is post-processing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twinweave.errors import ConfigError
from twinweave.generators.conf import TrainingConf
from twinweave.generators.noise import NoiseSource
from twinweave.generators.per_row import Losses, Mode, clipped_sums, trainable
from twinweave.parsing import STRICT
from twinweave.privacy.events import NonPrivate, PoissonSgd

if TYPE_CHECKING:
    from twinweave.generators.base import RowLoss

MICRO_BATCH = 4096
"""Rows through the network at once: bounds memory, changes nothing else."""


@dataclass(frozen=True, kw_only=True)
class SgdPlan:
    """One party's private steps of one round: what is charged and what is drawn.

    noise_multiplier: sigma, noise over clip. clip: C. steps: exactly, of this round.
    expected_batch: rows; the gradient's constant divisor. Add or remove one user: sensitivity
    C of the sum, whatever the batch. unsafe: allow noise_multiplier 0; the mechanism is then
    NonPrivate.
    """

    __pydantic_config__ = STRICT

    noise_multiplier: float
    sampling_rate: float
    steps: int
    clip: float
    learning_rate: float
    expected_batch: float
    unsafe: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.sampling_rate <= 1:
            raise ConfigError("sampling_rate", "not in (0, 1]", "Give a Poisson sampling rate.")
        for name in ("clip", "learning_rate", "expected_batch"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ConfigError(name, "must be positive", "Give a number above 0.")
        if self.steps < 1:
            raise ConfigError("steps", "must be positive", "Give the steps of one round.")
        if not (isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise ConfigError("noise_multiplier", "must be positive", "Calibrate it to a budget.")
        if self.noise_multiplier == 0 and not self.unsafe:
            raise ConfigError(
                "noise_multiplier",
                "is 0, which gives no privacy at all",
                "Calibrate it to a budget, or say privacy.unsafe: true.",
            )

    @classmethod
    def of(
        cls, conf: TrainingConf, *, rows: int, noise_multiplier: float, unsafe: bool = False
    ) -> SgdPlan:
        """The plan of one round for a table of `rows` rows (public, DESIGN section 6)."""
        if rows < 1:
            raise ConfigError("rows", "the table is empty", "Train on a table with rows.")
        rate = min(1.0, conf.expected_batch / rows)
        return cls(
            noise_multiplier=noise_multiplier,
            sampling_rate=rate,
            steps=conf.local_steps,
            clip=conf.clip,
            learning_rate=conf.learning_rate,
            expected_batch=rate * rows,
            unsafe=unsafe,
        )

    def mechanism(self, rounds: int = 1) -> PoissonSgd | NonPrivate:
        """What `rounds` rounds of this plan release."""
        if self.noise_multiplier == 0:
            return NonPrivate(reason="training without noise (privacy.unsafe)")
        return PoissonSgd(
            noise_multiplier=self.noise_multiplier,
            sampling_rate=self.sampling_rate,
            steps=self.steps * rounds,
        )


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a round looked like. Depends on the data without noise: never leaves the party.

    batches: rows of each step. loss: mean a row. clipped: share of the rows clipped.
    """

    batches: tuple[int, ...] = field(repr=False)
    loss: float
    clipped: float


class PrivateSgd:
    """The private steps of one plan on one module, by Adam.

    active: (parameters,) 0/1 over the flattened trainable parameters; entries at 0 are not
        trained and get no noise. For what a party cannot influence at all (blocks of columns
        it lacks): noise there would only do harm. Safe whatever it says, as entries at 0
        release nothing. Must not depend on the data.
    mode: how row gradients are had, see `per_row`.

    The trainable parameters become views of one flat buffer, on the module's device.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: SgdPlan,
        *,
        source: NoiseSource,
        active: NDArray[np.bool_] | None = None,
        mode: Mode = "bookkeeping",
    ) -> None:
        self.plan = plan
        self._source = source
        parameters = [p for _, p in trainable(module)]
        self._flat = nn.Parameter(_joined_storage(parameters))
        self._sum = torch.zeros_like(self._flat)
        self._sums = list(_views(self._sum, parameters))
        self._clipped = clipped_sums(module, plan.clip, mode)
        self._active = self._mask(active)
        self._adam = torch.optim.Adam([self._flat], lr=plan.learning_rate)
        self._taken = 0

    def _mask(self, active: NDArray[np.bool_] | None) -> Tensor | None:
        if active is None or active.all():
            return None
        if active.shape != self._flat.shape:
            raise ConfigError("active", "is not one entry a parameter", "Flatten in module order.")
        return torch.from_numpy(active.astype(np.float32)).to(self._flat.device)

    def batch(self, n: int) -> NDArray[np.int64]:
        """Row numbers of one Poisson batch out of n rows; may be empty."""
        return self._source.poisson_sample(n, self.plan.sampling_rate)

    def step(self, chunks: Iterable[Losses]) -> Tensor:
        """Take one private step over a batch, given in chunks (none: noise alone).

        Returns the row gradients' norms, (rows,): they stay at the party. Raises ConfigError
        once the steps of the plan are taken.
        """
        if self._taken >= self.plan.steps:
            raise ConfigError("steps", "the plan's steps are taken", "Charge for another round.")
        self._taken += 1
        self._sum.zero_()
        norms = [self._clipped.add(losses, self._sums) for losses in chunks]
        if self.plan.noise_multiplier:
            scale = self.plan.noise_multiplier * self.plan.clip
            noise = self._source.normal(self._flat.numel()).mul_(scale)
            self._sum.add_(noise.to(self._sum.device))
        if self._active is not None:
            self._sum.mul_(self._active)
        self._flat.grad = self._sum / self.plan.expected_batch
        self._adam.step()
        return torch.cat(norms) if norms else torch.empty(0)

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Adam's moments: post-processing of private gradients, kept at the party."""
        kept = self._adam.state[self._flat]
        return {
            name: np.atleast_1d(kept[name].detach().cpu().numpy().astype(np.float32))
            for name in ("step", "exp_avg", "exp_avg_sq")
            if name in kept
        }

    def restore(self, state: dict[str, NDArray[np.float32]]) -> None:
        """Go on from `state()` of an earlier round."""
        if not state:
            return
        device = self._flat.device
        self._adam.state[self._flat] = {
            "step": torch.tensor(float(state["step"][0])),
            "exp_avg": torch.from_numpy(state["exp_avg"].copy()).to(device),
            "exp_avg_sq": torch.from_numpy(state["exp_avg_sq"].copy()).to(device),
        }


def private_steps(
    module: nn.Module,
    codes: NDArray[np.int32],
    plan: SgdPlan,
    *,
    source: NoiseSource | None = None,
    active: NDArray[np.bool_] | None = None,
    adam: dict[str, NDArray[np.float32]] | None = None,
    mode: Mode = "bookkeeping",
) -> tuple[Trace, dict[str, NDArray[np.float32]]]:
    """Train a module on its own `row_loss` (`base.RowLoss`) for the steps of a plan, in place.

    codes: (n, columns) int32 of one party's rows, ABSENT where not held. adam: state of the
    round before. Returns what happened, and Adam's state for the next round: both stay here.
    """
    loss: RowLoss = module  # type: ignore[assignment]
    source = source or NoiseSource()
    optimizer = PrivateSgd(module, plan, source=source, active=active, mode=mode)
    optimizer.restore(adam or {})
    device = next(module.parameters()).device
    generator = source.torch_generator(device.type)
    rows = torch.from_numpy(codes.astype(np.int64)).to(device)
    tally = Tally(clip=plan.clip)

    def losses(part: Tensor) -> Tensor:
        return tally.seen(loss.row_loss(rows[part], generator))

    module.train()
    for _ in range(plan.steps):
        index = torch.from_numpy(optimizer.batch(len(rows))).to(device)

        def chunks(index: Tensor = index) -> Iterator[Losses]:
            for part in torch.split(index, MICRO_BATCH):
                if len(part):
                    yield partial(losses, part)

        tally.batch(len(index), optimizer.step(chunks()))
    return tally.trace(), optimizer.state()


class Tally:
    """Collects a `Trace`."""

    def __init__(self, *, clip: float) -> None:
        self._clip = clip
        self._batches: list[int] = []
        self._loss = 0.0
        self._over = 0

    def seen(self, losses: Tensor) -> Tensor:
        self._loss += float(losses.detach().sum())
        return losses

    def batch(self, rows: int, norms: Tensor) -> None:
        self._batches.append(rows)
        self._over += int((norms[:rows] > self._clip).sum())

    def trace(self) -> Trace:
        rows = max(1, sum(self._batches))
        return Trace(
            batches=tuple(self._batches), loss=self._loss / rows, clipped=self._over / rows
        )


def flatten(parameters: Iterable[nn.Parameter]) -> NDArray[np.float32]:
    """Parameters, in order, as one float32 vector (a copy)."""
    parts = [p.detach().reshape(-1).cpu() for p in parameters]
    joined = torch.cat(parts) if parts else torch.empty(0)
    return np.array(joined.numpy(), dtype=np.float32)


def unflatten(parameters: Iterable[nn.Parameter], flat: NDArray[np.float32]) -> None:
    """Write a vector of `flatten` back into the parameters. Raises ConfigError on its length."""
    parameters = list(parameters)
    if flat.shape != (sum(p.numel() for p in parameters),):
        raise ConfigError("weights", "do not fit the network", "Use one configuration in a run.")
    source = torch.from_numpy(np.ascontiguousarray(flat, dtype=np.float32))
    with torch.no_grad():
        for p, values in zip(parameters, _views(source, parameters), strict=True):
            p.copy_(values)


def _views(flat: Tensor, parameters: list[nn.Parameter]) -> Iterator[Tensor]:
    start = 0
    for p in parameters:
        yield flat[start : start + p.numel()].view_as(p)
        start += p.numel()


def _joined_storage(parameters: list[nn.Parameter]) -> Tensor:
    """Move the parameters' values into one buffer, of which they become views."""
    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    for p, view in zip(parameters, _views(flat, parameters), strict=True):
        p.data = view
    return flat


def choose_device(wanted: str | None = None) -> str:
    """The accelerator where torch sees one, else the CPU; `wanted` overrides."""
    return wanted or ("cuda" if torch.cuda.is_available() else "cpu")
