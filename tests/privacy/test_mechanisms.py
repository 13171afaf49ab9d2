"""Noise has the scale that was charged. False alarms: below 1e-9 an assertion."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare, norm

from twinweave.errors import ConfigError
from twinweave.privacy.events import DiscreteGaussian, SharedBinomial
from twinweave.privacy.mechanisms import (
    discrete_gaussian,
    noise_scale,
    noise_variance,
    release_table,
)

FALSE_ALARM = 1e-9
N = 20_000


def p_value(noise: NDArray[np.int64], scale: float) -> float:
    """Two-sided p of mean 0 and variance scale**2 (normal approximation, Bonferroni of 2)."""
    n = noise.size
    mean = noise.mean() / scale * np.sqrt(n)
    spread = ((noise / scale) ** 2).sum() / np.sqrt(2 * n) - np.sqrt(n / 2)
    return float(min(1.0, 4 * norm.sf(max(abs(mean), abs(spread)))))


@pytest.mark.parametrize("scale", [2.5, 20.0, 16_000.0])
def test_noise_has_the_charged_scale(scale: float) -> None:
    noise = discrete_gaussian((200, N // 200), scale)
    assert noise.shape == (200, N // 200)
    assert noise.dtype == np.int64
    assert p_value(noise, scale) > FALSE_ALARM
    for wrong in (0.9 * scale, 1.1 * scale):
        assert p_value(noise, wrong) < FALSE_ALARM
    assert p_value(0 * noise, scale) < FALSE_ALARM
    assert p_value(noise + round(scale / 2), scale) < FALSE_ALARM


def test_noise_is_discrete_gaussian() -> None:
    scale, x = 1.7, np.arange(-6, 7)
    weights = np.exp(-0.5 * (np.arange(-40, 41) / scale) ** 2)
    expected = N * np.exp(-0.5 * (x / scale) ** 2) / weights.sum()
    noise = discrete_gaussian(N, scale)
    seen = np.array([(noise == k).sum() for k in x])
    rest, rest_expected = N - seen.sum(), N - expected.sum()
    observed = np.append(seen, rest)
    assert chisquare(observed, np.append(expected, rest_expected)).pvalue > FALSE_ALARM
    assert chisquare(np.roll(observed, 1), np.append(expected, rest_expected)).pvalue < FALSE_ALARM


def test_noise_is_added_to_the_exact_table() -> None:
    counts = np.arange(12, dtype=np.int32).reshape(3, 4) * 1000
    noisy = release_table(counts, 0.05)  # below 1e-80 a cell: no noise is ever seen
    np.testing.assert_array_equal(noisy, counts)
    assert noisy.dtype == np.int64
    assert release_table(np.zeros((0, 3), dtype=np.int64), 2.0).shape == (0, 3)
    assert (release_table(counts, 50.0) != release_table(counts, 50.0)).any()


@pytest.mark.parametrize(
    ("table", "scale"),
    [(np.zeros(3), 1.0), (np.zeros(3, int), 0.0), (np.zeros(3, int), float("nan"))],
)
def test_wrong_input_is_refused(table: NDArray[np.int64], scale: float) -> None:
    with pytest.raises(ConfigError):
        release_table(table, scale)


def test_variance_of_what_is_charged() -> None:
    assert noise_variance(SharedBinomial(coins=400)) == 100
    event = DiscreteGaussian(noise_multiplier=2.0, sensitivity=1024)
    assert noise_scale(event) == 2048
    assert noise_variance(event) == 2048**2
    weights = np.exp(-2.0 * np.arange(-9, 10) ** 2)
    exact = weights @ np.arange(-9, 10) ** 2 / weights.sum()
    assert noise_variance(DiscreteGaussian(noise_multiplier=0.5)) == pytest.approx(exact)
