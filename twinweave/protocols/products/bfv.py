"""What products under encryption need of BFV: packing, masks, noise flooding, parameters, cost.

BFV: Brakerski (CRYPTO 2012), Fan and Vercauteren (eprint 2012/144). Inner products by
coefficient packing instead of slots and rotations (as in Huang, Lu, Hong, Ding, "Cheetah",
USENIX Security 2022, there for matrix-vector products). With w the width of the offering
party's matrix and X^N = -1, a chunk of N // w users is

    x(X) = sum over its users u and their positions p:  weight * X^(u w + p)        encrypted,
    y_j(X) = sum over users u at the other's position j: weight * X^(-u w)          in the clear,

and the coefficients 0..w-1 of x y_j are column j of the table: users only meet themselves there.
The other coefficients are cross terms that nobody may see.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.protocols import lattice
from twinweave.protocols.products.blocks import BlockLayout, BlockSet
from twinweave.protocols.products.pair import Pair

FIELD = "protocol.cross_tables"
DEGREE = 8192
RING_BITS = 32  # of the shares: the plain modulus is 2**32
HIDING_BITS = 40  # statistical distance of what P sees from independent of Q: 2**-40
MAX_SECONDS = 300.0
MAX_BYTES = 1 << 28
PRIMES = 3  # of the ciphertexts' modulus: 210 of the 218 bits that 128-bit security allows
_PRIME = 60  # bits of each prime of the ciphertexts' modulus
_SPARE = 30  # bits of the prime that SEAL keeps for encryption


@dataclass(frozen=True, kw_only=True)
class Cost:
    """An estimate. ciphertexts: offered; products: ciphertext times plaintext, at the responder;
    seconds: CPU, both parties; size: bytes of both messages."""

    ciphertexts: int
    products: int
    seconds: float
    size: int


def sides(pair: Pair) -> tuple[BlockLayout, BlockLayout]:
    """Layouts of the party that offers, which has the narrower matrix (the first when equal),
    and of the other. Public."""
    turned = pair.second.width < pair.first.width
    return (pair.second, pair.first) if turned else (pair.first, pair.second)


def cost(pair: Pair) -> Cost:
    """From measurements on one core, with a half to spare: see `scripts.benchmarks.parties`."""
    own, other = sides(pair)
    n_chunks = -(-pair.n_slots // max(1, DEGREE // own.width))
    products = n_chunks * other.width
    polynomial = 8 * DEGREE
    return Cost(
        ciphertexts=n_chunks,
        products=products,
        seconds=PRIMES / 2 * (0.007 * n_chunks + 0.0008 * products + 0.03 * other.width),
        size=polynomial * (PRIMES * (n_chunks + 2) + 2 + 2 * other.width),
    )


def check(pair: Pair) -> None:
    """Raise ConfigError where the product is too large for this protocol, or it is missing."""
    lattice.available(FIELD)
    names = f"the tables of {pair.first.party!r} and {pair.second.party!r}"
    remedy = "Use protocol.cross_tables=secret_sharing, or ask for fewer or coarser tables."
    if pair.bits != RING_BITS:
        raise ConfigError(FIELD, f"{names} need sums beyond {RING_BITS} bits", remedy)
    if min(pair.shape) > DEGREE or flood_bits(pair) > CAPACITY:
        raise ConfigError(FIELD, f"{names} are too wide or too long to encrypt", remedy)
    wanted = cost(pair)
    if wanted.seconds > MAX_SECONDS or wanted.size > MAX_BYTES:
        raise ConfigError(
            FIELD,
            f"{names} are too large for homomorphic: {wanted.ciphertexts:,} ciphertexts, "
            f"{wanted.products:,} products, about {wanted.seconds:,.0f} s (at most "
            f"{MAX_SECONDS:,.0f}) and {wanted.size / 1e6:,.0f} MB (at most {MAX_BYTES / 1e6:,.0f})",
            remedy,
        )


# --- polynomials ---------------------------------------------------------------------------


def chunks(pair: Pair) -> Iterator[slice]:
    """Slots of one ciphertext after the other."""
    step = DEGREE // sides(pair)[0].width
    for start in range(0, pair.n_slots, step):
        yield slice(start, min(start + step, pair.n_slots))


def offered(blocks: BlockSet, rows: slice, width: int) -> NDArray[np.uint64]:
    """x of a chunk: uint64 (DEGREE,)."""
    x = np.zeros(DEGREE, np.uint64)
    users = np.arange(rows.stop - rows.start)[:, None]
    # A user's blocks occupy different columns, so no coefficient repeats.
    x[users * width + blocks.positions[rows]] = blocks.entries(rows, np.int64)
    return x


def multipliers(
    blocks: BlockSet, rows: slice, width: int
) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """(j, y_j of a chunk), uint64 (DEGREE,) modulo t, for the positions j that anyone is at."""
    entries, positions = blocks.entries(rows, np.int64), blocks.positions[rows]
    # X^(-e) = -X^(N - e), and 1 for e = 0.
    exponents = (DEGREE - width * np.arange(len(positions))) % DEGREE
    signed = (1 << RING_BITS) - entries
    signed[0] = entries[0]
    signed %= 1 << RING_BITS
    for block in range(positions.shape[1]):
        for j in np.unique(positions[:, block]):
            y = np.zeros(DEGREE, np.uint64)
            at = positions[:, block] == j
            y[exponents[at]] = signed[at, block]
            if y.any():  # SEAL refuses to multiply by zero
                yield int(j), y


# --- noise ---------------------------------------------------------------------------------


def shift(
    pair: Pair, parameters: lattice.Parameters, masks: NDArray[np.uint32]
) -> NDArray[np.uint64]:
    """round(masks q / t) + flood modulo each prime of q: uint64 (primes, DEGREE).

    flood: uniform in [-2**b, 2**b), b of `flood_bits`, from the system's generator.
    """
    primes, bits = parameters.primes, flood_bits(pair)
    modulus = int(np.prod(np.array(primes, object)))
    size = -(-(bits + 1) // 64)
    words = np.frombuffer(secrets.token_bytes(8 * size * DEGREE), "<u8").reshape(size, DEGREE)
    flood = sum(word.astype(object) << (64 * i) for i, word in enumerate(words))
    flood = flood % (1 << (bits + 1)) - (1 << bits)
    moved = (masks.astype(object) * modulus + (1 << (RING_BITS - 1))) // (1 << RING_BITS) + flood
    return np.array([(moved % prime).astype(np.uint64) for prime in primes])


def worst_error(pair: Pair) -> int:
    """Bound on the coefficients of an answer's error, whatever the other party's columns."""
    # The marks are the largest multipliers: up to half of the plain modulus, either sign.
    weight = 1 << (RING_BITS - 1)
    products = (lattice.ERROR_BOUND + 1) * weight * pair.n_slots
    return products + (2 * DEGREE + 1) * lattice.ERROR_BOUND + DEGREE


def flood_bits(pair: Pair) -> int:
    """b such that no error moves uniform numbers in [-2**b, 2**b) noticeably, union included."""
    _, other = sides(pair)
    return (worst_error(pair) * DEGREE * other.width).bit_length() + HIDING_BITS


CAPACITY = _PRIME * (PRIMES - 1) + _PRIME - RING_BITS - 3
"""Bits of the largest flood that still decrypts after the switch to one prime (t takes 32)."""


PARAMETERS = lattice.Parameters(
    field=FIELD,
    degree=DEGREE,
    prime_bits=(_PRIME,) * PRIMES + (_SPARE,),
    plain_modulus=1 << RING_BITS,
)
