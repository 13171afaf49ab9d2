"""Clipped sums: exact against one row at a time, bounded, and blind to rows that are not finite."""

from __future__ import annotations

from functools import partial
from typing import Any, cast, get_args

import pytest
import torch
from torch import Tensor, nn

from tests.generators.modules import Dense, Fragile, Sequences, rows
from tests.generators.oracle import ClippedSums, brute_force, worst_change
from twinweave.errors import ConfigError
from twinweave.generators.conf import GradientMode
from twinweave.generators.engine import layers
from twinweave.generators.engine.clipping import Clipping
from twinweave.generators.training import Losses

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook", "ignore:In CPU autocast")

MODES = get_args(GradientMode)
SEQUENCE_MODES = tuple(mode for mode in MODES if mode != "ghost")


@pytest.mark.parametrize("clip", [1e-3, 0.5, 1e6])
@pytest.mark.parametrize("kind", [Sequences, Dense])
def test_the_clipped_sum_is_the_brute_force_sum(kind: type[nn.Module], clip: float) -> None:
    torch.manual_seed(0)
    module, codes = cast(Any, kind()), rows(9)
    sums = ClippedSums(module, clip)
    got = sums(lambda: module.row_loss(codes))
    alone = [lambda i=i: module.row_loss(codes[i : i + 1]) for i in range(len(codes))]
    torch.testing.assert_close(got, brute_force(module, alone, clip), rtol=1e-4, atol=1e-6 * clip)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_brute_force_sum(mode: GradientMode) -> None:
    torch.manual_seed(0)
    module, codes = Dense(), rows(9)
    alone = [lambda i=i: module.row_loss(codes[i : i + 1]) for i in range(9)]
    expected = brute_force(module, alone, 3.0)
    sums = ClippedSums(module, 3.0, mode)
    for _ in range(2):  # nothing is left over from the step before
        got = sums(lambda: module.row_loss(codes))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_one_row_moves_the_sum_by_at_most_the_clip() -> None:
    torch.manual_seed(0)
    module, codes, clip = Sequences(), rows(12), 0.05
    sums = ClippedSums(module, clip)
    good = worst_change(lambda kept: sums(lambda: 1e3 * module.row_loss(codes[kept])), 12)
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

    sums = ClippedSums(module, 1.0)

    def batch_mean(kept: list[int]) -> Losses:
        lengths = inputs[kept].norm(dim=1)
        return lambda: module(inputs[kept])[:, 0] / lengths.mean() * 0.5

    broken = worst_change(lambda kept: sums(batch_mean(kept)), len(inputs))
    assert broken > 1.2


WRONG = {
    "input": (0, torch.nan),
    "input too large": (1, torch.inf),
    "activation": (3, torch.inf),
    "slope": (4, 0.0),
    "loss": (5, torch.nan),
}
"""Where a row of `Fragile` goes wrong: which of its numbers, and what stands there."""

N = 6
SOME_ROWS = ([2], [0, 3, 4], list(range(N)))


@pytest.mark.attack("nonfinite")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", WRONG)
@pytest.mark.parametrize("which", SOME_ROWS, ids=["one", "some", "all"])
def test_rows_that_are_not_finite_add_exactly_nothing(
    mode: GradientMode, where: str, which: list[int]
) -> None:
    """The sum is the other rows' alone, in every mode; of no row, it is zero to the bit."""
    torch.manual_seed(0)
    module, clip = Fragile(), 0.05
    batch = torch.cat([torch.randn(N, 3), torch.ones(N, 3)], dim=1)
    column, value = WRONG[where]
    batch[which, column] = value
    every = [lambda i=i: module.row_loss(batch[i : i + 1]) for i in range(N)]
    assert [bool(gradient_is_finite(module, row)) for row in every] == [
        i not in which for i in range(N)
    ]
    expected = brute_force(module, every, clip)
    sums = ClippedSums(module, clip, mode)
    for _ in range(2):  # nothing is left over from the step before
        got = sums(lambda: module.row_loss(batch))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-7)
    assert (len(which) < N) == bool(got.any())


@pytest.mark.broken("nonfinite")
@pytest.mark.parametrize("mode", SEQUENCE_MODES)
def test_multiplying_a_row_away_does_not_drop_it(
    mode: GradientMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero times what is not finite is no number: a bit of the row, without noise."""
    monkeypatch.setattr(Clipping, "kept", lambda self, values: values)
    torch.manual_seed(0)
    module, batch = Fragile(), torch.cat([torch.randn(N, 3), torch.ones(N, 3)], dim=1)
    batch[2, 0] = torch.nan
    sums = ClippedSums(module, 0.05, mode)
    got = sums(lambda: module.row_loss(batch))
    assert not got.isfinite().all()


@pytest.mark.attack("nonfinite")
@pytest.mark.parametrize("mode", SEQUENCE_MODES)
@pytest.mark.parametrize("which", SOME_ROWS, ids=["one", "some", "all"])
def test_sequences_that_are_not_finite_add_exactly_nothing(
    mode: GradientMode, which: list[int]
) -> None:
    torch.manual_seed(0)
    module = Sequences(padding=None)  # Opacus gives padding a gradient
    codes, scale = rows(N), torch.ones(N)
    scale[which] = torch.inf
    alone = [lambda i=i: module.row_loss(codes[i : i + 1]) * scale[i] for i in range(N)]
    expected = brute_force(module, alone, 0.5)
    sums = ClippedSums(module, 0.5, mode)
    got = sums(lambda: module.row_loss(codes) * scale)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def gradient_is_finite(module: nn.Module, row: Losses) -> Tensor:
    grads = torch.autograd.grad(row().sum(), list(module.parameters()))
    return torch.cat([g.flatten() for g in grads]).isfinite().all()


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
        nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False)),
        _Shared(),
        _Bare(),
    ],
)
def test_layers_that_cannot_be_clipped_are_refused(module: nn.Module) -> None:
    with pytest.raises(ConfigError):
        ClippedSums(module, 1.0)


class _InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(torch.tanh(self.first(x)))
        return self.second(hidden.mul_(2))[:, 0]


def test_in_place_changes_and_inputs_shared_by_rows_are_refused() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 1))
    x = torch.ones(4, 3)
    with pytest.raises(ConfigError, match="in place"):
        ClippedSums(net, 1.0)
    hidden = _InPlace()
    with pytest.raises(ConfigError, match="in place"):
        ClippedSums(hidden, 1.0)(lambda: hidden(x))
    layer = nn.Linear(3, 1)
    with pytest.raises(ConfigError, match="first dimension"):
        ClippedSums(layer, 1.0)(lambda: layer(x[:1])[:, 0].expand(4))


@pytest.mark.parametrize("width", [64, 8])
def test_positions_that_cancel_are_clipped_all_the_same(width: int) -> None:
    """Norms of huge terms that nearly cancel: rounding must not pass for a small norm."""
    torch.manual_seed(0)
    layer = nn.Linear(width, width, bias=False)
    x = 1e4 * torch.randn(8, 1, width).repeat(1, 4, 1)
    x[:, :2] += 1e-2 * torch.randn(8, 2, width)
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None]
    sums = ClippedSums(layer, 1.0)

    def loss(i: int) -> Tensor:
        return (layer(x[i : i + 1]) * signs).sum(dim=(1, 2))

    for i in range(8):
        assert sums(partial(loss, i)).norm() <= 1


def tiny(module: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = 2e-23 * module(x)[:, 0]
    return out


@pytest.mark.attack("nonfinite")
@pytest.mark.parametrize("mode", MODES)
def test_a_norm_whose_square_vanishes_is_seen_all_the_same(mode: Any) -> None:
    """Huge inputs and tiny slopes: in single precision the squared norm is 0, and nothing would
    be clipped. A server that chooses the weights could ask for a guessed row that way."""
    x = torch.full((1, 1), 1e19)
    for clip in (1e-6, 1e-4, 1.0):
        module = nn.Linear(1, 1, bias=False)
        found = ClippedSums(module, clip, mode)(partial(tiny, module, x))
        assert 0 <= float(found.double().norm()) <= clip * (1 + 1e-5)


def single(a: Tensor, g: Tensor) -> Tensor:
    return layers._single(a @ a.transpose(1, 2), g @ g.transpose(1, 2), a.shape[2], g.shape[2])


def truth(a: Tensor, g: Tensor) -> Tensor:
    wide = (a.double().transpose(1, 2) @ g.double()).square().sum(dim=(1, 2))
    assert wide.isfinite().all()
    return wide


@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
def test_norms_in_single_precision_are_near_and_never_below_the_truth(scale: float) -> None:
    torch.manual_seed(0)
    a, g = torch.randn(200, 14, 64) * scale, torch.randn(200, 14, 192) / scale
    exact, found = truth(a, g), single(a, g)
    assert (found >= exact).all()
    assert (found <= exact * (1 + 1e-3)).all()


@pytest.mark.parametrize("large", [1e4, 1e10, 1e30])
def test_no_norm_is_hidden_by_rounding_or_by_what_vanishes(large: float) -> None:
    """Positions that cancel; slopes whose products vanish; inputs whose products overflow."""
    torch.manual_seed(0)
    half = torch.randn(50, 7, 64)
    a = torch.cat([half, half + 1e-6 * torch.randn(50, 7, 64)], dim=1) * large
    g = torch.cat([torch.ones(50, 7, 64), -torch.ones(50, 7, 64)], dim=1) / large
    assert (single(a, g) >= truth(a, g)).all()
    assert (single(a, g * 1e-12) >= truth(a, g * 1e-12)).all()


def test_without_what_rounding_hides_norms_are_below_the_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        layers, "_long", lambda products, _: products.new_zeros(*products.shape[:2])
    )
    torch.manual_seed(0)
    a, g = torch.randn(200, 14, 64), torch.randn(200, 14, 192)
    assert (single(a, g) < truth(a, g)).any()
