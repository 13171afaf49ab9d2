"""The checks of the suite, checked: uniform p-values for right noise, none for wrong noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests import statistics
from tests.statistics import assert_scale, plausible

Draw = Callable[[np.random.Generator], float]

RIGHT: dict[str, Draw] = {
    "mean": lambda rng: statistics.p_mean(rng.standard_normal(50)),
    "variance": lambda rng: statistics.p_variance(rng.standard_normal(50)),
    "normal": lambda rng: statistics.p_normal(rng.standard_normal(50)),
    "mean of": lambda rng: statistics.p_mean_of(rng.exponential(size=4000), 1.0),
    "counts": lambda rng: statistics.p_counts(
        rng.multinomial(4000, [0.5, 0.3, 0.199, 0.001]), [0.5, 0.3, 0.199, 0.001]
    ),
    "levels": lambda rng: statistics.p_levels(rng.integers(0, 16, 2000), 16),
    "bytes": lambda rng: statistics.p_bytes(rng.integers(0, 2**32, 2000, dtype=np.uint32)),
    "binomial": lambda rng: statistics.p_binomial(rng.binomial(60, 0.5, 2000), 60),
    "share": lambda rng: statistics.p_share(int(rng.binomial(100_000, 0.3)), 100_000, 0.3),
    "independent": lambda rng: statistics.p_independent(
        [rng.multinomial(n, [0.2, 0.3, 0.5]) for n in (700, 900)]
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_p_values_of_right_draws_are_uniform(name: str) -> None:
    rng = np.random.default_rng(3)
    found = np.array([RIGHT[name](rng) for _ in range(400)])
    assert plausible(statistics.p_levels(np.minimum(found * 4, 3).astype(int), 4))
    assert np.mean(found < 0.5) > 0.3  # and are no constant


def test_few_values_have_conservative_p_values() -> None:
    """Too few for a chi-square: the exact bound never says less than the truth."""
    rng = np.random.default_rng(9)
    found = np.array([statistics.p_levels(rng.integers(0, 16, 100), 16) for _ in range(1000)])
    for level in (0.5, 0.1, 0.01):
        assert plausible(stats.binom.sf((found <= level).sum() - 1, found.size, level))


def noise(size: int = 4000) -> NDArray[np.float64]:
    return np.random.default_rng(5).standard_normal(size)


@pytest.mark.parametrize("check", [statistics.p_variance, statistics.p_noise, statistics.p_normal])
def test_wrong_scales_both_ways_and_no_noise_are_alarms(
    check: Callable[[NDArray[np.float64]], float],
) -> None:
    assert_scale(noise(), check, 0.8, 1.25)
    with pytest.raises(AssertionError):
        assert_scale(1.25 * noise(), check, 0.5, 2.0)
    with pytest.raises(AssertionError, match="both ways"):
        assert_scale(noise(), check, 0.5, 0.8)


def test_a_mean_alone_passes_a_sampler_that_adds_none() -> None:
    """Why `assert_scale` asks for no noise at all."""
    with pytest.raises(AssertionError):
        assert_scale(noise(), statistics.p_mean, 0.5, 2.0)


def test_wrong_counts_are_alarms() -> None:
    rng = np.random.default_rng(7)
    heads = rng.binomial(60, 0.5, 20_000)
    assert plausible(statistics.p_binomial(heads, 60))
    assert not plausible(statistics.p_binomial(heads, 56))
    assert not plausible(statistics.p_binomial(heads, 64))
    assert not plausible(statistics.p_binomial(0 * heads + 30, 60))
    assert statistics.p_counts([5, 0, 1], [5, 1, 0]) == 0.0
    assert not plausible(statistics.p_levels(rng.integers(0, 15, 4000), 16))
    assert not plausible(statistics.p_levels(np.zeros(20, int), 16))
    assert not plausible(statistics.p_levels(np.full(4000, 16), 16))
    assert not plausible(statistics.p_bytes(rng.integers(0, 2**28, 4000, dtype=np.uint32)))
    assert not plausible(statistics.p_share(3500, 10_000, 0.3))
    assert not plausible(statistics.p_noise(noise() + 0.2))
    assert not plausible(statistics.p_mean_of(noise() + 0.2, 0.0))
    assert plausible(statistics.p_largest(noise()))
    assert not plausible(statistics.p_largest(np.append(noise(), 8.0)))
    assert plausible(statistics.p_between(3000, 10_000, 0.29, 0.31))
    assert not plausible(statistics.p_between(2500, 10_000, 0.29, 0.31))
    assert not plausible(statistics.p_between(3500, 10_000, 0.29, 0.31))
    halves = [rng.multinomial(4000, p) for p in ([0.5, 0.5], [0.4, 0.6])]
    assert not plausible(statistics.p_independent(halves))


@pytest.mark.parametrize("p_value", [float("nan"), -0.1, 1.5])
def test_what_is_no_p_value_is_refused(p_value: float) -> None:
    with pytest.raises(AssertionError):
        plausible(p_value)
