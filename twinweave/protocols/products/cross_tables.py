"""Secure cross tables: X_P^T X_Q over the spine, opened with noise only.

Commodity-based secure product: Beaver, "Commodity-based cryptography" (STOC 1997), in the
matrix form of Du and Atallah (2001). The server deals correlated randomness

    R_P, r_P to the first party P,    R_Q, r_Q = R_P^T R_Q - r_P to the second party Q.

P sends X_P + R_P to Q, and Q sends X_Q + R_Q to P, both sealed against the server. Then

    s_Q = (X_P + R_P)^T X_Q + r_Q,    s_P = r_P - R_P^T (X_Q + R_Q),    s_P + s_Q = X_P^T X_Q

in Z_{2^k}, exactly. Differs: R_P, r_P and R_Q expand from 32-byte seeds, r_Q alone travels.

The server knows R_P and r_P, so a bare s_P would show it R_P^T X_Q. Before a share is opened
the parties therefore re-randomise it with a sharing of zero under their pair secret, and add
noise: shared coins (`coins`) or each its own discrete Gaussian.

Pure steps, in order: `deal` (server) -> `mask` (both) -> `finish_first`, `finish_second` ->
`deal_coins` (server) -> `open_shares` (both) -> `reconstruct` (server).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.parsing import canonical_json
from twinweave.protocols.keystream import Keystream, hkdf
from twinweave.protocols.products import coins as coinage
from twinweave.protocols.products.blocks import BlockSet, Layout, layout_of
from twinweave.protocols.ring import (
    Ring,
    dtype_of,
    matmul_t,
    ring_bits,
    row_chunks,
    to_ring,
    to_signed,
)
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.schema import JointSchema
from twinweave.workload.queries import Query


class Role(StrEnum):
    """A party's place in a pair: run order."""

    FIRST = "first"
    SECOND = "second"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One secure product between two parties: public, the same at server and parties."""

    first: Layout
    second: Layout
    n_slots: int
    bits: int

    def __post_init__(self) -> None:
        dtype_of(self.bits)
        if self.n_slots < 1 or self.first.party == self.second.party:
            raise ProtocolError("a secure product joins two different parties on a spine.")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of X_P^T X_Q and of each share."""
        return self.first.width, self.second.width

    def layout(self, role: Role) -> Layout:
        return self.first if role is Role.FIRST else self.second

    def role(self, party: str) -> Role:
        for role in Role:
            if self.layout(role).party == party:
                return role
        raise ProtocolError(f"party {party!r} has no part in this product. Check the plan.")


def pair_of(
    schema: JointSchema, queries: Sequence[Query], n_slots: int, *, first: str, second: str
) -> Pair:
    """The product that answers all of the queries that cross these two parties.

    Raises ProtocolError when there is none.
    """
    crossing = [q for q in queries if set(q.parties) == {first, second}]
    if not crossing:
        raise ProtocolError(f"no table crosses {first!r} and {second!r}. Leave the pair out.")
    weight = VALUE_UNITS if any(q.weight for q in crossing) else 1
    return Pair(
        first=layout_of(schema, first, crossing),
        second=layout_of(schema, second, crossing),
        n_slots=n_slots,
        bits=ring_bits(n_slots, weight),
    )


@dataclass(frozen=True, kw_only=True)
class DealFirst:
    """The first party's randomness: R_P and r_P expand from the seed."""

    seed: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class DealSecond:
    """The second party's: R_Q expands from the seed; correction: r_Q, ring (d_first, d_second)."""

    seed: bytes = field(repr=False)
    correction: Ring = field(repr=False)


def deal(pair: Pair, secret: bytes) -> tuple[DealFirst, DealSecond]:
    """Server: deal for one product. secret: 32 fresh bytes, never used for another product."""
    names = pair.first.party, pair.second.party
    seeds = [hkdf(secret, "product", *names, role) for role in Role]
    left, right = (_matrix_stream(seed) for seed in seeds)
    total = np.negative(_first_correction(pair, seeds[0]))
    for rows in row_chunks(pair.n_slots, max(pair.shape)):
        n = rows.stop - rows.start
        total += matmul_t(
            _words(left, n, pair.first.width, pair.bits),
            _words(right, n, pair.second.width, pair.bits),
        )
    return DealFirst(seed=seeds[0]), DealSecond(seed=seeds[1], correction=total)


def mask(pair: Pair, blocks: BlockSet, dealt: DealFirst | DealSecond) -> Ring:
    """Both parties: X + R, ring (n_slots, width). Uniform without the seed: seal it for the peer.

    Never send two of them under one seed: their difference would be unmasked.
    """
    role = Role.FIRST if isinstance(dealt, DealFirst) else Role.SECOND
    layout = pair.layout(role)
    _check_blocks(pair, blocks, role)
    stream = _matrix_stream(dealt.seed)
    masked = np.empty((pair.n_slots, layout.width), dtype=dtype_of(pair.bits))
    for rows in row_chunks(pair.n_slots, layout.width):
        masked[rows] = _words(stream, rows.stop - rows.start, layout.width, pair.bits)
        blocks.add_to(masked[rows], rows)
    return masked


def finish_first(pair: Pair, dealt: DealFirst, masked: Ring) -> Ring:
    """First party: its share s_P, ring (d_first, d_second). masked: the peer's X_Q + R_Q."""
    _check_masked(pair, masked, Role.SECOND)
    stream = _matrix_stream(dealt.seed)
    share = _first_correction(pair, dealt.seed)
    for rows in row_chunks(pair.n_slots, max(pair.shape)):
        own = _words(stream, rows.stop - rows.start, pair.first.width, pair.bits)
        share -= matmul_t(own, masked[rows])
    return share


def finish_second(pair: Pair, blocks: BlockSet, dealt: DealSecond, masked: Ring) -> Ring:
    """Second party: its share s_Q, ring (d_first, d_second). masked: the peer's X_P + R_P."""
    _check_blocks(pair, blocks, Role.SECOND)
    _check_masked(pair, masked, Role.FIRST)
    _check_array(dealt.correction, pair.shape, pair.bits, "correction")
    share = dealt.correction.copy()
    for rows in row_chunks(pair.n_slots, max(pair.shape)):
        share += blocks.product_t(masked[rows], rows).T
    return share


# --- opening -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OpenPlan:
    """One table to open. coins: N shared coins a cell; None: each party's own Gaussian."""

    query: Query
    coins: int | None = None

    def __post_init__(self) -> None:
        if not self.query.is_cross:
            raise ProtocolError("only a cross table is opened from shares.")
        if self.coins is not None and (self.coins < 1 or self.query.weight is not None):
            raise ProtocolError("coins are for counts, at least one a cell. Use Gaussian noise.")


@dataclass(frozen=True, kw_only=True)
class CoinsFirst:
    """First party's coins: one seed for each plan that has coins, in order."""

    seeds: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class CoinsSecond:
    """Second party's coins: uint8 (cells, coins, width) for each plan that has coins, in order."""

    words: tuple[NDArray[np.uint8], ...] = field(repr=False)


def table_shape(pair: Pair, query: Query) -> tuple[int, int]:
    """Shape of a query's table: that of `twinweave.workload.queries.shape`."""
    spans = [pair.layout(pair.role(side.party)).span(side) for side in query.sides]
    return spans[0].stop - spans[0].start, spans[1].stop - spans[1].start


def open_cells(pair: Pair, query: Query) -> int:
    """Cells that are opened: all, row-major; of a count all but [absent, absent], the last."""
    return prod(table_shape(pair, query)) - (query.weight is None)


def deal_coins(
    pair: Pair, plans: Sequence[OpenPlan], secret: bytes
) -> tuple[CoinsFirst, CoinsSecond]:
    """Server: coins for every plan that asks for them. secret: 32 fresh bytes for each call."""
    seeds, words = [], []
    for plan in plans:
        if plan.coins is not None:
            seed, dealt = coinage.deal_coins(
                open_cells(pair, plan.query),
                plan.coins,
                coinage.word_bytes(pair.n_slots, plan.coins),
                hkdf(secret, canonical_json(plan)),
            )
            seeds.append(seed)
            words.append(dealt)
    return CoinsFirst(seeds=tuple(seeds)), CoinsSecond(words=tuple(words))


def open_shares(
    pair: Pair,
    share: Ring,
    plans: Sequence[OpenPlan],
    *,
    pair_secret: bytes,
    label: str,
    coins: CoinsFirst | CoinsSecond,
    noise: Sequence[NDArray[np.int64]],
) -> tuple[Ring, ...]:
    """Both parties: for each plan the share that the server may see, ring (open_cells,).

    pair_secret: 32 bytes that both parties hold and the server does not.
    label: names this opening (phase and attempt); one label is never used for two deals of
        coins, and repeats only with identical inputs.
    coins: this party's deal; its type says whether the party is first or second.
    noise: int64 (open_cells,) for each plan without coins, in order: this party's own draw.
    """
    _check_array(share, pair.shape, pair.bits, "share")
    role = Role.FIRST if isinstance(coins, CoinsFirst) else Role.SECOND
    dealt: list[bytes | NDArray[np.uint8]] = []
    dealt.extend(coins.seeds if isinstance(coins, CoinsFirst) else coins.words)
    with_coins = sum(plan.coins is not None for plan in plans)
    if len(dealt) != with_coins or len(noise) != len(plans) - with_coins:
        raise ProtocolError("every plan takes either its coins or its noise, in order.")
    if len(set(plans)) != len(plans):
        raise ProtocolError("a table is opened twice under one label. List each plan once.")
    next_deal, next_noise = iter(dealt), iter(noise)
    opened: list[Ring] = []
    for plan in plans:
        cells = open_cells(pair, plan.query)
        values = _block(pair, share, plan.query).ravel()[:cells]
        key = hkdf(pair_secret, "open", label, canonical_json(plan))
        if plan.coins is None:
            values = values + _own_noise(next(next_noise), cells, pair.bits)
        else:
            signs = Keystream(hkdf(key, "signs"))
            width = coinage.word_bytes(pair.n_slots, plan.coins)
            heads = _heads(next(next_deal), signs, (cells, plan.coins, width))
            # Dropping high bits is a ring homomorphism: shares stay shares.
            values = values.astype(np.uint32) + heads
        opened.append(_rerandomised(pair, plan, values, key, role))
    return tuple(opened)


def reconstruct(
    pair: Pair,
    plans: Sequence[OpenPlan],
    first: Sequence[Ring],
    second: Sequence[Ring],
) -> tuple[NDArray[np.float64], ...]:
    """Server: the noisy tables, float64 of `table_shape`, unbiased; [absent, absent] is 0."""
    if not len(plans) == len(first) == len(second):
        raise ProtocolError("an opening has one share a plan from each party.")
    tables = []
    for plan, a, b in zip(plans, first, second, strict=True):
        cells = open_cells(pair, plan.query)
        for x in (a, b):
            _check_array(x, (cells,), 32 if plan.coins else pair.bits, "opened share")
        total = a + b
        if plan.coins is None:
            values = to_signed(total).astype(np.float64)
        else:
            values = (total & _open_mask(pair, plan.coins)).astype(np.float64) - plan.coins / 2
        shape = table_shape(pair, plan.query)
        tables.append(np.append(values, np.zeros(prod(shape) - cells)).reshape(shape))
    return tuple(tables)


def _rerandomised(pair: Pair, plan: OpenPlan, values: Ring, key: bytes, role: Role) -> Ring:
    """Add (first) or subtract (second) the pair's zero sharing; drop bits beyond the modulus."""
    zero = _words(Keystream(hkdf(key, "zero")), 1, len(values), values.dtype.itemsize * 8)[0]
    masked: Ring = values + zero if role is Role.FIRST else values - zero
    # The bits that coin words do not define depend on the signs: they must not leave.
    if plan.coins is not None:
        masked &= _open_mask(pair, plan.coins)
    return masked


def _open_mask(pair: Pair, coins: int) -> np.uint32:
    return coinage.modulus_mask(coinage.word_bytes(pair.n_slots, coins))


# --- helpers -----------------------------------------------------------------------------


def _matrix_stream(seed: bytes) -> Keystream:
    return Keystream(hkdf(seed, "matrix"))


def _words(stream: Keystream, rows: int, width: int, bits: int) -> Ring:
    """The next rows of a uniform ring matrix; streams are row-major, so chunks do not matter."""
    n = rows * width
    words: Ring = stream.words32(n) if bits == 32 else stream.words64(n)
    matrix: Ring = words.reshape(rows, width)
    return matrix


def _first_correction(pair: Pair, seed: bytes) -> Ring:
    """r_P."""
    return _words(Keystream(hkdf(seed, "correction")), *pair.shape, pair.bits)


def _block(pair: Pair, share: Ring, query: Query) -> Ring:
    """The query's part of a share, oriented as the query lists its sides."""
    sides = {pair.role(side.party): side for side in query.sides}
    part: Ring
    part = share[pair.first.span(sides[Role.FIRST]), pair.second.span(sides[Role.SECOND])]
    return part if query.sides[0].party == pair.first.party else part.T


def _own_noise(noise: NDArray[np.int64], cells: int, bits: int) -> Ring:
    if noise.shape != (cells,) or noise.dtype != np.int64:
        raise ProtocolError("noise is int64, one number an opened cell.")
    limit = 1 << (bits - 3)
    if cells and not -limit < noise.min() <= noise.max() < limit:
        raise ProtocolError("noise exceeds the ring. Use less noise or a larger ring.")
    return to_ring(noise, bits)


def _heads(
    dealt: bytes | NDArray[np.uint8], signs: Keystream, shape: tuple[int, int, int]
) -> NDArray[np.uint32]:
    if isinstance(dealt, bytes):
        return coinage.first_noise(dealt, signs, *shape[:2])
    if dealt.shape != shape:
        raise ProtocolError("dealt coins do not fit the plan. Deal for the same plans.")
    return coinage.second_noise(dealt, signs)


def _check_blocks(pair: Pair, blocks: BlockSet, role: Role) -> None:
    if blocks.layout != pair.layout(role) or blocks.n_slots != pair.n_slots:
        raise ProtocolError(f"these blocks are not those of the {role} party of this product.")


def _check_masked(pair: Pair, masked: Ring, sender: Role) -> None:
    _check_array(masked, (pair.n_slots, pair.layout(sender).width), pair.bits, "masked matrix")


def _check_array(array: Ring, shape: tuple[int, ...], bits: int, what: str) -> None:
    if array.shape != shape or array.dtype != dtype_of(bits):
        raise ProtocolError(f"a {what} of shape {shape} in {bits} bits is expected.")
