"""Cross tables without a dealer: X_P^T X_Q under BFV, as additive shares.

BFV: Brakerski (CRYPTO 2012), Fan and Vercauteren (eprint 2012/144). Inner products by
coefficient packing instead of slots and rotations (as in Huang, Lu, Hong, Ding, "Cheetah",
USENIX Security 2022, there for matrix-vector products). With w the width of the offering
party's matrix and X^N = -1, a chunk of N // w users is

    x(X) = sum over its users u and their positions p:  weight * X^(u w + p)        encrypted,
    y_j(X) = sum over users u at the other's position j: weight * X^(-u w)          in the clear,

and the coefficients 0..w-1 of x y_j are column j of the table: users only meet themselves there.
The other coefficients are cross terms that nobody may see. Steps, pure:

    offer(P) -> bytes       x of every chunk, under P's own key, and a public key
    respond(Q) -> share, bytes    for each j: sum of x y_j over chunks, masked and flooded
    finish(P) -> share      decrypts

Both end with additive shares modulo 2**32 = t, as after `cross_tables.finish_*`, and open them by
`cross_tables.open_shares` with each party's own discrete Gaussian (variance 2 sigma**2; shared
coins would need the dealer).

What hides Q's columns from P, who has the key (the server sees neither: both messages are sealed):
- every coefficient is shifted by a uniform element of Z_t, Q's share; P decrypts noise-free
  uniform numbers, cross terms included;
- a fresh encryption of zero under P's public key: the second polynomial, in which P knows all
  but y, then hides y as any RLWE sample hides its secret;
- noise flooding (Gentry's thesis, 2009; Asharov et al., EUROCRYPT 2012): the decryption's
  error depends on y, so Q adds to every coefficient a uniform integer so wide that the error's
  worst case shifts all coefficients of all ciphertexts by statistical distance 2**-40 or less.
  TenSEAL and SEAL offer no call for it; `lattice.Parameters.trivial` writes the shift as a
  ciphertext of its own.
Only then is the answer switched to the smallest modulus (half the bytes). What P could measure
but does not: how long Q took (columns nobody is in save time).

Who learns what: P its share (uniform), Q its share (uniform) and ciphertexts; the server
sizes, and what is opened. Server and a party together learn no more than that party: no dealer's
seeds. Not defended: a P that forms its key or ciphertexts dishonestly.

For small tables: the work grows with slots times cells. `check` refuses with an estimate.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError, ProtocolError
from twinweave.protocols import lattice
from twinweave.protocols.products.blocks import BlockSet, Layout
from twinweave.protocols.products.cross_tables import Pair, Role
from twinweave.protocols.ring import Ring
from twinweave.tables.column import VALUE_UNITS

FIELD = "protocol.cross_tables"
DEGREE = 8192
RING_BITS = 32  # of the shares: the plain modulus is 2**32
HIDING_BITS = 40  # statistical distance of what P sees from independent of Q: 2**-40
MAX_SECONDS = 300.0
MAX_BYTES = 1 << 28
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


def offering(pair: Pair) -> Role:
    """Who encrypts: the party with the narrower matrix (the first when equal). Public."""
    return Role.SECOND if pair.second.width < pair.first.width else Role.FIRST


def cost(pair: Pair) -> Cost:
    """From measurements on one core, with a half to spare: see `scripts.benchmarks.parties`."""
    own, other = _sides(pair)
    chunks = -(-pair.n_slots // max(1, DEGREE // own.width))
    products = chunks * other.width
    primes = len(_parameters(pair).prime_bits) - 1
    polynomial = 8 * DEGREE
    return Cost(
        ciphertexts=chunks,
        products=products,
        seconds=primes / 2 * (0.007 * chunks + 0.0008 * products + 0.03 * other.width),
        size=polynomial * (primes * (chunks + 2) + 2 + 2 * other.width),
    )


def check(pair: Pair, *, max_seconds: float = MAX_SECONDS, max_bytes: int = MAX_BYTES) -> None:
    """Raise ConfigError where the product is too large for this protocol, or it is missing."""
    lattice.available(FIELD)
    names = f"the tables of {pair.first.party!r} and {pair.second.party!r}"
    remedy = "Use protocol.cross_tables=secret_sharing, or ask for fewer or coarser tables."
    if pair.bits != RING_BITS:
        raise ConfigError(FIELD, f"{names} need sums beyond {RING_BITS} bits", remedy)
    if min(pair.shape) > DEGREE or not _fits(pair):
        raise ConfigError(FIELD, f"{names} are too wide or too long to encrypt", remedy)
    wanted = cost(pair)
    if wanted.seconds > max_seconds or wanted.size > max_bytes:
        raise ConfigError(
            FIELD,
            f"{names} are too large for homomorphic: {wanted.ciphertexts:,} ciphertexts, "
            f"{wanted.products:,} products, about {wanted.seconds:,.0f} s (at most "
            f"{max_seconds:,.0f}) and {wanted.size / 1e6:,.0f} MB (at most {max_bytes / 1e6:,.0f})",
            remedy,
        )


def offer(pair: Pair, blocks: BlockSet, key: bytes) -> bytes:
    """Offering party, 1: its matrix under a key of its own. To be sealed for the other party.

    key: 32 secret bytes of this party for this product; `finish` needs the same. Encryption
    is randomised: repeat the stored bytes, not the call. Raises ConfigError as `check`.
    """
    check(pair)
    own, _ = _sides(pair)
    _check_blocks(pair, blocks, own)
    parameters = _parameters(pair)
    api, secret_key = lattice.available(FIELD), parameters.secret_key(key)
    encryptor = api.Encryptor(parameters.context(), secret_key)
    parts = [lattice.dump(parameters.public_key(secret_key))]
    for rows in _chunks(pair):
        plain = parameters.plaintext(_offered(blocks, rows, own.width))
        parts.append(lattice.dump(encryptor.encrypt_symmetric(plain)))
    return lattice.join(parts)


def respond(pair: Pair, blocks: BlockSet, offered: bytes) -> tuple[Ring, bytes]:
    """Other party: its share, uint32 of `pair.shape`, and what to seal for the offering party.

    Both are randomised: repeat the stored bytes, not the call (two answers to one offer differ
    in the masks, and each hides the columns). Raises ProtocolError for a malformed offer;
    ConfigError as `check`.
    """
    check(pair)
    own, other = _sides(pair)
    _check_blocks(pair, blocks, other)
    parameters = _parameters(pair)
    api, context = lattice.available(FIELD), parameters.context()
    evaluator = api.Evaluator(context)
    sums = _products(pair, blocks, offered)
    share = np.empty((own.width, other.width), np.uint32)
    answers = []
    for j, total in enumerate(sums):
        masks = np.frombuffer(secrets.token_bytes(4 * DEGREE), np.uint32)
        evaluator.add_inplace(total, parameters.trivial(_shift(pair, parameters, masks)))
        evaluator.mod_switch_to_inplace(total, context.last_parms_id())
        answers.append(lattice.dump(total))
        share[:, j] = np.negative(masks[: own.width])
    return _oriented(pair, share), lattice.join(answers)


def finish(pair: Pair, key: bytes, answered: bytes) -> Ring:
    """Offering party, 2: its share, uint32 of `pair.shape`. Raises ProtocolError."""
    own, other = _sides(pair)
    parameters = _parameters(pair)
    what = f"the answer of {other.party!r}"
    parts = lattice.split(answered, what)
    if len(parts) != other.width:
        raise ProtocolError(f"{what}: not one ciphertext a column. Refused.")
    api, context = lattice.available(FIELD), parameters.context()
    decryptor = api.Decryptor(context, parameters.secret_key(key))
    share = np.zeros((own.width, other.width), np.uint32)
    for j, part in enumerate(parts):
        arrived, plain = parameters.ciphertext(part, what), api.Plaintext()
        lattice.checked(partial(decryptor.decrypt, arrived, plain), what)
        there = min(own.width, plain.coeff_count())  # leading zeros are cut
        share[:there, j] = [plain.data(i) for i in range(there)]
    return _oriented(pair, share)


def _products(pair: Pair, blocks: BlockSet, offered: bytes) -> list[Any]:
    """Ciphertexts of sum(x y_j) plus an encryption of zero, for each j; the error is bare."""
    own, other = _sides(pair)
    parameters, what = _parameters(pair), f"the offer of {own.party!r}"
    head, *parts = lattice.split(offered, what) or [memoryview(b"")]
    chunks = list(_chunks(pair))
    if len(parts) != len(chunks):
        raise ProtocolError(f"{what}: not one ciphertext a chunk of the spine. Refused.")
    public_key = parameters.load("PublicKey", head, what)
    api, context = lattice.available(FIELD), parameters.context()
    evaluator, encryptor = api.Evaluator(context), api.Encryptor(context, public_key)
    sums = [_zero(api, evaluator, encryptor) for _ in range(other.width)]
    for part, rows in zip(parts, chunks, strict=True):
        arrived = parameters.ciphertext(part, what)
        lattice.checked(partial(evaluator.transform_to_ntt_inplace, arrived), what)
        for j, multiplier in _multipliers(blocks, rows, own.width):
            plain, product = parameters.plaintext(multiplier), api.Ciphertext()
            evaluator.transform_to_ntt_inplace(plain, context.first_parms_id())
            evaluator.multiply_plain(arrived, plain, product)
            evaluator.add_inplace(sums[j], product)
    for total in sums:
        evaluator.transform_from_ntt_inplace(total)
    return sums


# --- polynomials ---------------------------------------------------------------------------


def _chunks(pair: Pair) -> Iterator[slice]:
    """Slots of one ciphertext after the other."""
    step = DEGREE // _sides(pair)[0].width
    for start in range(0, pair.n_slots, step):
        yield slice(start, min(start + step, pair.n_slots))


def _offered(blocks: BlockSet, rows: slice, width: int) -> NDArray[np.uint64]:
    """x of a chunk: uint64 (DEGREE,)."""
    x = np.zeros(DEGREE, np.uint64)
    users = np.arange(rows.stop - rows.start)[:, None]
    # A user's blocks occupy different columns, so no coefficient repeats.
    x[users * width + blocks.positions[rows]] = _entries(blocks, rows)
    return x


def _multipliers(
    blocks: BlockSet, rows: slice, width: int
) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """(j, y_j of a chunk), uint64 (DEGREE,) modulo t, for the positions j that anyone is at."""
    entries, positions = _entries(blocks, rows), blocks.positions[rows]
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


def _entries(blocks: BlockSet, rows: slice) -> NDArray[np.int64]:
    """What stands at each position: 1, or the weight; int64 (users, blocks)."""
    entries = np.ones(blocks.positions[rows].shape, np.int64)
    for block, weights in blocks.weights.items():
        entries[:, block] = weights[rows]
    return entries


def _zero(api: Any, evaluator: Any, encryptor: Any) -> Any:
    """A fresh encryption of zero under the offering party's key, in NTT form."""
    made = api.Ciphertext()
    encryptor.encrypt_zero(made)
    evaluator.transform_to_ntt_inplace(made)
    return made


# --- noise ---------------------------------------------------------------------------------


def _shift(
    pair: Pair, parameters: lattice.Parameters, masks: NDArray[np.uint32]
) -> NDArray[np.uint64]:
    """round(masks q / t) + flood modulo each prime of q: uint64 (primes, DEGREE).

    flood: uniform in [-2**b, 2**b), b of `_flood_bits`, from the system's generator.
    """
    primes, bits = parameters.primes, _flood_bits(pair)
    modulus = int(np.prod(np.array(primes, object)))
    size = -(-(bits + 1) // 64)
    words = np.frombuffer(secrets.token_bytes(8 * size * DEGREE), "<u8").reshape(size, DEGREE)
    flood = sum(word.astype(object) << (64 * i) for i, word in enumerate(words))
    flood = flood % (1 << (bits + 1)) - (1 << bits)
    shift = (masks.astype(object) * modulus + (1 << (RING_BITS - 1))) // (1 << RING_BITS) + flood
    return np.array([(shift % prime).astype(np.uint64) for prime in primes])


def _worst_error(pair: Pair) -> int:
    """Bound on the coefficients of an answer's error, whatever the other party's columns."""
    _, other = _sides(pair)
    weight = VALUE_UNITS if any(side.weight for side in other.sides) else 1
    # A fresh error and the rounding of q/t, times the l1 norm of all multipliers of a column;
    # 2 N (error * ternary) + error bounds the encryption of zero, N the rounding within it.
    products = (lattice.ERROR_BOUND + 1) * weight * pair.n_slots
    return products + (2 * DEGREE + 1) * lattice.ERROR_BOUND + DEGREE


def _flood_bits(pair: Pair) -> int:
    """b such that no error moves uniform numbers in [-2**b, 2**b) noticeably, union included."""
    _, other = _sides(pair)
    return (_worst_error(pair) * DEGREE * other.width).bit_length() + HIDING_BITS


def _capacity(primes: int) -> int:
    """Largest flood that still decrypts after the switch to one prime (t takes 32 bits)."""
    return _PRIME * (primes - 1) + _PRIME - RING_BITS - 3


def _fits(pair: Pair) -> bool:
    return _flood_bits(pair) <= _capacity(3)


def _parameters(pair: Pair) -> lattice.Parameters:
    """Two primes for counts, three where weights make the error larger (210 of 218 bits)."""
    primes = 2 if _flood_bits(pair) <= _capacity(2) else 3
    return lattice.Parameters(
        field=FIELD,
        degree=DEGREE,
        prime_bits=(_PRIME,) * primes + (_SPARE,),
        plain_modulus=1 << RING_BITS,
    )


# --- helpers -------------------------------------------------------------------------------


def _sides(pair: Pair) -> tuple[Layout, Layout]:
    """Layouts of the offering party and of the other."""
    first = offering(pair) is Role.FIRST
    return (pair.first, pair.second) if first else (pair.second, pair.first)


def _oriented(pair: Pair, share: Ring) -> Ring:
    """(offering, other) -> (first, second)."""
    return share if offering(pair) is Role.FIRST else np.ascontiguousarray(share.T)


def _check_blocks(pair: Pair, blocks: BlockSet, layout: Layout) -> None:
    if blocks.layout != layout or blocks.n_slots != pair.n_slots:
        raise ProtocolError(f"these blocks are not those of {layout.party!r} in this product.")
