"""Instruments: they never prove more than is true, but with the chance that they state."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom, norm

from twinweave.analysis.canaries import bounds
from twinweave.privacy.accountant import (
    delta_of_mechanisms,
    epsilon_of_mechanisms,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
)
from twinweave.privacy.events import DiscreteGaussian, Mechanism, PoissonSgd, SharedBinomial

DELTA = 1e-5
MU = gaussian_mu(1.0, DELTA)


def test_a_lower_bound_of_a_probability_inverts_the_binomial_tail() -> None:
    low = bounds.at_least(37, 100, 0.99)
    assert binom.sf(36, 100, low) == pytest.approx(0.01)
    assert bounds.at_least(0, 100, 0.99) == 0
    assert 0 < bounds.at_least(100, 100, 0.99) < 1


@pytest.mark.parametrize(("canaries", "least"), [(10_000, 0.75), (100_000, 0.9)])
def test_ideal_canaries_prove_most_of_the_claim(canaries: int, least: float) -> None:
    right = round(canaries * ndtr(MU / 2))
    proven = bounds.gaussian(right, canaries, delta=DELTA, confidence=0.99)
    assert least < proven < 1


def test_the_gaussian_bound_is_wrong_as_seldom_as_it_says() -> None:
    """At confidence .95, 20,000 times; the rate is above .055 with a chance below 1e-3."""
    rng = np.random.default_rng(1)
    right = rng.binomial(1_000, ndtr(MU / 2), 20_000)
    counts, times = np.unique(right, return_counts=True)
    wrong = [bounds.gaussian(int(c), 1_000, delta=DELTA, confidence=0.95) > 1 for c in counts]
    assert 0.03 < (np.array(wrong) @ times) / 20_000 <= 0.055


def test_no_observer_of_a_gaussian_beats_the_accuracy_that_is_inverted() -> None:
    """Of an observer who sees N(b, 1 / mu**2): Phi(mu / 2), at the best threshold there is."""
    thresholds = np.linspace(-3, 4, 701)
    right = (norm.cdf(thresholds * MU) + norm.sf((thresholds - 1) * MU)) / 2
    assert right.max() == pytest.approx(ndtr(MU / 2), abs=1e-6)
    assert (1 + gaussian_delta(MU, 0.0)) / 2 == pytest.approx(ndtr(MU / 2))


LITTLE: dict[str, list[Mechanism]] = {
    "epsilon 4": [DiscreteGaussian(noise_multiplier=1.0577)],
    "epsilon 8": [DiscreteGaussian(noise_multiplier=0.5587)],
    "two tables": [DiscreteGaussian(noise_multiplier=s) for s in (3.42, 1.12)],
    "coins": [SharedBinomial(coins=40)],
}


@pytest.mark.parametrize("claimed", LITTLE.values(), ids=LITTLE.keys())
def test_little_noise_on_whole_numbers_that_is_as_claimed_is_not_accused(
    claimed: list[Mechanism],
) -> None:
    """Of an observer who sees all that there is to see, many times."""
    n = 10_000_000
    right = round(n * (1 + delta_of_mechanisms(claimed, 0.0)) / 2)
    epsilon = epsilon_of_mechanisms(claimed, DELTA)

    def proven(right: int) -> float:
        return bounds.gaussian(right, n, claimed=claimed, delta=DELTA, confidence=0.9999)

    assert 0.97 * epsilon < proven(right) < epsilon
    assert proven(right + n // 500) > epsilon


def test_as_if_it_were_gaussian_little_noise_would_be_accused() -> None:
    claimed = LITTLE["epsilon 8"]
    right = round(10_000 * (1 + delta_of_mechanisms(claimed, 0.0)) / 2)
    as_gaussian = bounds.gaussian(right, 10_000, delta=DELTA, confidence=0.9999)
    assert as_gaussian > 1.1 * epsilon_of_mechanisms(claimed, DELTA)


@pytest.mark.parametrize("right", [5_300, 5_600])
def test_one_unsampled_step_is_a_gaussian_table(right: int) -> None:
    step = PoissonSgd(noise_multiplier=1 / MU, sampling_rate=1.0, steps=1)
    steps = bounds.sampled(right, 10_000, step, delta=DELTA, confidence=0.99)
    table = bounds.gaussian(right, 10_000, delta=DELTA, confidence=0.99)
    assert steps == pytest.approx(table, rel=0.01)


def test_steps_without_any_noise_are_told_apart_by_their_sampling_alone() -> None:
    steps = PoissonSgd(noise_multiplier=2.0, sampling_rate=0.1, steps=20)
    terms = {"delta": DELTA, "confidence": 0.99}
    assert bounds.sampled(9_900, 10_000, steps, **terms) == 64
    assert bounds.sampled(5_000, 10_000, steps, **terms) == 0


def test_the_bound_of_one_run_is_the_binomial_one_without_delta() -> None:
    """Steinke et al. 2023, theorem 5.2: at delta 0 guesses are right as randomised response is."""
    proven = bounds.one_run(700, 1_000, 1_000, delta=0.0, confidence=0.95)
    assert binom.sf(699, 1_000, 1 / (1 + np.exp(-proven))) == pytest.approx(0.05, rel=1e-2)
    with_delta = bounds.one_run(700, 1_000, 1_000, delta=1e-5, confidence=0.95)
    assert with_delta < proven
    assert bounds.one_run(500, 1_000, 1_000, delta=0.0, confidence=0.95) == 0


def test_one_run_proves_less_of_a_gaussian_than_independence_does() -> None:
    right = round(100_000 * ndtr(MU / 2))
    proven = bounds.one_run(right, 100_000, 100_000, delta=DELTA, confidence=0.95)
    assert 0.15 < proven < bounds.gaussian(right, 100_000, delta=DELTA, confidence=0.95)


@pytest.mark.parametrize(("threshold", "caught"), [(True, False), (False, True)])
def test_rates_see_a_discovery_without_threshold(threshold: bool, caught: bool) -> None:
    """A level that one user holds, or nobody, is named where its noisy count is above a threshold
    that one user passes with a chance of delta; or wherever anybody is. False alarm: 1e-4."""
    rng, trials = np.random.default_rng(3), 300

    def named(count: int) -> int:
        if not threshold:
            return trials * (count > 0)
        least = 1 + norm.isf(DELTA) / MU
        return int((count + rng.normal(0, 1 / MU, trials) > least).sum()) if count else 0

    found = bounds.rates((named(1), trials), (named(0), trials), delta=DELTA, confidence=0.9999)
    assert (found > gaussian_epsilon(MU, DELTA)) == caught
