"""DP-SGD: exact clipped sums, sensitivity, noise, sampling, and what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from tests.generators.oracle import brute_force, clipped_sum, worst_change
from twinweave.errors import ConfigError
from twinweave.generators.dpsgd import PrivateSgd, private_steps
from twinweave.generators.flat import FlatAdam
from twinweave.generators.per_row import Losses, clipped_sums
from twinweave.generators.plan import SgdPlan
from twinweave.generators.random_source import RandomSource
from twinweave.privacy.events import NonPrivate, PoissonSgd

FALSE_ALARM = 1e-9
KEY = bytes(range(32))


class Sequences(nn.Module):
    """Every kind of layer: embedding, sequences, a layer used twice, norms, a padded index."""

    def __init__(self, width: int = 6, length: int = 5) -> None:
        super().__init__()
        self.words = nn.Embedding(7, width, padding_idx=0)
        self.places = nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, width)
        self.unbiased = nn.Linear(width, 40, bias=False)
        self.head = nn.Linear(40, 3)
        self.unused = nn.Linear(2, 2)
        self.group = nn.GroupNorm(2, 40)
        self.length = length

    def row_loss(self, codes: Tensor, generator: torch.Generator | None = None) -> Tensor:
        place = torch.arange(self.length).expand(len(codes), -1)
        x = self.norm(self.words(codes) + self.places(place))
        x = x + torch.tanh(self.mix(torch.tanh(self.mix(x))))
        pooled = self.group(self.unbiased(x).sum(dim=1))
        return nn.functional.cross_entropy(self.head(pooled), codes[:, 0] % 3, reduction="none")


class Dense(nn.Module):
    def __init__(self, inputs: int = 5, outputs: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))

    def row_loss(self, codes: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.net(codes.float()).square().sum(dim=1)


def rows(n: int, columns: int = 5, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 7, (n, columns)))


@pytest.mark.parametrize("clip", [1e-3, 0.5, 1e6])
@pytest.mark.parametrize("kind", [Sequences, Dense])
def test_the_clipped_sum_is_the_brute_force_sum(kind: type[nn.Module], clip: float) -> None:
    torch.manual_seed(0)
    module, codes = kind(), rows(9)
    sums = clipped_sums(module, clip)
    got = clipped_sum(sums, module, lambda: module.row_loss(codes))
    alone = [lambda i=i: module.row_loss(codes[i : i + 1]) for i in range(len(codes))]
    torch.testing.assert_close(got, brute_force(module, alone, clip), rtol=1e-4, atol=1e-6 * clip)


@pytest.mark.parametrize("mode", ["hooks", "functorch", "ghost"])
@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_opacus_agrees(mode: str) -> None:
    torch.manual_seed(0)
    module, codes = Dense(), rows(9)
    own = clipped_sum(clipped_sums(module, 3.0), module, lambda: module.row_loss(codes))
    theirs = clipped_sums(module, 3.0, mode)  # type: ignore[arg-type]
    for _ in range(2):  # nothing is left over from the step before
        got = clipped_sum(theirs, module, lambda: module.row_loss(codes))
        torch.testing.assert_close(got, own, rtol=1e-4, atol=1e-6)


def test_one_row_moves_the_sum_by_at_most_the_clip() -> None:
    torch.manual_seed(0)
    module, codes, clip = Sequences(), rows(12), 0.05
    sums = clipped_sums(module, clip)
    good = worst_change(
        lambda kept: clipped_sum(sums, module, lambda: 1e3 * module.row_loss(codes[kept])), 12
    )
    assert 0.99 * clip < good <= clip * (1 + 1e-5)


def test_broken_variants_exceed_the_clip() -> None:
    """Clipping the batch's gradient; a loss normalised by the batch (means over tokens)."""
    torch.manual_seed(0)
    module = nn.Linear(2, 1, bias=False)
    inputs = torch.tensor([[100.0, 0.0]] + [[-6.0, 0.1 * i] for i in range(10)])

    def clip_the_batch(kept: list[int]) -> Tensor:
        grad = inputs[kept].sum(dim=0)
        return grad * min(1.0, 1.0 / float(grad.norm()))

    assert worst_change(clip_the_batch, len(inputs)) > 1.5

    sums = clipped_sums(module, 1.0)

    def batch_mean(kept: list[int]) -> Losses:
        lengths = inputs[kept].norm(dim=1)
        return lambda: module(inputs[kept])[:, 0] / lengths.mean() * 0.5

    broken = worst_change(lambda kept: clipped_sum(sums, module, batch_mean(kept)), len(inputs))
    assert broken > 1.2


def test_a_row_without_a_finite_gradient_adds_nothing() -> None:
    torch.manual_seed(0)
    module, codes = Dense(), rows(6)
    sums = clipped_sums(module, 1.0)

    def bad() -> Tensor:
        scale = torch.ones(6)
        scale[2] = torch.inf
        return module.row_loss(codes) * scale

    good = clipped_sum(sums, module, lambda: module.row_loss(codes[[0, 1, 3, 4, 5]]))
    torch.testing.assert_close(clipped_sum(sums, module, bad), good)


class _Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight


class _Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)),
        nn.BatchNorm1d(3, affine=False),
        _Shared(),
        _Bare(),
    ],
)
def test_layers_that_cannot_be_clipped_are_refused(module: nn.Module) -> None:
    with pytest.raises(ConfigError):
        clipped_sums(module, 1.0)


def test_in_place_changes_and_inputs_shared_by_rows_are_refused() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 1))
    x = torch.ones(4, 3)
    with pytest.raises(ConfigError, match="in place"):
        clipped_sum(clipped_sums(net, 1.0), net, lambda: net(x)[:, 0])
    layer = nn.Linear(3, 1)
    with pytest.raises(ConfigError, match="first dimension"):
        clipped_sum(clipped_sums(layer, 1.0), layer, lambda: layer(x[:1])[:, 0].expand(4))


def plan(**over: object) -> SgdPlan:
    fields = {
        "noise_multiplier": 1.0,
        "sampling_rate": 0.05,
        "steps": 20,
        "clip": 1.0,
        "learning_rate": 0.01,
        "expected_batch": 10.0,
    }
    return SgdPlan(**{**fields, **over})


def noise_of_steps(sigma: float, clip: float, n: int) -> np.ndarray:
    """What a step adds to an empty sum, in units of sigma * clip as the plan says."""
    module = nn.Linear(n // 2, 2, bias=False)
    optimizer = PrivateSgd(
        module, plan(noise_multiplier=sigma, clip=clip, steps=2), source=RandomSource(KEY)
    )
    seen = []
    for _ in range(2):
        optimizer.step([])
        seen.append(optimizer.gradient.numpy() * optimizer.plan.expected_batch)
    return np.concatenate(seen).astype(np.float64)


def p_value(x: np.ndarray, scale: float) -> float:
    """The lower of a two-sided test of the variance and one of the whole distribution."""
    total = np.square(x / scale).sum()
    tail = min(stats.chi2.cdf(total, len(x)), stats.chi2.sf(total, len(x)))
    return min(2 * tail, stats.kstest(x / scale, "norm").pvalue)


@pytest.mark.parametrize(("sigma", "clip"), [(1.0, 1.0), (2.5, 0.3)])
def test_the_noise_has_the_charged_scale(sigma: float, clip: float) -> None:
    x = noise_of_steps(sigma, clip, 100_000)
    assert p_value(x, sigma * clip) > FALSE_ALARM
    wrong = (0.95 * sigma * clip, 1.05 * sigma * clip)
    assert max(p_value(x, w) for w in wrong) < FALSE_ALARM
    assert p_value(0 * x, sigma * clip) < FALSE_ALARM
    assert len(np.unique(x)) > 0.99 * len(x)  # steps do not repeat each other's noise


def test_noise_differs_from_source_to_source() -> None:
    assert not torch.equal(RandomSource().normal(8), RandomSource().normal(8))
    assert repr(RandomSource(KEY)) == "RandomSource()"


def batch_sizes_fit(sizes: np.ndarray, n: int, rate: float) -> float:
    """p-value of mean and variance of Binomial(n, rate)."""
    mean, var = n * rate, n * rate * (1 - rate)
    z = (sizes.mean() - mean) / np.sqrt(var / len(sizes))
    spread = np.square(sizes - mean).sum() / var
    tail = min(stats.chi2.cdf(spread, len(sizes)), stats.chi2.sf(spread, len(sizes)))
    return float(min(2 * stats.norm.sf(abs(z)), 2 * tail))


def test_batches_are_poisson_sampled() -> None:
    source, n, rate = RandomSource(KEY), 1000, 0.05
    batches = [source.poisson_sample(n, rate) for _ in range(2000)]
    sizes = np.array([len(b) for b in batches])
    assert batch_sizes_fit(sizes, n, rate) > FALSE_ALARM
    assert batch_sizes_fit(np.full(2000, 50), n, rate) < FALSE_ALARM  # fixed-size batches
    assert batch_sizes_fit(sizes, n, 0.045) < FALSE_ALARM
    counts = np.bincount(np.concatenate(batches), minlength=n)
    z = (counts - 100) / np.sqrt(2000 * rate * (1 - rate))
    assert 2 * stats.norm.sf(np.abs(z).max()) * n > FALSE_ALARM  # every row alike
    assert all(len(np.unique(b)) == len(b) for b in batches[:50])
    assert len(source.poisson_sample(7, 1.0)) == 7
    assert len(source.poisson_sample(0, 0.5)) == 0


def test_empty_batches_take_noise_alone_and_weights_move() -> None:
    torch.manual_seed(0)
    module, codes = Dense(), rows(50).numpy().astype(np.int32)
    before = torch.cat([p.detach().flatten().clone() for p in module.parameters()])
    rare = plan(sampling_rate=1e-4, expected_batch=1.0, steps=5)
    trace, _ = private_steps(module, codes, rare, source=RandomSource(KEY))
    after = torch.cat([p.detach().flatten() for p in module.parameters()])
    assert trace.batches == (0, 0, 0, 0, 0)
    assert (before != after).all()


def test_training_lowers_the_loss_and_exactly_the_planned_steps_are_taken() -> None:
    torch.manual_seed(0)
    module, codes = Dense(), rows(200).numpy().astype(np.int32)
    first, adam = private_steps(module, codes, plan(learning_rate=0.05), source=RandomSource(KEY))
    second, _ = private_steps(module, codes, plan(), source=RandomSource(KEY), adam=adam)
    assert second.loss < first.loss / 2
    assert len(first.batches) == 20
    optimizer = PrivateSgd(module, plan(steps=1), source=RandomSource(KEY))
    optimizer.step([])
    with pytest.raises(ConfigError, match="steps are taken"):
        optimizer.step([])


def test_micro_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for size in (4096, 7):
        monkeypatch.setattr("twinweave.generators.dpsgd.MICRO_BATCH", size)
        torch.manual_seed(0)
        module = Dense()
        codes = rows(200).numpy().astype(np.int32)
        private_steps(module, codes, plan(sampling_rate=0.5), source=RandomSource(KEY))
        results.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


def test_inactive_entries_stay_and_get_no_noise() -> None:
    module, codes = Dense(), rows(50).numpy().astype(np.int32)
    flat = torch.cat([p.detach().flatten() for p in module.parameters()])
    active = np.arange(len(flat)) % 3 != 0
    private_steps(module, codes, plan(), source=RandomSource(KEY), active=active)
    after = torch.cat([p.detach().flatten() for p in module.parameters()])
    assert ((flat != after).numpy() == active).all()


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
        own.step(torch.cat([g.flatten() for g in grads]))
        reference.zero_grad()
        theirs.row_loss(codes).mean().backward()
        reference.step()
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)
    copy = FlatAdam(list(Dense().parameters()), learning_rate=0.01)
    copy.restore(own.state())
    assert all((copy.state()[k] == v).all() for k, v in own.state().items())
    with pytest.raises(ConfigError, match="another network"):
        copy.restore({k: v[:-1] for k, v in own.state().items()})


def test_positions_that_cancel_are_clipped_all_the_same() -> None:
    """Ghost norms of huge terms that nearly cancel: rounding must not pass for a small norm."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 64, bias=False)
    x = 1e4 * torch.randn(8, 1, 64).repeat(1, 4, 1)
    x[:, :2] += 1e-2 * torch.randn(8, 2, 64)
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None]
    out = [torch.zeros_like(layer.weight)]
    sums = clipped_sums(layer, 1.0)
    for i in range(8):
        out[0].zero_()
        sums.add(lambda i=i: (layer(x[i : i + 1]) * signs).sum(dim=(1, 2)), out)
        assert out[0].norm() <= 1
