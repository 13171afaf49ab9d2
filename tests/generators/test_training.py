"""Private training: noise, steps, and what the plan refuses."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.generators.modules import Dense, rows
from tests.generators.oracle import training_of
from tests.statistics import assert_scale, p_largest, p_noise, p_normal, plausible
from twinweave.errors import ConfigError
from twinweave.generators.conf import GradientMode
from twinweave.generators.engine import PrivacyEngine
from twinweave.generators.flat import Arrays, FlatAdam
from twinweave.generators.plan import SgdPlan
from twinweave.generators.random_source import RandomSource
from twinweave.generators.training import Trace, private_steps
from twinweave.privacy.events import NonPrivate, PoissonSgd

KEY = bytes(range(32))


def plan(**over: Any) -> SgdPlan:
    fields: dict[str, Any] = {
        "noise_multiplier": 1.0,
        "sampling_rate": 0.05,
        "steps": 20,
        "clip": 1.0,
        "learning_rate": 0.01,
        "expected_batch": 10.0,
    }
    return SgdPlan(**{**fields, **over})


def trained(module: Dense, codes: Tensor, its: SgdPlan, **more: Any) -> tuple[Trace, Arrays]:
    table = codes.numpy().astype(np.int32)
    engine = PrivacyEngine.of(its, RandomSource(KEY))
    return private_steps(module, module.row_loss, table, its, engine, **more)


def flat(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def noise_of_steps(sigma: float, clip: float, n: int) -> NDArray[Any]:
    """What two steps add to an empty sum."""
    module = nn.Linear(n // 2, 2, bias=False)
    training = training_of(
        module, noise_multiplier=sigma, clip=clip, steps=2, expected_batch=10.0, source=KEY
    )
    seen = []
    for _ in range(2):
        training.step([])
        seen.append(training.optimizer.released.numpy() * 10.0)
    return np.concatenate(seen).astype(np.float64)


@pytest.mark.curious("party-sum")
@pytest.mark.broken("party-sum")
@pytest.mark.parametrize(("sigma", "clip"), [(1.0, 1.0), (2.5, 0.3)])
def test_the_noise_has_the_charged_scale(sigma: float, clip: float) -> None:
    x = noise_of_steps(sigma, clip, 100_000)
    assert_scale(x / (sigma * clip), lambda z: min(p_noise(z), p_normal(z)), 0.95, 1.05)
    assert len(np.unique(x)) > 0.99 * len(x)  # steps do not repeat each other's noise


def test_noise_differs_from_source_to_source() -> None:
    assert not torch.equal(RandomSource().normal(8), RandomSource().normal(8))
    assert repr(RandomSource(KEY)) == "RandomSource()"


def test_batches_are_poisson_sampled() -> None:
    source, n, rate = RandomSource(KEY), 1000, 0.05
    batches = [source.poisson_sample(n, rate) for _ in range(2000)]
    sizes = np.array([len(b) for b in batches])

    def p_sizes(found: NDArray[Any], rate: float = rate) -> float:
        return p_noise((found - n * rate) / np.sqrt(n * rate * (1 - rate)))

    assert plausible(p_sizes(sizes))
    assert not plausible(p_sizes(np.full(2000, 50)))  # batches of a fixed size
    assert not plausible(p_sizes(sizes, rate=0.045))
    counts = np.bincount(np.concatenate(batches), minlength=n)
    z = (counts - 100) / np.sqrt(2000 * rate * (1 - rate))
    assert plausible(p_largest(z))  # every row alike
    assert all(len(np.unique(b)) == len(b) for b in batches[:50])
    assert len(source.poisson_sample(7, 1.0)) == 7
    assert len(source.poisson_sample(0, 0.5)) == 0


def test_empty_batches_take_noise_alone_and_weights_move() -> None:
    torch.manual_seed(0)
    module = Dense()
    before = flat(module)
    rare = plan(sampling_rate=1e-4, expected_batch=1.0, steps=5)
    trace, _ = trained(module, rows(50), rare)
    assert trace.batches == (0, 0, 0, 0, 0)
    assert (before != flat(module)).all()


@pytest.mark.attack("nonfinite")
@pytest.mark.parametrize("mode", get_args(GradientMode))
@pytest.mark.filterwarnings("ignore:Full backward hook", "ignore:In CPU autocast")
def test_a_step_ends_the_same_way_whatever_the_rows_are(mode: GradientMode) -> None:
    """All of them not finite: the same weights, to the bit, as from no rows at all."""
    found = []
    for table in (rows(50), rows(50)[:0]):
        torch.manual_seed(0)
        module = NeverFinite()
        _, adam = trained(module, table, plan(sampling_rate=1.0, steps=3), mode=mode)
        assert all(np.isfinite(moment).all() for moment in adam.values())
        found.append(flat(module))
    assert torch.equal(*found)


class NeverFinite(Dense):
    def row_loss(self, codes: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return super().row_loss(codes) * torch.nan


def test_training_lowers_the_loss_and_exactly_the_planned_steps_are_taken() -> None:
    torch.manual_seed(0)
    module, codes = Dense(), rows(200)
    first, adam = trained(module, codes, plan(learning_rate=0.05))
    second, _ = trained(module, codes, plan(), adam=adam)
    assert second.loss < first.loss / 2
    assert len(first.batches) == 20
    training = training_of(module, steps=1)
    training.step([])
    with pytest.raises(ConfigError, match="steps are taken"):
        training.step([])


def test_micro_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for size in (4096, 7):
        monkeypatch.setattr("twinweave.generators.training.MICRO_BATCH", size)
        torch.manual_seed(0)
        module = Dense()
        trained(module, rows(200), plan(sampling_rate=0.5))
        results.append(flat(module))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


def test_inactive_entries_stay_and_get_no_noise() -> None:
    module = Dense()
    before = flat(module)
    active = np.arange(len(before)) % 3 != 0
    trained(module, rows(50), plan(), active=active)
    assert ((before != flat(module)).numpy() == active).all()


def test_the_event_is_what_is_drawn() -> None:
    assert plan().mechanism(rounds=3) == PoissonSgd(
        noise_multiplier=1.0, sampling_rate=0.05, steps=60
    )
    with pytest.raises(ConfigError, match="no privacy"):
        plan(noise_multiplier=0.0)
    assert isinstance(plan(noise_multiplier=0.0, unsafe=True).mechanism(), NonPrivate)
    for name, value in itertools.chain(
        ((n, v) for n in ("clip", "learning_rate", "expected_batch") for v in (0.0, -1, np.nan)),
        [("sampling_rate", 0.0), ("sampling_rate", 1.1), ("steps", 0), ("noise_multiplier", -1.0)],
    ):
        with pytest.raises(ConfigError):
            plan(**{name: value})


def test_adam_on_a_flat_vector_is_torchs() -> None:
    torch.manual_seed(0)
    mine, theirs = Dense(), Dense()
    theirs.load_state_dict(mine.state_dict())
    own = FlatAdam(list(mine.parameters()), learning_rate=0.01, betas=(0.5, 0.9))
    reference = torch.optim.Adam(theirs.parameters(), lr=0.01, betas=(0.5, 0.9))
    for i in range(7):
        codes = rows(9, seed=i)
        grads = torch.autograd.grad(mine.row_loss(codes).mean(), list(mine.parameters()))
        for p, g in zip(mine.parameters(), grads, strict=True):
            p.grad = g
        own.step()
        reference.zero_grad()
        theirs.row_loss(codes).mean().backward()
        reference.step()
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
    copy = FlatAdam(list(Dense().parameters()), learning_rate=0.01)
    copy.restore(own.moments())
    assert all((copy.moments()[k] == v).all() for k, v in own.moments().items())
    with pytest.raises(ConfigError, match="another network"):
        copy.restore({k: v[:-1] for k, v in own.moments().items()})
