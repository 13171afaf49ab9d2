"""Shared coins: exact distribution of the noise, and what each party alone can say about it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy import stats

from twinweave.errors import ProtocolError
from twinweave.protocols.keystream import Keystream, hkdf
from twinweave.protocols.products import coins as coinage
from twinweave.protocols.products.coins import (
    coin_words,
    deal_coins,
    first_noise,
    modulus_mask,
    second_noise,
    word_bytes,
)

FALSE_ALARM = 1e-9  # per assertion
SECRET, SIGNS = b"\x07" * 32, b"\x09" * 32
WIDTHS = [1, 2, 3, 4]


def shares(cells, coins, width, secret=SECRET, signs=SIGNS):
    seed, words = deal_coins(cells, coins, width, secret)
    first = first_noise(seed, Keystream(signs), cells, coins)
    return first, second_noise(words, Keystream(signs))


def heads(cells, coins, width=3, secret=SECRET, signs=SIGNS):
    first, second = shares(cells, coins, width, secret, signs)
    return ((first + second) & modulus_mask(width)).astype(np.int64)


def dealt_bits(cells, coins, width, secret=SECRET):
    """The dealer's k_i, from both parties' shares."""
    seed, words = deal_coins(cells, coins, width, secret)
    wide = np.zeros((cells, coins, 4), np.uint8)
    wide[..., :width] = words
    first = Keystream(seed).words32(cells * coins).reshape(cells, coins)
    return (first + wide.view("<u4")[..., 0]) & modulus_mask(width)


def p_binomial(sample, coins):
    """p-value of a chi-square test of a sample against Binomial(coins, 1/2), tails pooled."""
    values = np.arange(coins + 1)
    expected = stats.binom.pmf(values, coins, 0.5) * len(sample)
    keep = expected >= 10
    observed = np.bincount(np.clip(sample, 0, coins), minlength=coins + 1)
    table = np.array(
        [[*observed[keep], observed[~keep].sum()], [*expected[keep], expected[~keep].sum()]]
    )
    table = table[:, table[1] > 1e-6]
    return stats.chisquare(table[0], table[1] * table[0].sum() / table[1].sum()).pvalue


@pytest.mark.parametrize("coins", [1, 7, 64, 101])
def test_noise_is_binomial(coins):
    sample = heads(20_000, coins)
    assert p_binomial(sample, coins) > FALSE_ALARM
    if coins > 50:
        for wrong in (coins - 10, coins + 10):
            assert p_binomial(sample, wrong) < FALSE_ALARM
        assert p_binomial(0 * sample + coins // 2, coins) < FALSE_ALARM


def test_mean_and_variance():
    cells, coins = 20_000, 400
    sample = heads(cells, coins) - coins / 2
    z = stats.norm.isf(FALSE_ALARM / 2)
    assert abs(sample.mean()) < z * np.sqrt(coins / 4 / cells)
    assert abs(sample.var() / (coins / 4) - 1) < z * np.sqrt(2 / cells)
    assert abs(np.corrcoef(sample[1:], sample[:-1])[0, 1]) < z / np.sqrt(cells)


@pytest.mark.parametrize("width", WIDTHS)
def test_coins_are_exactly_the_xor(width):
    cells, coins = 37, 5
    signs = Keystream(SIGNS).bits(cells * coins).reshape(cells, coins)
    bits = dealt_bits(cells, coins, width)
    assert set(np.unique(bits)) <= {0, 1}
    np.testing.assert_array_equal(heads(cells, coins, width), (bits ^ signs).sum(axis=1))


def test_chunks_change_nothing(monkeypatch):
    whole = shares(100, 9, 2)
    monkeypatch.setattr(coinage, "_CHUNK_WORDS", 1)
    for a, b in zip(whole, shares(100, 9, 2), strict=True):
        np.testing.assert_array_equal(a, b)


def p_unpredictable(samples, coins):
    """Chi-square of each cell's mean over runs: small when what stayed fixed predicts it.

    samples: (runs, cells), one run after another with an adversary's knowledge unchanged.
    """
    runs, cells = samples.shape
    z2 = (samples - coins / 2).sum(axis=0) ** 2 / (runs * coins / 4)
    return stats.chi2.sf(z2.sum(), cells)


def test_noise_stays_uniform_to_each_adversary_alone():
    """Fix what one adversary knows, redraw the rest: the noise is Binomial all the same."""
    cells, coins, runs = 400, 64, 50
    keys = [hkdf(SECRET, "redraw", str(i)) for i in range(runs)]
    dealer_fixed = np.array([heads(cells, coins, signs=key) for key in keys])
    signs_fixed = np.array([heads(cells, coins, secret=key) for key in keys])
    for samples in (dealer_fixed, signs_fixed):
        assert p_binomial(samples.ravel(), coins) > FALSE_ALARM
        assert p_unpredictable(samples, coins) > FALSE_ALARM


def test_without_signs_the_dealer_would_know_the_noise(monkeypatch):
    """The broken variant that the test above catches."""
    monkeypatch.setattr(coinage, "_flips", lambda signs, n: np.zeros(n, np.uint32))
    cells, coins = 400, 64
    keys = [hkdf(SECRET, "redraw", str(i)) for i in range(50)]
    dealer_fixed = np.array([heads(cells, coins, signs=key) for key in keys])
    np.testing.assert_array_equal(dealer_fixed[0], dealt_bits(cells, coins, 3).sum(axis=1))
    assert p_unpredictable(dealer_fixed, coins) < FALSE_ALARM


@pytest.mark.parametrize("width", WIDTHS)
def test_a_partys_words_are_uniform(width):
    _, words = deal_coins(300, 200, width, SECRET)
    for byte in range(width):
        counts = np.bincount(words[..., byte].ravel(), minlength=256)
        assert stats.chisquare(counts).pvalue > FALSE_ALARM
    bits = dealt_bits(300, 200, width).ravel().astype(bool)
    low = words[..., 0].ravel()
    table = np.stack(
        [np.bincount(low[bits], minlength=256), np.bincount(low[~bits], minlength=256)]
    )
    assert stats.chi2_contingency(table).pvalue > FALSE_ALARM


def test_high_bits_depend_on_the_signs_and_must_be_dropped():
    first, second = shares(200, 64, 2)
    excess = (first + second) & ~modulus_mask(2)
    assert excess.any()  # why open_shares drops them


def test_known_answer():
    """Frozen from this construction; a change breaks parties of different versions."""
    seed, words = deal_coins(3, 10, 3, SECRET)
    digest = hashlib.sha256(seed + words.tobytes()).hexdigest()
    assert digest == "e6c3abd51fadadd100d109a61a7465c8449d3e1ea3d649481949c0bf99faf392"
    assert heads(3, 10).tolist() == [6, 2, 2]


def test_words_hold_count_and_coins():
    assert coin_words(5_000, 2_000) == 10_000_000
    assert word_bytes(200, 55) == 1
    assert word_bytes(200, 56) == 2
    assert word_bytes(128_000, 2_000) == 3
    assert word_bytes((1 << 32) - 2, 1) == 4
    for bad in [((1 << 32) - 1, 1), (0, 1), (5, 0)]:
        with pytest.raises(ProtocolError):
            word_bytes(*bad)


@pytest.mark.parametrize("words", [np.zeros((2, 3)), np.zeros((2, 3, 5), np.uint8)])
def test_malformed_words_are_refused(words):
    with pytest.raises(ProtocolError):
        second_noise(words, Keystream(SIGNS))
