"""Noise has the scale that was charged, and nothing is released that was not paid for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.statistics import assert_scale, p_binomial, p_counts, p_noise, p_variance, plausible
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
from twinweave.privacy.mechanisms import draw, gaussian_variance, noise_scale, release_table
from twinweave.privacy.noise import SPARE_COINS, DealtCoins, OwnCoins, OwnGaussian

N = 20_000
Release = Callable[[NDArray[np.int64], Event, Receipt], NDArray[np.int64]]


def event(mechanism: Mechanism, label: str = "table") -> Event:
    return Event(label=label, stage=Stage.MEASUREMENT, parties=("a",), mechanism=mechanism)


def gaussian(scale: float) -> Event:
    return event(DiscreteGaussian(noise_multiplier=scale))


def paid(*events: Event) -> Receipt:
    return Receipt(
        run="r",
        phase="query.share",
        request_hash="h",
        events=events,
        epsilon=1.0,
        fresh=True,
        guarded=True,
    )


def noise_of(mechanism: Mechanism, shape: int | tuple[int, ...], **rest: int) -> NDArray[np.int64]:
    return draw(shape, event(mechanism), paid(event(mechanism)), **rest)


@pytest.mark.parametrize("scale", [2.5, 20.0, 16_000.0])
def test_noise_has_the_charged_scale(scale: float) -> None:
    noise = noise_of(DiscreteGaussian(noise_multiplier=scale), (200, N // 200))
    assert noise.shape == (200, N // 200)
    assert noise.dtype == np.int64
    assert_scale(noise / scale, p_noise, 0.9, 1.1)
    assert not plausible(p_noise((noise + round(scale / 2)) / scale))


def test_noise_is_discrete_gaussian() -> None:
    scale, x = 1.7, np.arange(-6, 7)
    weights = np.exp(-0.5 * (np.arange(-40, 41) / scale) ** 2)
    expected = N * np.exp(-0.5 * (x / scale) ** 2) / weights.sum()
    noise = noise_of(DiscreteGaussian(noise_multiplier=scale), N)
    seen = np.array([(noise == k).sum() for k in x])
    observed, told = (np.append(c, N - c.sum()) for c in (seen, expected))
    assert plausible(p_counts(observed, told))
    assert not plausible(p_counts(np.roll(observed, 1), told))


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
    """The same draws are no binomial of two coins more or fewer."""
    heads = noise_of(SharedBinomial(coins=coins), 40_000) + coins // 2
    assert heads.min() >= 0
    assert heads.max() <= coins
    assert plausible(p_binomial(heads, coins))
    assert not plausible(p_binomial(heads, coins + 2))
    assert coins == 2 or not plausible(p_binomial(heads, coins - 2))


@pytest.mark.parametrize("sharers", [1, 4])
def test_many_coins_have_the_variance_of_a_quarter_each(sharers: int) -> None:
    """Of 20,001 coins the even number that no fewer than all parties together draw."""
    heads = noise_of(SharedBinomial(coins=20_001), 12_000, sharers=sharers)
    assert_scale(heads / np.sqrt(20_002 / sharers / 4), p_variance, 0.9, 1.1)


def test_coins_are_drawn_alike_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    key = os.urandom(32)
    whole = mechanisms._coins(100, 50, key)
    monkeypatch.setattr(mechanisms, "_CHUNK_WORDS", 13)
    np.testing.assert_array_equal(mechanisms._coins(100, 50, key), whole)


def test_variance_of_what_is_charged() -> None:
    mechanism = DiscreteGaussian(noise_multiplier=2.0, sensitivity=1024)
    assert noise_scale(mechanism) == 2048
    assert gaussian_variance(mechanism) == 2048**2
    weights = np.exp(-2.0 * np.arange(-9, 10) ** 2)
    exact = weights @ np.arange(-9, 10) ** 2 / weights.sum()
    assert gaussian_variance(DiscreteGaussian(noise_multiplier=0.5)) == pytest.approx(exact)


def test_variance_of_a_table_is_that_of_all_its_noise() -> None:
    assert OwnGaussian(noise_multiplier=2.0, sensitivity=1024).variance(2) == 2 * 2048**2
    assert DealtCoins(coins=400).variance(2) == (400 + SPARE_COINS) / 4


def test_what_a_reader_cannot_know_is_what_is_charged_for() -> None:
    """Coins of the unknown parties alone are at least the mechanism's, and few more."""
    for coins in (40, 41, 1001):
        for parties in (2, 3, 5, 30):
            for unknown in range(1, parties):
                noise = OwnCoins(coins=coins, unknown=unknown)
                each = noise.each
                assert noise.variance(parties) == parties * each / 4
                assert each % 2 == 0
                assert noise.mechanism.coins == coins <= unknown * each < coins + 2 * unknown


# --- a contract, and releases that break it ---------------------------------------------------


def violations(release: Release) -> list[str]:
    """What is wrong with a release of a table."""
    due, other = gaussian(20.0), event(DiscreteGaussian(noise_multiplier=20.0), "another table")
    weaker, theirs = gaussian(5.0), replace(due, parties=("b",))
    zeros = np.zeros(N // 8, dtype=np.int64)
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
    if not plausible(p_noise(release(zeros, due, paid(other, due)) / 20.0)):
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
