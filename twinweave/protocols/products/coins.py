"""Shared binomial coins: noise Binomial(N, 1/2) in every cell that nobody knows.

Idea: Dwork, Kenthapadi, McSherry, Mironov, Naor, "Our data, ourselves" (2006), section 4:
noise from many joint coin flips. Differs: a dealer, and cut and choose in the place of verified
secret sharing. The dealer knows its bits k_i and shares them additively; the two parties know
common sign bits g_i that the dealer does not. The coin is

    c_i = k_i xor g_i = g_i + (1 - 2 g_i) k_i,

linear in k_i, so each party computes its share of sum_i c_i alone. c_i is uniform given k_i
(the dealer's view) and uniform given g_i and one share of k_i (a party's view). No privacy
amplification is needed: the variance is N/4 in all, not N/4 a party. The first party's shares of
k_i expand from a seed; the second's travel, in the fewest bytes that hold the largest opened
value. Shares count modulo 2**(8 * bytes) only: whoever opens must drop the higher bits
(`Coins.low_bits`), which depend on the signs.

A dealer that deviates. What it deals need not be bits. A k_i that is none still adds something
independent of the data, k_i or 1 - k_i, by a sign that the dealer does not know: as long as N of a
cell's coins are bits, what is opened is the count with Binomial(N, 1/2) and then something added,
post-processing. But with too few bits among them (all (1 - M) / 2, say) the count shows modulo M.
So the dealer deals in rounds of cells + t coins, a coin for every cell and t = TESTED_COINS to
look at, and N + m rounds, m = SPARE_COINS. Under a secret of theirs the parties choose for every
round which t of its coins they look at, and by how far the others are turned before they are
handed to the cells, both uniformly. The first sends the second its shares of the tested coins,
sealed, before any share is opened; the second adds its own, and refuses to open anything, and to
charge for it, unless every one is a bit. (One check is enough: without the second's share the
server holds uniform numbers.)

How often does it not notice? Take one cell; let H be how many of its coins are no bits, and D the
event that all tested coins are bits. In a round with b bad coins,

    P(none tested) = prod over i < b of (cells - i) / (cells + t - i),
    P(the cell's is bad | none tested) = b / cells,

so with z = 1 + t the round's E[z**H 1_D] = P(none tested) * (1 + t b / cells), which is 1 for b = 0
and does not grow with b: f(b+1) / f(b) <= 1 because (cells - b) t <= t (cells + t b). Rounds are
independent, so E[z**H 1_D] <= 1 over all of them, and by Markov P(H > m and D) <=
(1 + t)**-(m + 1) = 2**-40 for every cell, whatever the dealer did. (A choice
among n by 64 bits modulo n changes no probability by more than n / 2**64 of it.) The dealer learns
nothing of the secret before: the first's seed is dealt before anything is looked at, and a party
considers one request a name, so that the second's words cannot be tried again after a refusal.

Where it does not notice, at most m of a cell's N + m coins are none, and N or more are coins as
agreed. Not covered, as everywhere with a dealer: the dealer and one of the two parties together,
who know the noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave import progress
from twinweave.errors import ProtocolError
from twinweave.privacy.noise import TESTED_COINS
from twinweave.protocols.keystream import Keystream, hkdf

_CHUNK_WORDS = 1 << 21


@dataclass(frozen=True, kw_only=True)
class Coins:
    """The coins of one table, as they are dealt. Public.

    rounds: coins that a cell gets. width: bytes of a word.
    """

    cells: int
    rounds: int
    width: int

    @classmethod
    def of(cls, *, cells: int, rounds: int, most: int) -> Coins:
        """Words as wide as what is opened, at most `most` and all coins, takes.

        most: that a cell can be without noise, a slot for every user times what one adds. Raises
        ProtocolError beyond four bytes.
        """
        if min(most, rounds, cells) < 1:
            raise ProtocolError("coins need a slot, a cell and a coin for it. Check the plan.")
        width = (int(most + rounds).bit_length() + 7) // 8
        if width > 4:
            raise ProtocolError(
                "a table and its coins exceed 32 bits. Use protocol.noise=gaussian, or a lower "
                "protocol.coin_limit."
            )
        return cls(cells=cells, rounds=rounds, width=width)

    @property
    def low_bits(self) -> np.uint32:
        """Mask of the bits that mean something in a sum of words."""
        return np.uint32((1 << (8 * self.width)) - 1)

    @property
    def dealt(self) -> int:
        """Coins of a round."""
        return self.cells + TESTED_COINS

    @property
    def words(self) -> tuple[int, int, int]:
        """Shape of the second party's words."""
        return self.rounds, self.dealt, self.width

    @property
    def shown(self) -> tuple[int, int, int]:
        """Shape of a party's shares of the tested coins."""
        return self.rounds, TESTED_COINS, self.width

    def chunks(self) -> Iterator[slice]:
        """Whole rounds, a multiple of eight at a time so that bit streams break at bytes."""
        step = max(8, _CHUNK_WORDS // self.dealt // 8 * 8)
        for start in range(0, self.rounds, step):
            yield slice(start, min(start + step, self.rounds))
            progress.report("coin rounds", min(start + step, self.rounds), self.rounds)


def seed(secret: bytes) -> bytes:
    """Dealer: 32 bytes that the first party's words expand from.

    secret: 32 fresh bytes for every table, the same for `seed` and `words`.
    """
    return hkdf(secret, "coins", "first")


def words(coins: Coins, secret: bytes) -> NDArray[np.uint8]:
    """Dealer: the second party's words, uint8 of `coins.words`, little-endian."""
    bits, found = Keystream(hkdf(secret, "coins", "bits")), np.empty(coins.words, dtype=np.uint8)
    for rounds, first in _from_seed(coins, seed(secret)):
        second = bits.bits(first.size).astype(np.uint32).reshape(first.shape) - first
        found[rounds] = _as_bytes(second, coins.width)
    return found


@dataclass(frozen=True, kw_only=True)
class Places:
    """Which coins of every round are looked at, and by how far the others are turned. Secret.

    swaps: (place among the last, one that is as far or less far) unsigned (rounds,): swapped in
    this order (Fisher and Yates), the last ones are a uniform choice. turns: unsigned (rounds,).
    """

    swaps: tuple[tuple[int, NDArray[np.unsignedinteger[Any]]], ...] = field(repr=False)
    turns: NDArray[np.unsignedinteger[Any]] = field(repr=False)

    @classmethod
    def of(cls, coins: Coins, secret: bytes) -> Places:
        """secret: 32 bytes that the two parties alone share, for this deal alone."""
        stream = Keystream(secret)

        def below(limit: int) -> NDArray[np.unsignedinteger[Any]]:
            chosen = stream.words64(coins.rounds) % np.uint64(limit)
            return chosen.astype(np.min_scalar_type(limit))

        last = range(coins.dealt - 1, coins.cells - 1, -1)
        return cls(
            swaps=tuple((place, below(place + 1)) for place in last),
            turns=below(coins.cells),
        )

    def sort(self, words: NDArray[np.uint32], rounds: slice) -> None:
        """Put the tested coins of these rounds last, in place; words: (rounds, dealt)."""
        each = np.arange(len(words))
        for place, chosen in self.swaps:
            other = chosen[rounds]
            words[each, other], words[:, place] = words[:, place], words[each, other]

    def add(self, words: NDArray[np.uint32], rounds: slice) -> NDArray[np.uint32]:
        """Sum over these rounds, each turned as far as it is; words: (rounds, cells)."""
        turns = self.turns[rounds]
        order = np.argsort(turns, kind="stable")  # by radix, where 16 bits hold them
        values, starts = np.unique(turns[order], return_index=True)
        total = np.zeros(words.shape[1], np.uint32)
        for turn, alike in zip(values, np.split(order, starts[1:]), strict=True):
            total += np.roll(words[alike].sum(axis=0, dtype=np.uint32), turn)
        return total


def shown(coins: Coins, seed: bytes, places: Places) -> NDArray[np.uint8]:
    """First party: its shares of the tested coins, uint8 of `coins.shown`, for the second."""
    found = np.empty(coins.shown, dtype=np.uint8)
    for rounds, words in _from_seed(coins, seed):
        places.sort(words, rounds)
        found[rounds] = _as_bytes(words[:, coins.cells :], coins.width)
    return found


def first_heads(coins: Coins, seed: bytes, places: Places, signs: bytes) -> NDArray[np.uint32]:
    """First party's shares, uint32 (cells,), of the number of heads in each cell.

    signs: key of the parties' pair secret, the same at both, never used for another deal.
    """
    heads, signed = np.zeros(coins.cells, dtype=np.uint32), Keystream(signs)
    for rounds, words in _from_seed(coins, seed):
        places.sort(words, rounds)
        own = words[:, : coins.cells]
        flip = _flips(signed, own.shape)
        # The first party also adds the constant g_i of each coin.
        heads += places.add(_signed(own, flip) + (flip & np.uint32(1)), rounds)
    return heads


def second_heads(
    coins: Coins, words: NDArray[np.uint8], shown: NDArray[np.uint8], places: Places, signs: bytes
) -> NDArray[np.uint32]:
    """Second party's shares, uint32 (cells,), once the tested coins have proved to be bits.

    words: as dealt. shown: the first party's shares of the tested coins. Raises ProtocolError
    where either has another shape, or a tested coin is no bit.
    """
    for array, shape in ((words, coins.words), (shown, coins.shown)):
        if array.dtype != np.uint8 or array.shape != shape:
            raise ProtocolError("the dealt coins do not fit the plan. Start a new run.")
    heads, signed = np.zeros(coins.cells, dtype=np.uint32), Keystream(signs)
    for rounds in coins.chunks():
        own = _as_words(words[rounds])
        places.sort(own, rounds)
        _check_bits(coins, own[:, coins.cells :] + _as_words(shown[rounds]))
        own = own[:, : coins.cells]
        heads += places.add(_signed(own, _flips(signed, own.shape)), rounds)
    return heads


def _check_bits(coins: Coins, tested: NDArray[np.uint32]) -> None:
    if (tested & coins.low_bits > 1).any():
        raise ProtocolError(
            "the dealt coins are not bits: the noise would not be what was agreed. Nothing was "
            "opened. Do not run with this server again."
        )


def _from_seed(coins: Coins, seed: bytes) -> Iterator[tuple[slice, NDArray[np.uint32]]]:
    """The first party's words, uint32 (rounds, dealt), chunk by chunk."""
    stream = Keystream(hkdf(seed, "words"))  # a seed cannot pass for that of a matrix
    for rounds in coins.chunks():
        n = rounds.stop - rounds.start
        yield rounds, stream.words32(n * coins.dealt).reshape(n, coins.dealt)


def _as_bytes(words: NDArray[np.uint32], width: int) -> NDArray[np.uint8]:
    """The low bytes of each word, in a last axis."""
    little = np.ascontiguousarray(words, dtype="<u4")
    return little.view(np.uint8).reshape(*words.shape, 4)[..., :width]


def _as_words(narrow: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Inverse of `_as_bytes`, high bits zero."""
    wide = np.zeros((*narrow.shape[:-1], 4), dtype=np.uint8)
    wide[..., : narrow.shape[-1]] = narrow
    return wide.view("<u4")[..., 0].astype(np.uint32, copy=False)


def _flips(signs: Keystream, shape: tuple[int, ...]) -> NDArray[np.uint32]:
    """All ones where the sign bit is set, else zero."""
    return np.negative(signs.bits(prod(shape)).astype(np.uint32)).reshape(shape)


def _signed(words: NDArray[np.uint32], flip: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """words, negated where flip is all ones (two's complement)."""
    return (words ^ flip) - flip
