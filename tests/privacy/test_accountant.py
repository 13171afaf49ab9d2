"""The accountant against brute force, a second accountant and the analytic Gaussian."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, norm

from tests.privacy.rdp import epsilon_rdp
from twinweave.errors import ConfigError
from twinweave.privacy import accountant, losses
from twinweave.privacy.accountant import (
    dominated,
    epsilon,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
)
from twinweave.privacy.events import (
    DiscreteGaussian,
    Event,
    Mechanism,
    NonPrivate,
    PoissonSgd,
    SharedBinomial,
    Stage,
)
from twinweave.privacy.losses import loss_of

Masses = NDArray[np.float64]

DELTA = 1e-5
SGD = PoissonSgd(noise_multiplier=0.6, sampling_rate=0.1, steps=1)


def event(mechanism: Mechanism, label: str = "x") -> Event:
    return Event(label=label, stage=Stage.MEASUREMENT, parties=("a", "b"), mechanism=mechanism)


def events(*mechanisms: Mechanism) -> list[Event]:
    return [event(m) for m in mechanisms]


def gaussian(noise_multiplier: float, sensitivity: int = 1) -> DiscreteGaussian:
    return DiscreteGaussian(noise_multiplier=noise_multiplier, sensitivity=sensitivity)


# --- oracles: sums over every outcome ---------------------------------------------------------


def pair(mechanism: Mechanism, shift: int | None = None) -> tuple[Masses, Masses]:
    """Probabilities of every outcome without and with the user."""
    assert isinstance(mechanism, SharedBinomial | DiscreteGaussian)
    s = mechanism.sensitivity if shift is None else shift
    if isinstance(mechanism, SharedBinomial):
        x = np.arange(mechanism.coins + s + 1)
        return binom.pmf(x, mechanism.coins, 0.5), binom.pmf(x - s, mechanism.coins, 0.5)
    sigma = mechanism.noise_multiplier * mechanism.sensitivity
    reach = math.ceil(12 * sigma) + 2 * mechanism.sensitivity
    x = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    moved = np.exp(-0.5 * ((x - s) / sigma) ** 2)
    return weights / weights.sum(), moved / weights.sum()


def hockey_stick(p: Masses, q: Masses, eps: float) -> float:
    return float(np.maximum(p - math.exp(eps) * q, 0).sum())


def exact_epsilon(delta_of: Callable[[float], float], delta: float) -> float:
    return float(brentq(lambda e: delta_of(e) - delta, 0.0, 60.0, xtol=1e-10))


def sgd_epsilon_by_quadrature(mechanism: PoissonSgd, delta: float, *, both: bool = True) -> float:
    """One step, integrated over the noisy sum; `both` directions or adding a user alone."""
    q, s = mechanism.sampling_rate, mechanism.noise_multiplier
    x, width = np.linspace(-12 * s, 1 + 12 * s, 200_001, retstep=True)
    out = norm.pdf(x, 0, s) * width
    mixed = (1 - q) * out + q * norm.pdf(x, 1, s) * width
    pairs = [(out, mixed), (mixed, out)] if both else [(out, mixed)]
    return max(exact_epsilon(partial(hockey_stick, p, r), delta) for p, r in pairs)


@pytest.mark.parametrize(
    "mechanism",
    [
        gaussian(0.7),
        gaussian(3.0),
        gaussian(20.0),
        gaussian(2.5, 2),
        gaussian(1.3, 1024),
        SharedBinomial(coins=41),
        SharedBinomial(coins=400),
        SharedBinomial(coins=10_001),
        SharedBinomial(coins=90, sensitivity=2),  # what gives a user away is most of the loss
        SharedBinomial(coins=601, sensitivity=5),
        SharedBinomial(coins=40_000, sensitivity=64),
    ],
    ids=str,
)
def test_single_releases_match_brute_force(mechanism: Mechanism) -> None:
    p, q = pair(mechanism)
    exact = max(
        exact_epsilon(lambda e: hockey_stick(p, q, e), DELTA),
        exact_epsilon(lambda e: hockey_stick(q, p, e), DELTA),
    )
    assert exact * (1 - 1e-9) <= epsilon(events(mechanism), DELTA) <= exact * 1.01


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (gaussian(2.0), SharedBinomial(coins=60)),
        (SharedBinomial(coins=100), SharedBinomial(coins=100)),
        (gaussian(1.5, 3), gaussian(4.0)),
        (SharedBinomial(coins=700, sensitivity=7), SharedBinomial(coins=100)),
    ],
)
def test_two_releases_match_brute_force(first: Mechanism, second: Mechanism) -> None:
    (p1, q1), (p2, q2) = pair(first), pair(second)
    p, q = np.outer(p1, p2), np.outer(q1, q2)
    exact = exact_epsilon(lambda e: hockey_stick(p, q, e), DELTA)
    assert exact * (1 - 1e-9) <= epsilon(events(first, second), DELTA) <= exact * 1.01


@pytest.mark.parametrize(
    "mechanism", [gaussian(0.8, 12), SharedBinomial(coins=301, sensitivity=12)]
)
def test_full_sensitivity_is_the_worst_shift(mechanism: Mechanism) -> None:
    grid = np.linspace(-3, 3, 25)
    worst = [hockey_stick(*pair(mechanism), e) for e in grid]
    for shift in range(1, 12):
        p, q = pair(mechanism, shift)
        assert all(hockey_stick(p, q, e) <= w + 1e-15 for e, w in zip(grid, worst, strict=True))


def test_large_scales_use_the_same_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    k = np.arange(-9000.0, 9000.0, 7)
    summed = losses._DiscreteGaussianCdf(1000.0)(k)
    monkeypatch.setattr(losses, "_DIRECT_SIGMA", 1.0)
    np.testing.assert_allclose(losses._DiscreteGaussianCdf(1000.0)(k), summed, atol=1e-13)


@pytest.mark.parametrize(("coins", "sensitivity", "times"), [(400_000, 1, 100), (4**10, 64, 1)])
def test_large_binomials_are_gaussian(coins: int, sensitivity: int, times: int) -> None:
    """A million coins for a sum, as a run plans them, cost what their variance says."""
    many = events(*[SharedBinomial(coins=coins, sensitivity=sensitivity)] * times)
    analytic = gaussian_epsilon(2 * sensitivity * math.sqrt(times / coins), DELTA)
    assert analytic <= epsilon(many, DELTA) <= analytic * 1.001


@pytest.mark.parametrize(("multiplier", "times"), [(10, 100), (30, 100), (100, 150), (1000, 20)])
@pytest.mark.parametrize("sensitivity", [1, 1024])
def test_gaussian_compositions_match_the_analytic_gaussian(
    multiplier: float, times: int, sensitivity: int
) -> None:
    analytic = gaussian_epsilon(math.sqrt(times) / multiplier, DELTA)
    many = events(*[gaussian(multiplier, sensitivity)] * times)
    assert analytic * (1 - 1e-4) <= epsilon(many, DELTA) <= analytic * 1.001
    assert analytic < epsilon_rdp(many, DELTA) < 1.35 * analytic


def test_analytic_gaussian_known_answers() -> None:
    # Balle and Wang 2018, algorithm 1, at epsilon 1: sigma 3.7306 for delta 1e-5.
    assert 1 / gaussian_mu(1.0, 1e-5) == pytest.approx(3.73063, abs=1e-5)
    # Section 3: the total variation 2 Phi(mu / 2) - 1 at epsilon 0.
    assert gaussian_delta(1.0, 0.0) == pytest.approx(2 * norm.cdf(0.5) - 1, abs=1e-12)
    assert gaussian_epsilon(gaussian_mu(2.5, 1e-6), 1e-6) == pytest.approx(2.5, abs=1e-9)


MIXTURES: list[list[Mechanism]] = [
    [gaussian(8.0), SharedBinomial(coins=300), gaussian(12.0, 1024)],
    [gaussian(8.0), SharedBinomial(coins=50_000, sensitivity=16)],
    [PoissonSgd(noise_multiplier=1.1, sampling_rate=0.02, steps=400)],
    [
        *[gaussian(30 * 1.05 ** (i % 10)) for i in range(60)],
        *[SharedBinomial(coins=5000)] * 4,
        *[PoissonSgd(noise_multiplier=2.0, sampling_rate=0.01, steps=600)] * 2,
    ],
]


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("delta", [1e-5, 1e-7])
def test_second_accountant_agrees(mixture: list[Mechanism], delta: float) -> None:
    pld, renyi = epsilon(events(*mixture), delta), epsilon_rdp(events(*mixture), delta)
    assert pld <= renyi <= 1.35 * pld


@pytest.mark.parametrize(
    ("noise", "rate", "steps"), [(0.6, 0.1, 1), (1.1, 0.02, 100), (0.8, 0.003, 40), (2.0, 1.0, 3)]
)
def test_sampled_steps_cost_what_dp_accounting_says(noise: float, rate: float, steps: int) -> None:
    """Its own distribution of a step, which shares the composition alone with ours."""
    mechanism = PoissonSgd(noise_multiplier=noise, sampling_rate=rate, steps=steps)
    theirs = from_gaussian_mechanism(
        noise, value_discretization_interval=1e-3, sampling_prob=rate
    ).self_compose(steps)
    for delta in (1e-5, 1e-9):
        exact = theirs.get_epsilon_for_delta(delta)
        assert epsilon(events(mechanism), delta) == pytest.approx(exact, rel=2e-3)


# --- what stands for releases that are chosen later -------------------------------------------


def by(noise_multiplier: float) -> DiscreteGaussian:
    return gaussian(noise_multiplier, 1024)


SETS: dict[str, list[Mechanism]] = {
    "Gaussians": [gaussian(60 * 1.05 ** (i % 3)) for i in range(30)],
    "sums": [gaussian(10.0, 1024)] * 4,
    "coins": [SharedBinomial(coins=5000)] * 10,
    "sums with coins": [SharedBinomial(coins=900_000, sensitivity=64)] * 2,
    "both": [*[gaussian(20.0)] * 8, *[SharedBinomial(coins=1000)] * 2],
}


@pytest.mark.parametrize("name", SETS)
def test_one_release_stands_for_many_that_show_less(name: str) -> None:
    """At every delta, alone and beside others; and hardly less than it may."""
    chosen: Any = SETS[name]
    mu = math.sqrt(sum(loss_of(m).mu ** 2 for m in chosen))
    stands, less = by(0.99 / mu), by(1.005 / mu)
    assert dominated(chosen, stands)
    assert not dominated(chosen, less)
    for beside in ([], [SGD], [SharedBinomial(coins=60)]):
        for delta in (1e-3, 1e-6, 1e-9):
            shown = epsilon(events(*chosen, *beside), delta)
            assert shown <= epsilon(events(stands, *beside), delta) * (1 + 1e-6)


def test_equal_epsilon_at_one_delta_is_not_enough() -> None:
    """Coins may give a user away with 2**-coins, and a Gaussian never."""
    coins = SharedBinomial(coins=45)
    cost = epsilon(events(coins), DELTA)
    equal = by(0.999 / gaussian_mu(cost, DELTA))
    assert cost <= epsilon(events(equal), DELTA)
    assert not dominated([coins], equal)
    assert not dominated([SharedBinomial(coins=20)], by(0.1))
    few = SharedBinomial(coins=300, sensitivity=8)  # its tail is worse than its variance says
    assert not dominated([few], by(0.99 / loss_of(few).mu))
    assert dominated([], by(100.0))


# --- a contract, and accountants that break it ------------------------------------------------


def violations(account: Callable[[Sequence[Event], float], float]) -> list[str]:
    """What is wrong with an accountant, by comparison with exact figures."""
    wrong = []
    if account(events(SGD), DELTA) < sgd_epsilon_by_quadrature(SGD, DELTA) * (1 - 1e-6):
        wrong.append("a direction of adjacency is missing")
    for times in (1, 2, 7):
        exact = gaussian_epsilon(math.sqrt(times) / 9, DELTA)
        if account(events(*[gaussian(9.0, 64)] * times), DELTA) < exact * (1 - 1e-4):
            wrong.append("an event is missing")
    parts: list[Mechanism] = [
        gaussian(9.0),
        SharedBinomial(coins=324),
        PoissonSgd(**vars(SGD) | {"steps": 5}),
    ]
    for i in range(3):
        fewer = [m for j, m in enumerate(parts) if j != i]
        if account(events(*parts), DELTA) <= account(events(*fewer), DELTA) * 1.001:
            wrong.append("a kind of event is missing")
    if account(events(gaussian(9.0), NonPrivate(reason="test")), DELTA) < math.inf:
        wrong.append("a release without guarantee is missing")
    return wrong


def epsilon_without(kind: type[Mechanism], es: Sequence[Event], delta: float) -> float:
    return epsilon([e for e in es if not isinstance(e.mechanism, kind)], delta)


def test_accountant_keeps_its_contract() -> None:
    assert violations(epsilon) == []
    assert violations(epsilon_rdp) == []


def test_broken_accountants_are_caught() -> None:
    def add_only(es: Sequence[Event], delta: float) -> float:
        if [e.mechanism for e in es] != [SGD]:
            return epsilon(es, delta)
        return sgd_epsilon_by_quadrature(SGD, delta, both=False)

    def distinct_only(es: Sequence[Event], delta: float) -> float:
        return epsilon([event(m) for m in {e.mechanism for e in es}], delta)

    assert violations(add_only) == ["a direction of adjacency is missing"]
    assert "an event is missing" in violations(distinct_only)
    assert "an event is missing" in violations(lambda es, d: epsilon(es[1:], d))
    assert "an event is missing" in violations(lambda es, d: epsilon(es[:-1], d))
    for kind in (DiscreteGaussian, SharedBinomial, PoissonSgd, NonPrivate):
        assert violations(partial(epsilon_without, kind))


@settings(max_examples=25)
@given(
    st.lists(st.integers(20, 200).map(lambda n: gaussian(n / 10)), min_size=1, max_size=5),
    st.integers(200, 5000).map(lambda n: SharedBinomial(coins=n)),
)
def test_more_releases_cost_more_in_any_order(first: list[Mechanism], other: Mechanism) -> None:
    few, many = epsilon(events(*first), DELTA), epsilon(events(*first, other), DELTA)
    assert few * (1 - 1e-4) <= many <= few + epsilon(events(other), DELTA) + 0.05 * many
    assert epsilon(events(other, *reversed(first)), DELTA) == many
    assert epsilon(events(*first, other), DELTA / 10) > many


def test_edges() -> None:
    assert epsilon([], DELTA) == 0.0
    assert epsilon_rdp([], DELTA) == 0.0
    assert epsilon(events(SharedBinomial(coins=3)), DELTA) == math.inf  # 1/8 gives a user away
    assert epsilon(events(gaussian(0.001)), DELTA) == math.inf
    for shift in (3, 9, 400):  # at a shift beyond its coins nothing is hidden
        many = SharedBinomial(coins=9, sensitivity=shift)
        assert epsilon(events(many), DELTA) == math.inf
    for delta in (0.0, 1.0, -1e-5, 9e-11, math.nan):
        with pytest.raises(ConfigError):
            epsilon(events(gaussian(3.0)), delta)


@pytest.mark.parametrize("coins", [1, 2, 3])
def test_of_few_coins_nothing_is_hidden(coins: int) -> None:
    """One outcome in 2**coins shows the count for certain."""
    assert epsilon(events(SharedBinomial(coins=coins)), DELTA) == math.inf


@pytest.mark.parametrize("noise", [1e-300, 9e-10])
def test_noise_whose_square_vanishes_is_refused_by_name(noise: float) -> None:
    """A training plan with 1e-300 ended a party in an OverflowError."""
    with pytest.raises(ConfigError, match="noise_multiplier"):
        PoissonSgd(noise_multiplier=noise, sampling_rate=0.1, steps=1)
    with pytest.raises(ConfigError, match="noise_multiplier"):
        DiscreteGaussian(noise_multiplier=noise)
    least = [PoissonSgd(noise_multiplier=1e-9, sampling_rate=0.1, steps=1)]
    assert accountant.epsilon_of_mechanisms(least, 1e-5) > 100
