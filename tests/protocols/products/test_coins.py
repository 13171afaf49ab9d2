"""Shared coins: exact distribution of the noise, what each party alone can say about it, and a
dealer that deals something else than bits."""

from __future__ import annotations

import hashlib
from math import comb
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.statistics import (
    p_binomial,
    p_independent,
    p_levels,
    p_mean,
    p_share,
    p_variance,
    plausible,
)
from twinweave.errors import ProtocolError
from twinweave.privacy.noise import SPARE_COINS, TESTED_COINS
from twinweave.protocols.keystream import Keystream, hkdf
from twinweave.protocols.products import coins as coinage
from twinweave.protocols.products.coins import (
    Coins,
    Places,
    first_heads,
    second_heads,
    seed,
    shown,
    words,
)

SECRET, PLACES, SIGNS = b"\x07" * 32, b"\x08" * 32, b"\x09" * 32
WIDTHS = [1, 2, 3, 4]


def of(cells: int, rounds: int, width: int = 3) -> Coins:
    return Coins(cells=cells, rounds=rounds, width=width)


def shares(
    coins: Coins,
    secret: bytes = SECRET,
    places: bytes = PLACES,
    signs: bytes = SIGNS,
    bad: Any = None,
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Both parties' shares of the heads. bad: what the dealer adds to its bits, (rounds, dealt)."""
    chosen, dealt = Places.of(coins, places), words(coins, secret)
    if bad is not None:
        changed = coinage._as_words(dealt) + bad.astype(np.uint32)
        dealt = coinage._as_bytes(changed, coins.width)
    seen = shown(coins, seed(secret), chosen)
    first = first_heads(coins, seed(secret), chosen, signs)
    return first, second_heads(coins, dealt, seen, chosen, signs)


def heads(coins: Coins, **kwargs: Any) -> NDArray[np.int64]:
    first, second = shares(coins, **kwargs)
    return ((first + second) & coins.low_bits).astype(np.int64)


def dealt_bits(coins: Coins, secret: bytes = SECRET) -> NDArray[np.uint32]:
    """The dealer's k_i, from both parties' shares, in the order in which they are dealt."""
    first = np.concatenate([w for _, w in coinage._from_seed(coins, seed(secret))])
    return (first + coinage._as_words(words(coins, secret))) & coins.low_bits


# --- the noise ---------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 7, 64, 101])
def test_noise_is_binomial(rounds: int) -> None:
    sample = heads(of(20_000, rounds))
    assert plausible(p_binomial(sample, rounds))
    if rounds > 50:
        for wrong in (rounds - 10, rounds + 10):
            assert not plausible(p_binomial(sample, wrong))
        assert not plausible(p_binomial(0 * sample + rounds // 2, rounds))


def test_mean_and_variance() -> None:
    coins = of(20_000, 400)
    z = (heads(coins) - coins.rounds / 2) / np.sqrt(coins.rounds / 4)
    assert plausible(p_mean(z))
    assert plausible(p_variance(z))
    assert plausible(p_mean(z[1:] * z[:-1]))  # a cell tells nothing of the next


def placed(coins: Coins, table: Any) -> tuple[Any, Any]:
    """What each cell gets of every round, and what is looked at, by the slow road."""
    chosen, table = Places.of(coins, PLACES), table.copy()
    for place, other in chosen.swaps:
        for r, o in enumerate(other):
            table[r, [o, place]] = table[r, [place, o]]
    cells = [
        np.roll(row[: coins.cells], turn) for row, turn in zip(table, chosen.turns, strict=True)
    ]
    return np.array(cells), table[:, coins.cells :]


@pytest.mark.curious("together-noise")
@pytest.mark.parametrize("width", WIDTHS)
def test_coins_are_exactly_the_xor(width: int) -> None:
    coins = of(7, 37, width)
    signs = Keystream(SIGNS).bits(7 * 37).reshape(37, 7)
    bits = dealt_bits(coins)
    assert set(np.unique(bits)) <= {0, 1}
    turned = [np.roll(s, t) for s, t in zip(signs, Places.of(coins, PLACES).turns, strict=True)]
    expected = (placed(coins, bits)[0] ^ np.array(turned)).sum(axis=0)
    np.testing.assert_array_equal(heads(coins), expected)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    coins = of(9, 100, 2)
    whole = shares(coins)
    monkeypatch.setattr(coinage, "_CHUNK_WORDS", 1)
    for a, b in zip(whole, shares(coins), strict=True):
        np.testing.assert_array_equal(a, b)


def p_unpredictable(samples: Any, rounds: int) -> float:
    """p-value of the cells' means over runs: small when what stayed fixed predicts them.

    samples: (runs, cells), one run after another with an adversary's knowledge unchanged.
    """
    runs = len(samples)
    return p_variance((samples - rounds / 2).sum(axis=0) / np.sqrt(runs * rounds / 4))


@pytest.mark.curious("party-noise")
def test_noise_stays_uniform_to_each_adversary_alone() -> None:
    """Fix what one adversary knows, redraw the rest: the noise is Binomial all the same."""
    coins = of(400, 64)
    keys = [hkdf(SECRET, "redraw", str(i)) for i in range(50)]
    dealer_fixed = np.array([heads(coins, signs=key) for key in keys])
    signs_fixed = np.array([heads(coins, secret=key) for key in keys])
    for samples in (dealer_fixed, signs_fixed):
        assert plausible(p_binomial(samples.ravel(), coins.rounds))
        assert plausible(p_unpredictable(samples, coins.rounds))


@pytest.mark.broken("party-noise")
def test_without_signs_the_dealer_would_know_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken variant that the test above catches."""
    monkeypatch.setattr(coinage, "_flips", lambda signs, shape: np.zeros(shape, np.uint32))
    coins = of(400, 64)
    keys = [hkdf(SECRET, "redraw", str(i)) for i in range(50)]
    dealer_fixed = np.array([heads(coins, signs=key) for key in keys])
    np.testing.assert_array_equal(dealer_fixed[0], placed(coins, dealt_bits(coins))[0].sum(axis=0))
    assert not plausible(p_unpredictable(dealer_fixed, coins.rounds))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_partys_words_are_uniform(width: int) -> None:
    coins = of(300, 200, width)
    dealt = words(coins, SECRET)
    for byte in range(width):
        assert plausible(p_levels(dealt[..., byte], 256))
    bits, low = dealt_bits(coins).ravel().astype(bool), dealt[..., 0].ravel()
    table = [np.bincount(part, minlength=256) for part in (low[bits], low[~bits])]
    assert plausible(p_independent(table))


def test_high_bits_depend_on_the_signs_and_must_be_dropped() -> None:
    coins = of(200, 64, 2)
    first, second = shares(coins)
    assert ((first + second) & ~coins.low_bits).any()  # why open_shares drops them


def test_known_answer() -> None:
    """Frozen from this construction; a change breaks parties of different versions."""
    coins = of(3, 10)
    chosen = Places.of(coins, PLACES)
    digest = hashlib.sha256(seed(SECRET) + words(coins, SECRET).tobytes())
    digest.update(shown(coins, seed(SECRET), chosen).tobytes())
    assert digest.hexdigest() == "9df6e26a071b8a58b3f1de3ddedf08c66afafac377dd4bfe7649a2b3e43f2b50"
    assert heads(coins).tolist() == [4, 5, 3]


# --- a dealer that deviates --------------------------------------------------------------


@pytest.mark.broken("coins")
def test_too_few_bits_show_the_count_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack: with k = (1 - M) / 2 for every bit the noise is a multiple of M beside N k."""
    coins, multiple = of(11, 500, 3), 10_001
    instead = (1 - multiple) // 2 - dealt_bits(coins).astype(np.int64)
    with pytest.raises(ProtocolError, match="the dealt coins are not bits"):
        heads(coins, bad=instead)
    monkeypatch.setattr(coinage, "_check_bits", lambda *_: None)  # broken: as before
    counts = np.arange(11) * 30
    opened = counts + heads(coins, bad=instead) - coins.rounds * ((1 - multiple) // 2)
    np.testing.assert_array_equal(opened % 2**24 % multiple, counts)


def test_every_coin_is_looked_at_and_handed_out_alike() -> None:
    """Uniform tests and turns: each place of a round is tested equally often, and so on."""
    coins = of(9, 12_000)
    where = np.tile(np.arange(coins.dealt), (coins.rounds, 1))
    cells, tested = placed(coins, where)
    assert plausible(p_levels(tested, coins.dealt))
    assert all(plausible(p_levels(column, coins.dealt)) for column in cells.T)
    table = np.zeros((coins.dealt, coins.dealt), int)
    np.add.at(table, (tested[:, 0], cells[:, 4]), 1)  # one looked at, and one cell's
    off = ~np.eye(coins.dealt, dtype=bool)
    assert table[~off].sum() == 0
    assert plausible(p_levels(np.repeat(np.arange(off.sum()), table[off]), int(off.sum())))
    assert (np.sort(np.concatenate([cells, tested], axis=1)) == np.arange(coins.dealt)).all()


def undetected(cells: int, bad: Any, rounds: int) -> float:
    """Probability that nobody looks at a bad coin, with `bad` of them in each of the rounds."""
    return (comb(cells, bad) / comb(cells + TESTED_COINS, bad)) ** rounds


@pytest.mark.attack("coins")
@pytest.mark.parametrize(("bad", "rounds"), [(1, 3), (2, 1), (4, 1)])
def test_bad_coins_are_noticed_as_often_as_claimed(bad: Any, rounds: int) -> None:
    cells, trials = 6, 400
    coins, noticed = of(cells, 30, 2), 0
    wrong = np.zeros((30, coins.dealt), int)
    wrong[:rounds, 1 : 1 + bad] = 500
    for i in range(trials):
        try:
            heads(coins, bad=wrong, places=hkdf(PLACES, str(i)))
        except ProtocolError:
            noticed += 1
    assert plausible(p_share(trials - noticed, trials, undetected(cells, bad, rounds)))
    assert not plausible(p_share(trials, trials, undetected(cells, bad, rounds)))


@pytest.mark.remains("luck")
def test_the_bound_of_the_docstring() -> None:
    """E[z**H 1_D] <= 1 a round, for any number of bad coins; so 2**-40 for too many in a cell."""
    z = 1 + TESTED_COINS
    for cells in (1, 2, 3, 11, 100):
        for bad in range(cells + TESTED_COINS + 1):
            none = comb(cells, bad) / comb(cells + TESTED_COINS, bad)
            assert none * (1 + (z - 1) * bad / cells) <= 1 + 1e-12
    assert z ** -(SPARE_COINS + 1) <= 2**-40


def test_bad_coins_that_pass_leave_the_noise_of_the_others() -> None:
    """A dealer that is lucky: what it adds is no function of the data, and bits stay bits."""
    coins = of(200, 60, 2)
    wrong = np.zeros((60, coins.dealt), int)
    wrong[:2, 5] = 4  # k is 4 or 5 there: the cell gets that, or 1 minus that
    for i in range(40):
        try:
            found = heads(coins, bad=wrong, places=hkdf(PLACES, str(i)))
        except ProtocolError:
            continue
        clean = heads(coins, places=hkdf(PLACES, str(i)))
        changed = (found - clean) & int(coins.low_bits)
        assert np.isin(changed[changed != 0], [4, -4 & 0xFFFF, 8, -8 & 0xFFFF]).all()
        assert (changed != 0).sum() in (1, 2)
        return
    raise AssertionError("forty trials that were all noticed")


# --- shapes ------------------------------------------------------------------------------


def test_words_hold_count_and_coins() -> None:
    def width(most: int, rounds: int) -> int:
        return Coins.of(cells=1, rounds=rounds, most=most).width

    assert width(200, 55) == 1
    assert width(200, 56) == 2
    assert width(128_000, 2_000) == 3
    assert width((1 << 32) - 2, 1) == 4
    for bad in [((1 << 32) - 1, 1), (0, 1), (5, 0)]:
        with pytest.raises(ProtocolError):
            width(*bad)


@pytest.mark.parametrize("shape", [(3, 2, 1), (3, 5, 2), (2, 5, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_malformed_words_are_refused(shape: tuple[int, ...], dtype: Any) -> None:
    coins = of(2, 3, 1)
    good, seen = words(coins, SECRET), shown(coins, seed(SECRET), Places.of(coins, PLACES))
    for dealt, tested in ((np.zeros(shape, dtype), seen), (good, np.zeros(shape, dtype))):
        with pytest.raises(ProtocolError, match="do not fit the plan"):
            second_heads(coins, dealt, tested, Places.of(coins, PLACES), SIGNS)
