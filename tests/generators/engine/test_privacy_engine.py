"""The engine as an Opacus user meets it, and what each of its differences is for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import opacus
import pytest
import torch
from numpy.typing import NDArray
from opacus.accountants import create_accountant
from opacus.utils.batch_memory_manager import BatchMemoryManager
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.generators.oracle import brute_force
from tests.generators.paid import paid
from tests.generators.toys import KEY, NAMES, ONE_WAY, TOY, conf, table
from tests.statistics import assert_scale, p_noise
from twinweave.errors import ConfigError, ProtocolError
from twinweave.generators import registry
from twinweave.generators.conf import GradientMode
from twinweave.generators.engine import PrivacyEngine
from twinweave.generators.engine.accountant import LedgerAccountant
from twinweave.generators.engine.loader import PoissonLoader
from twinweave.generators.engine.optimizer import CryptographicOptimizer
from twinweave.generators.flat import FlatAdam
from twinweave.generators.plan import SgdPlan
from twinweave.generators.random_source import RandomSource
from twinweave.generators.rounds import train_round
from twinweave.privacy import accountant
from twinweave.privacy.events import NonPrivate, PoissonSgd, Stage

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook", "ignore:In CPU autocast")
MODES = get_args(GradientMode)
every_mode = pytest.mark.parametrize("mode", MODES)


def engine(steps: int = 3, rate: float = 0.25, batch: float = 10.0) -> PrivacyEngine:
    return PrivacyEngine(
        sample_rate=rate, expected_batch_size=batch, steps=steps, source=RandomSource(KEY)
    )


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def examples(n: int = 40) -> TensorDataset:
    drawn = torch.Generator().manual_seed(1)
    return TensorDataset(
        torch.randn(n, 4, generator=drawn), torch.randint(3, (n,), generator=drawn)
    )


class Private:
    """What an Opacus user writes, with Opacus's names."""

    def __init__(
        self, its: PrivacyEngine, *, rows: Dataset[Any] | None = None, **over: Any
    ) -> None:
        self.engine, self.module = its, network()
        self.adam = FlatAdam(list(self.module.parameters()), learning_rate=0.01)
        options: dict[str, Any] = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, **over}
        self.model, self.optimizer, *criterion, self.loader = its.make_private(
            module=self.module,
            optimizer=options.pop("optimizer", self.adam),
            data_loader=DataLoader(rows or examples(), batch_size=10),
            **options,
        )
        self.criterion = criterion[0] if criterion else nn.CrossEntropyLoss()

    def train(self) -> None:
        for x, y in self.loader:
            self.optimizer.zero_grad()
            self.backward(x, y)
            self.optimizer.step()

    def backward(self, x: Tensor, y: Tensor) -> None:
        self.criterion(self.model(x), y).backward()


@every_mode
def test_opacus_users_loop_releases_the_clipped_sum_over_the_public_batch(
    mode: GradientMode,
) -> None:
    x, y = examples().tensors
    module = network()
    alone = [
        lambda i=i: nn.functional.cross_entropy(module(x[i : i + 1]), y[i : i + 1])
        for i in range(len(x))
    ]
    expected = brute_force(module, alone, 0.3) / 10
    its = Private(engine(rate=1.0), noise_multiplier=0.0, max_grad_norm=0.3, grad_sample_mode=mode)
    its.backward(x, y)
    before = its.adam.flat.clone()
    its.optimizer.step()
    torch.testing.assert_close(its.optimizer.released, expected, rtol=1e-4, atol=1e-7)
    assert (its.adam.flat != before).all()


@every_mode
def test_the_loop_takes_the_planned_steps_and_no_more(mode: GradientMode) -> None:
    its = Private(engine(steps=3), grad_sample_mode=mode)
    assert isinstance(its.engine, opacus.PrivacyEngine)
    before = its.adam.flat.clone()
    its.train()
    assert (its.adam.flat != before).all()
    its.optimizer.released.zero_()
    assert its.engine.accountant.mechanisms() == (
        PoissonSgd(noise_multiplier=1.0, sampling_rate=0.25, steps=3),
    )
    with pytest.raises(ConfigError, match="steps are taken"):
        its.train()
    assert not its.optimizer.released.any()  # refused before anything was drawn


@every_mode
def test_rows_larger_than_memory_come_in_parts(mode: GradientMode) -> None:
    """Opacus's own memory manager: many passes, one step, the same numbers."""
    found = []
    for most in (3, 1000):
        its = Private(engine(steps=4), grad_sample_mode=mode)
        with BatchMemoryManager(
            data_loader=its.loader, max_physical_batch_size=most, optimizer=its.optimizer
        ) as loader:
            for x, y in loader:
                its.optimizer.zero_grad()
                its.backward(x, y)
                its.optimizer.step()
        assert len(its.engine.accountant) == 4
        found.append(its.adam.flat.clone())
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


@every_mode
def test_rows_do_not_count_twice_in_a_step(mode: GradientMode) -> None:
    """Two backward passes before a step: refused, or (by Opacus's ghost) the later one alone."""
    its = Private(engine(rate=1.0), noise_multiplier=0.0, grad_sample_mode=mode)
    x, y = examples().tensors
    its.backward(x, y)
    its.optimizer.step()
    once = its.optimizer.released.clone()
    its.module.load_state_dict(network().state_dict())
    its.backward(x, y)
    if mode == "ghost":
        its.backward(x, y)
        its.optimizer.step()
        torch.testing.assert_close(its.optimizer.released, once)
    else:
        with pytest.raises((ConfigError, ValueError), match=r"twice before a step|accumulation"):
            its.backward(x, y)


def test_a_graph_that_goes_backward_twice_is_refused() -> None:
    its = Private(engine(rate=1.0))
    loss = its.criterion(its.model(examples().tensors[0]), examples().tensors[1])
    loss.backward(retain_graph=True)
    with pytest.raises(ConfigError, match="twice before a step"):
        loss.backward()


def test_a_step_without_rows_is_noise_of_the_charged_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the check sees where noise is left out."""
    noise = released_without_rows()
    assert_scale(noise, p_noise, 0.95, 1.05)
    monkeypatch.setattr(CryptographicOptimizer, "_noise", lambda self: torch.zeros_like(self._sum))
    with pytest.raises(AssertionError):
        assert_scale(released_without_rows(), p_noise, 0.95, 1.05)


def released_without_rows() -> NDArray[np.float64]:
    """One step's release over sigma C / B."""
    module = nn.Linear(25_000, 4, bias=False)
    its = engine(batch=8.0)
    adam = FlatAdam(list(module.parameters()), learning_rate=0.01)
    _, optimizer, _ = its.make_private(
        module=module,
        optimizer=adam,
        data_loader=DataLoader(TensorDataset(torch.zeros(1, 25_000))),
        noise_multiplier=2.0,
        max_grad_norm=0.5,
    )
    optimizer.step()
    found: NDArray[np.float64] = optimizer.released.double().numpy() * 8
    return found


def test_any_torch_optimizer_will_do() -> None:
    module = network()
    rows, optimizer, loader = engine().make_private(
        module=module,
        optimizer=torch.optim.SGD(module.parameters(), lr=0.5),
        data_loader=DataLoader(examples(), batch_size=10),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
    )
    before = torch.cat([p.detach().flatten() for p in module.parameters()])
    for x, y in loader:
        nn.functional.cross_entropy(rows(x), y).backward()
        optimizer.step()
        moved = torch.cat([p.detach().flatten() for p in module.parameters()])
        torch.testing.assert_close(moved, before - 0.5 * optimizer.released)
        before = moved


class BatchOfTheTable(PrivacyEngine):
    """Broken: Opacus's way, the expected batch from the number of rows."""

    def make_private(self, **given: Any) -> tuple[Any, ...]:
        self.expected_batch_size = int(len(given["data_loader"].dataset) * self.sample_rate)
        return super().make_private(**given)


@pytest.mark.parametrize("kind", [PrivacyEngine, BatchOfTheTable])
def test_the_divisor_does_not_tell_the_number_of_rows(kind: type[PrivacyEngine]) -> None:
    """A row more, whose gradient is zero: the same release to the bit, but for the broken one."""
    found = []
    for n in (40, 39):
        x = torch.zeros(n, 4)
        x[:39] = examples(39).tensors[0]
        module = nn.Linear(4, 1, bias=False)
        nn.init.ones_(module.weight)
        its = kind(sample_rate=1.0, expected_batch_size=10.0, steps=1, source=RandomSource(KEY))
        rows, optimizer, loader = its.make_private(
            module=module,
            optimizer=FlatAdam(list(module.parameters()), learning_rate=0.1),
            data_loader=DataLoader(TensorDataset(x)),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            loss_reduction="mean",
        )
        for (batch,) in loader:
            rows(batch).square().mean().backward()
            optimizer.step()
        found.append(optimizer.released)
    one, other = found
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-6) == (kind is PrivacyEngine)


def a_round(name: str, mode: GradientMode = "bookkeeping") -> Any:
    c = conf(name, gradients=mode, **({"discriminator_steps": 2} if name == "ctgan" else {}))
    plan = SgdPlan.of(c, rows=120, noise_multiplier=1.0)
    made = registry.build(c, TOY, seed=1)
    source = RandomSource(KEY)
    return train_round(made, "a", table("a"), plan, *paid(plan), one_way=ONE_WAY, source=source)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_is_not_counted_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is one too many: the ledger's steps are those that were taken."""
    assert a_round(name).update.any()
    with monkeypatch.context() as patch:
        patch.setattr(CryptographicOptimizer, "attach_step_hook", lambda self, fn: None)
        with pytest.raises(ProtocolError, match="other steps"):
            a_round(name)

    def longer(self: PoissonLoader) -> Iterator[Any]:
        yield from gathered(self)
        yield from gathered(self)

    gathered = PoissonLoader._gathered
    monkeypatch.setattr(PoissonLoader, "_gathered", longer)
    with pytest.raises(ConfigError, match="steps are taken"):
        a_round(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_every_generator_draws_the_charged_noise(
    name: str, mode: GradientMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of a round releases sigma C / B on what is trained, beyond the rows' own sum."""
    if (name, mode) == ("llm", "ghost"):
        with pytest.raises(ConfigError, match="gradients"):
            conf(name, gradients=mode)
        return
    noises: dict[bool, list[Tensor]] = {True: [], False: []}
    add_noise = CryptographicOptimizer.add_noise

    def added(self: CryptographicOptimizer) -> None:
        summed = self._sum.clone()
        add_noise(self)
        assert float(summed.norm()) > 0
        left = (self.released - summed).cpu()
        moved = torch.ones(len(left)) if self._active is None else self._active.cpu()
        noises[True].append(left[moved.bool()])
        noises[False].append(self.released.cpu()[~moved.bool()])

    monkeypatch.setattr(CryptographicOptimizer, "add_noise", added)
    a_round(name, mode)
    noise = torch.cat(noises[True]).double().numpy()
    assert_scale(noise, p_noise, 0.85, 1.15)
    assert not torch.cat(noises[False]).any()


def test_the_accountant_keeps_events_and_leaves_the_cost_to_ours() -> None:
    its = LedgerAccountant()
    for noise in (1.0, 1.0, 2.0):
        its.step(noise_multiplier=noise, sample_rate=0.1)
    one, two = its.mechanisms()
    assert one == PoissonSgd(noise_multiplier=1.0, sampling_rate=0.1, steps=2)
    assert two == replace(one, noise_multiplier=2.0, steps=1)
    events = its.events(label="training", parties=("a",))
    assert [(e.stage, e.parties, e.mechanism) for e in events] == [
        (Stage.TRAINING, ("a",), one),
        (Stage.TRAINING, ("a",), two),
    ]
    assert its.get_epsilon(1e-5) == accountant.epsilon(events, 1e-5) > 0
    again = create_accountant("ledger")  # as Opacus finds it, from its checkpoint
    again.load_state_dict(its.state_dict())
    assert again.mechanisms() == its.mechanisms()
    assert len(again) == 3
    its.step(noise_multiplier=0.0, sample_rate=0.1)
    assert isinstance(its.mechanisms()[-1], NonPrivate)
    assert its.get_epsilon(1e-5) == np.inf


def test_noise_for_a_budget_keeps_to_it() -> None:
    module = network()
    _, optimizer, _ = engine(steps=30, rate=0.01).make_private_with_epsilon(
        module=module,
        optimizer=FlatAdam(list(module.parameters()), learning_rate=0.1),
        data_loader=DataLoader(examples()),
        target_epsilon=1.0,
        target_delta=1e-5,
        max_grad_norm=1.0,
    )
    spent = PoissonSgd(noise_multiplier=optimizer.noise_multiplier, sampling_rate=0.01, steps=30)
    assert 0.98 <= accountant.epsilon_of_mechanisms([spent], 1e-5) <= 1.0
    theirs = create_accountant("prv")  # shares none of our arithmetic
    theirs.history = [(optimizer.noise_multiplier, 0.01, 30)]
    assert theirs.get_epsilon(1e-5) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    "wrong",
    [
        {"poisson_sampling": False},
        {"clipping": "per_layer"},
        {"noise_generator": torch.Generator()},
        {"rand_on_empty": True},
        {"active": np.ones(3, bool)},
        {"optimizer": torch.optim.SGD(network().parameters(), lr=0.1)},
    ],
)
def test_what_would_not_be_private_or_not_exact_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Private(engine(), **({"active": ~wrong["active"]} if "active" in wrong else wrong))


def test_constants_are_checked_and_unknown_options_named() -> None:
    with pytest.raises(TypeError, match="epochs"):
        Private(engine(), epochs=3)
    for wrong in ({"rate": 0.0}, {"rate": 1.5}, {"batch": 0.0}, {"steps": 0}):
        with pytest.raises(ConfigError):
            engine(**wrong)


def test_ghost_refuses_sequences_by_name() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x[:, None].expand(-1, 5, -1)).sum(dim=1)
            return out

    module = Pooled()
    rows, *_ = engine().make_private(
        module=module,
        optimizer=FlatAdam(list(module.parameters()), learning_rate=0.1),
        data_loader=DataLoader(examples()),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        grad_sample_mode="ghost",
    )
    with pytest.raises(ConfigError, match="bookkeeping"):
        rows(examples().tensors[0])
