"""Shared binomial coins: noise Binomial(N, 1/2) in every cell that nobody knows.

Idea: Dwork, Kenthapadi, McSherry, Mironov, Naor, "Our data, ourselves" (2006), section 4:
noise from many joint coin flips. Differs: semi-honest parties with a dealer, no verified
secret sharing. The dealer knows its bits k_i and shares them additively; the two parties
know common sign bits g_i that the dealer does not. The coin is

    c_i = k_i xor g_i = g_i + (1 - 2 g_i) k_i,

linear in k_i, so each party computes its share of sum_i c_i alone. c_i is uniform given k_i
(the dealer's view) and uniform given g_i and one share of k_i (a party's view). No privacy
amplification is needed: the variance is N/4 in all, not N/4 a party.

The first party's shares of k_i expand from a seed; the second's travel, in the fewest bytes
that hold the largest opened value. Shares count modulo 2**(8 * bytes) only: whoever opens
must drop the higher bits (`Coins.low_bits`), which depend on the signs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.keystream import Keystream, hkdf

_CHUNK_WORDS = 1 << 21


@dataclass(frozen=True, kw_only=True)
class Coins:
    """The coins of one table: so many a cell, dealt in words of `width` bytes. Public."""

    cells: int
    each: int
    width: int

    @classmethod
    def of(cls, *, cells: int, each: int, n_slots: int) -> Coins:
        """Words as wide as a count plus its coins, at most n_slots + each, takes.

        Raises ProtocolError beyond four bytes.
        """
        if n_slots < 1 or each < 1:
            raise ProtocolError("coins need a slot and at least one coin a cell. Check the plan.")
        width = (int(n_slots + each).bit_length() + 7) // 8
        if width > 4:
            raise ProtocolError("a count and its coins exceed 32 bits. Use fewer slots or coins.")
        return cls(cells=cells, each=each, width=width)

    @property
    def low_bits(self) -> np.uint32:
        """Mask of the bits that mean something in a sum of words."""
        return np.uint32((1 << (8 * self.width)) - 1)

    def chunks(self) -> Iterator[slice]:
        """Whole cells, a multiple of eight at a time so that bit streams break at bytes."""
        step = max(8, _CHUNK_WORDS // self.each // 8 * 8)
        for start in range(0, self.cells, step):
            yield slice(start, min(start + step, self.cells))


def deal(coins: Coins, secret: bytes) -> tuple[bytes, NDArray[np.uint8]]:
    """Dealer: (the first party's 32-byte seed, the second's words, uint8 (cells, each, width)).

    secret: fresh for every deal. Words are little-endian, modulo 2**(8 * width).
    """
    seed = hkdf(secret, "coins", "first")
    bits, shares = Keystream(hkdf(secret, "coins", "bits")), Keystream(seed)
    words = np.empty((coins.cells, coins.each, coins.width), dtype=np.uint8)
    for rows in coins.chunks():
        shape = (rows.stop - rows.start, coins.each)
        n = shape[0] * shape[1]
        second = bits.bits(n).astype(np.uint32) - shares.words32(n)
        words[rows] = second.astype("<u4").view(np.uint8).reshape(*shape, 4)[..., : coins.width]
    return seed, words


def first_heads(coins: Coins, seed: bytes, signs: Keystream) -> NDArray[np.uint32]:
    """First party's shares, uint32 (cells,), of the number of heads in each cell.

    signs: stream of the parties' pair secret, the same at both, never used for another deal.
    """
    shares = Keystream(seed)
    heads = np.empty(coins.cells, dtype=np.uint32)
    for rows in coins.chunks():
        n = (rows.stop - rows.start) * coins.each
        flip = _flips(signs, n)
        # The first party also adds the constant g_i of each coin.
        words = _signed(shares.words32(n), flip) + (flip & np.uint32(1))
        heads[rows] = words.reshape(-1, coins.each).sum(axis=1, dtype=np.uint32)
    return heads


def second_heads(coins: Coins, words: NDArray[np.uint8], signs: Keystream) -> NDArray[np.uint32]:
    """Second party's shares, uint32 (cells,). words: as `deal` made them. Raises ProtocolError."""
    if words.dtype != np.uint8 or words.shape != (coins.cells, coins.each, coins.width):
        raise ProtocolError("the dealt coins do not fit the plan. Start a new run.")
    heads = np.empty(coins.cells, dtype=np.uint32)
    for rows in coins.chunks():
        wide = np.zeros((rows.stop - rows.start, coins.each, 4), dtype=np.uint8)
        wide[..., : coins.width] = words[rows]
        shares = wide.view("<u4").ravel().astype(np.uint32, copy=False)
        signed = _signed(shares, _flips(signs, len(shares)))
        heads[rows] = signed.reshape(-1, coins.each).sum(axis=1, dtype=np.uint32)
    return heads


def _flips(signs: Keystream, n: int) -> NDArray[np.uint32]:
    """All ones where the sign bit is set, else zero."""
    return np.negative(signs.bits(n).astype(np.uint32))


def _signed(words: NDArray[np.uint32], flip: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """words, negated where flip is all ones (two's complement)."""
    return (words ^ flip) - flip
