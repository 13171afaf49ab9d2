"""Shared coins: exact distribution of the noise, and what each party alone can say about it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tests.statistics import p_binomial, p_independent, p_levels, p_mean, p_variance, plausible
from twinweave.errors import ProtocolError
from twinweave.protocols.keystream import Keystream, hkdf
from twinweave.protocols.products import coins as coinage
from twinweave.protocols.products.coins import Coins, deal, first_heads, second_heads

SECRET, SIGNS = b"\x07" * 32, b"\x09" * 32
WIDTHS = [1, 2, 3, 4]


def shares(cells, each, width, secret=SECRET, signs=SIGNS):
    coins = Coins(cells=cells, each=each, width=width)
    seed, words = deal(coins, secret)
    first = first_heads(coins, seed, Keystream(signs))
    return first, second_heads(coins, words, Keystream(signs))


def heads(cells, coins, width=3, secret=SECRET, signs=SIGNS):
    first, second = shares(cells, coins, width, secret, signs)
    return ((first + second) & low_bits(width)).astype(np.int64)


def low_bits(width):
    return Coins(cells=1, each=1, width=width).low_bits


def dealt_bits(cells, coins, width, secret=SECRET):
    """The dealer's k_i, from both parties' shares."""
    seed, words = deal(Coins(cells=cells, each=coins, width=width), secret)
    wide = np.zeros((cells, coins, 4), np.uint8)
    wide[..., :width] = words
    first = Keystream(seed).words32(cells * coins).reshape(cells, coins)
    return (first + wide.view("<u4")[..., 0]) & low_bits(width)


@pytest.mark.parametrize("coins", [1, 7, 64, 101])
def test_noise_is_binomial(coins):
    sample = heads(20_000, coins)
    assert plausible(p_binomial(sample, coins))
    if coins > 50:
        for wrong in (coins - 10, coins + 10):
            assert not plausible(p_binomial(sample, wrong))
        assert not plausible(p_binomial(0 * sample + coins // 2, coins))


def test_mean_and_variance():
    cells, coins = 20_000, 400
    z = (heads(cells, coins) - coins / 2) / np.sqrt(coins / 4)
    assert plausible(p_mean(z))
    assert plausible(p_variance(z))
    assert plausible(p_mean(z[1:] * z[:-1]))  # a cell tells nothing of the next


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
    """p-value of the cells' means over runs: small when what stayed fixed predicts them.

    samples: (runs, cells), one run after another with an adversary's knowledge unchanged.
    """
    runs = len(samples)
    return p_variance((samples - coins / 2).sum(axis=0) / np.sqrt(runs * coins / 4))


def test_noise_stays_uniform_to_each_adversary_alone():
    """Fix what one adversary knows, redraw the rest: the noise is Binomial all the same."""
    cells, coins, runs = 400, 64, 50
    keys = [hkdf(SECRET, "redraw", str(i)) for i in range(runs)]
    dealer_fixed = np.array([heads(cells, coins, signs=key) for key in keys])
    signs_fixed = np.array([heads(cells, coins, secret=key) for key in keys])
    for samples in (dealer_fixed, signs_fixed):
        assert plausible(p_binomial(samples.ravel(), coins))
        assert plausible(p_unpredictable(samples, coins))


def test_without_signs_the_dealer_would_know_the_noise(monkeypatch):
    """The broken variant that the test above catches."""
    monkeypatch.setattr(coinage, "_flips", lambda signs, n: np.zeros(n, np.uint32))
    cells, coins = 400, 64
    keys = [hkdf(SECRET, "redraw", str(i)) for i in range(50)]
    dealer_fixed = np.array([heads(cells, coins, signs=key) for key in keys])
    np.testing.assert_array_equal(dealer_fixed[0], dealt_bits(cells, coins, 3).sum(axis=1))
    assert not plausible(p_unpredictable(dealer_fixed, coins))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_partys_words_are_uniform(width):
    _, words = deal(Coins(cells=300, each=200, width=width), SECRET)
    for byte in range(width):
        assert plausible(p_levels(words[..., byte], 256))
    bits = dealt_bits(300, 200, width).ravel().astype(bool)
    low = words[..., 0].ravel()
    table = [np.bincount(part, minlength=256) for part in (low[bits], low[~bits])]
    assert plausible(p_independent(table))


def test_high_bits_depend_on_the_signs_and_must_be_dropped():
    first, second = shares(200, 64, 2)
    excess = (first + second) & ~low_bits(2)
    assert excess.any()  # why open_shares drops them


def test_known_answer():
    """Frozen from this construction; a change breaks parties of different versions."""
    seed, words = deal(Coins(cells=3, each=10, width=3), SECRET)
    digest = hashlib.sha256(seed + words.tobytes()).hexdigest()
    assert digest == "e6c3abd51fadadd100d109a61a7465c8449d3e1ea3d649481949c0bf99faf392"
    assert heads(3, 10).tolist() == [6, 2, 2]


def test_words_hold_count_and_coins():
    def width(n_slots, each):
        return Coins.of(cells=1, each=each, n_slots=n_slots).width

    assert width(200, 55) == 1
    assert width(200, 56) == 2
    assert width(128_000, 2_000) == 3
    assert width((1 << 32) - 2, 1) == 4
    for bad in [((1 << 32) - 1, 1), (0, 1), (5, 0)]:
        with pytest.raises(ProtocolError):
            width(*bad)


@pytest.mark.parametrize("words", [np.zeros((2, 3, 1)), np.zeros((2, 3, 2), np.uint8)])
def test_malformed_words_are_refused(words):
    with pytest.raises(ProtocolError):
        second_heads(Coins(cells=2, each=3, width=1), words, Keystream(SIGNS))
