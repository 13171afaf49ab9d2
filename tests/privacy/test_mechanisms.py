"""Noise has the scale that was charged. False alarms: below 1e-9 an assertion."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, chi2, chisquare, norm

from twinweave.errors import ConfigError, ProtocolError
from twinweave.privacy import mechanisms
from twinweave.privacy.events import (
    DiscreteGaussian,
    Event,
    Mechanism,
    PoissonSgd,
    SharedBinomial,
    Stage,
)
from twinweave.privacy.guard import Receipt
from twinweave.privacy.mechanisms import draw, noise_scale, noise_variance, release_table

FALSE_ALARM = 1e-9
N = 20_000
Release = Callable[[NDArray[np.int64], Event, Receipt], NDArray[np.int64]]


def event(mechanism: Mechanism, label: str = "table") -> Event:
    return Event(label=label, stage=Stage.MEASUREMENT, parties=("a",), mechanism=mechanism)


def gaussian(scale: float) -> Event:
    return event(DiscreteGaussian(noise_multiplier=scale))


def paid(*events: Event) -> Receipt:
    return Receipt(
        run="r", phase="query.share", request_hash="h", events=events, epsilon=1.0, fresh=True
    )


def noise_of(mechanism: Mechanism, shape: int | tuple[int, ...], **rest: int) -> NDArray[np.int64]:
    return draw(shape, event(mechanism), paid(event(mechanism)), **rest)


def p_value(noise: NDArray[np.int64], scale: float) -> float:
    """Two-sided p of mean 0 and variance scale**2 (normal approximation, Bonferroni of 2)."""
    n = noise.size
    mean = noise.mean() / scale * np.sqrt(n)
    spread = ((noise / scale) ** 2).sum() / np.sqrt(2 * n) - np.sqrt(n / 2)
    return float(min(1.0, 4 * norm.sf(max(abs(mean), abs(spread)))))


@pytest.mark.parametrize("scale", [2.5, 20.0, 16_000.0])
def test_noise_has_the_charged_scale(scale: float) -> None:
    noise = noise_of(DiscreteGaussian(noise_multiplier=scale), (200, N // 200))
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
    noise = noise_of(DiscreteGaussian(noise_multiplier=scale), N)
    seen = np.array([(noise == k).sum() for k in x])
    rest, rest_expected = N - seen.sum(), N - expected.sum()
    observed = np.append(seen, rest)
    assert chisquare(observed, np.append(expected, rest_expected)).pvalue > FALSE_ALARM
    assert chisquare(np.roll(observed, 1), np.append(expected, rest_expected)).pvalue < FALSE_ALARM


def test_noise_is_added_to_the_exact_table() -> None:
    counts = np.arange(12, dtype=np.int32).reshape(3, 4) * 1000
    little, much = gaussian(0.05), gaussian(50.0)
    noisy = release_table(counts, little, paid(little))  # below 1e-80 a cell: never seen
    np.testing.assert_array_equal(noisy, counts)
    assert noisy.dtype == np.int64
    assert release_table(np.zeros((0, 3), dtype=np.int64), much, paid(much)).shape == (0, 3)
    first, second = (release_table(counts, much, paid(much)) for _ in range(2))
    assert (first != second).any()


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ConfigError):
        release_table(np.zeros(3), gaussian(1.0), paid(gaussian(1.0)))  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="no noise on a table"):
        noise_of(PoissonSgd(noise_multiplier=1.0, sampling_rate=0.1, steps=3), 3)


# --- coins ------------------------------------------------------------------------------------


@pytest.mark.parametrize("coins", [2, 10, 16, 18, 48])
def test_coins_are_binomial(coins: int) -> None:
    """Chi-square over the heads; the same draws are no binomial of two coins more or fewer."""
    heads = noise_of(SharedBinomial(coins=coins), 40_000) + coins // 2
    assert heads.min() >= 0
    assert heads.max() <= coins

    def fit(n: int) -> float:
        expected = binom.pmf(np.arange(coins + 3), n, 0.5) * heads.size
        seen = np.bincount(heads, minlength=coins + 3)
        if (seen[expected < 1e-12] > 0).any():
            return 0.0
        rare = expected < 5
        seen = np.append(seen[~rare], seen[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
        return float(chisquare(seen[expected > 0], expected[expected > 0]).pvalue)

    assert fit(coins) > FALSE_ALARM
    assert fit(coins + 2) < FALSE_ALARM
    assert coins == 2 or fit(coins - 2) < FALSE_ALARM


@pytest.mark.parametrize("sharers", [1, 4])
def test_many_coins_have_the_variance_of_a_quarter_each(sharers: int) -> None:
    """Of 20,001 coins the even number that no fewer than all parties together draw."""
    heads = noise_of(SharedBinomial(coins=20_001), 3000, sharers=sharers)
    z2 = float(heads @ heads) / (20_002 / sharers / 4)
    p = 2 * min(chi2.cdf(z2, 3000), chi2.sf(z2, 3000))
    assert p > FALSE_ALARM
    for wrong in (0.8, 1.25):
        assert 2 * min(chi2.cdf(z2 * wrong, 3000), chi2.sf(z2 * wrong, 3000)) < 1e-9


def test_coins_are_drawn_alike_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    key = os.urandom(32)
    whole = mechanisms._coins(100, 50, key)
    monkeypatch.setattr(mechanisms, "_CHUNK_WORDS", 13)
    np.testing.assert_array_equal(mechanisms._coins(100, 50, key), whole)


def test_variance_of_what_is_charged() -> None:
    assert noise_variance(SharedBinomial(coins=400)) == 100
    mechanism = DiscreteGaussian(noise_multiplier=2.0, sensitivity=1024)
    assert noise_scale(mechanism) == 2048
    assert noise_variance(mechanism) == 2048**2
    weights = np.exp(-2.0 * np.arange(-9, 10) ** 2)
    exact = weights @ np.arange(-9, 10) ** 2 / weights.sum()
    assert noise_variance(DiscreteGaussian(noise_multiplier=0.5)) == pytest.approx(exact)


# --- a contract, and releases that break it ---------------------------------------------------


def violations(release: Release) -> list[str]:
    """What is wrong with a release of a table."""
    due, other = gaussian(20.0), event(DiscreteGaussian(noise_multiplier=20.0), "another table")
    weaker, theirs = gaussian(5.0), replace(due, parties=("b",))
    zeros = np.zeros(N, dtype=np.int64)
    wrong = []
    for finding, receipt in {
        "releases what was not paid for": paid(),
        "releases on another table's receipt": paid(other),
        "releases on a receipt for less noise": paid(
            replace(due, mechanism=gaussian(40.0).mechanism)
        ),
        "releases on a receipt for more noise": paid(weaker),
        "releases on another party's receipt": paid(theirs),
        "releases twice on one receipt": replace(paid(due), fresh=False),
    }.items():
        try:
            release(zeros, due, receipt)
        except ProtocolError:
            continue
        wrong.append(finding)
    if p_value(release(zeros, due, paid(other, due)), 20.0) < FALSE_ALARM:
        wrong.append("draws other noise than was paid for")
    return wrong


def test_a_release_keeps_its_contract() -> None:
    assert violations(release_table) == []


def test_broken_releases_are_caught() -> None:
    def without(counts: NDArray[np.int64], due: Event, receipt: Receipt) -> NDArray[np.int64]:
        return release_table(counts, due, paid(due))

    def any_receipt(counts: NDArray[np.int64], due: Event, receipt: Receipt) -> NDArray[np.int64]:
        return release_table(counts, due, replace(receipt, events=(due,)))

    def stale(counts: NDArray[np.int64], due: Event, receipt: Receipt) -> NDArray[np.int64]:
        return release_table(counts, due, replace(receipt, fresh=True))

    def by_label(counts: NDArray[np.int64], due: Event, receipt: Receipt) -> NDArray[np.int64]:
        same = next((e for e in receipt.events if e.label == due.label), due)
        return release_table(counts, same, receipt)

    def less(counts: NDArray[np.int64], due: Event, receipt: Receipt) -> NDArray[np.int64]:
        return (release_table(counts, due, receipt) / 1.2).astype(np.int64)

    everything = violations(without)
    assert len(everything) == 6
    assert "releases on another table's receipt" in violations(any_receipt)
    assert violations(stale) == ["releases twice on one receipt"]
    assert "releases on a receipt for less noise" in violations(by_label)
    assert violations(less) == ["draws other noise than was paid for"]
