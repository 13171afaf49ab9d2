"""Cross tables without a dealer: against the clear, and what the party with the key sees."""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.protocols.products.world import (
    PAIR,
    QUERIES,
    SEGMENT_VISIT,
    SUM_SPEND,
    Table,
    blocks_of,
    both_tables,
    in_the_clear,
    opened_tables,
    plan,
    planned,
    product_pair,
    side,
)
from tests.statistics import p_bytes, p_levels, plausible
from twinweave.errors import ConfigError, ProtocolError
from twinweave.protocols import lattice
from twinweave.protocols.products import bfv, encrypted
from twinweave.protocols.products.blocks import BlockLayout, BlockSet, random_blocks
from twinweave.protocols.products.pair import Pair
from twinweave.protocols.ring import Ring, matmul_t
from twinweave.tables.contingency import Axis
from twinweave.workload.queries import Query

pytest.importorskip("tenseal")
KEY = b"\x05" * 32
SMALL = (SEGMENT_VISIT, SUM_SPEND)


def build(
    n_slots: int, rows: Sequence[int], queries: Sequence[Query] = SMALL, seed: int = 1
) -> tuple[dict[str, Table], Pair, dict[str, BlockSet]]:
    tables, pair = both_tables(n_slots, rows, seed), product_pair(queries, n_slots)
    return tables, pair, blocks_of(pair, tables)


def ends(pair: Pair) -> tuple[str, str]:
    """(offering party, the other)."""
    own, other = bfv.sides(pair)
    return own.party, other.party


def shares(pair: Pair, blocks: Mapping[str, BlockSet]) -> dict[str, Ring]:
    """By party."""
    own, other = ends(pair)
    offered = encrypted.offer(pair, blocks[own], KEY)
    theirs, answered = encrypted.respond(pair, blocks[other], offered)
    return {own: encrypted.finish(pair, KEY, answered), other: theirs}


def widened(layout: BlockLayout, width: int) -> BlockLayout:
    """The layout with one block, of that width."""
    return replace(layout, sides=layout.sides[:1], axes=(Axis.whole(width, "absent"),))


@settings(max_examples=12, deadline=None)
@given(n_slots=st.integers(1, 40), data=st.data(), seed=st.integers(0, 2**32))
def test_tables_match_the_clear(n_slots: int, data: st.DataObject, seed: int) -> None:
    rows = [data.draw(st.integers(0, n_slots)) for _ in range(2)]
    queries = data.draw(st.sampled_from([SMALL, (SEGMENT_VISIT,)]))
    tables, pair, blocks = build(n_slots, rows, queries, seed)
    got = opened_tables(pair, shares(pair, blocks), plan(*map(planned, queries)))
    for i, query in enumerate(queries):
        np.testing.assert_array_equal(got[i], in_the_clear(query, tables, n_slots))


@pytest.mark.parametrize("queries", [QUERIES, QUERIES[1:2]])
def test_several_chunks_and_either_orientation(queries: Sequence[Query]) -> None:
    _, pair, blocks = build(3000, (500, 600), queries)
    found = shares(pair, blocks)
    exact = matmul_t(*(blocks[p].dense(32) for p in "ab"))
    np.testing.assert_array_equal(found["a"] + found["b"], exact)
    assert len(list(bfv.chunks(pair))) > 1
    assert found["a"].shape == pair.shape


def test_both_parties_may_offer() -> None:
    # The narrower side encrypts: here the first, then the second.
    _, narrow, _ = build(9, (5, 5), (SEGMENT_VISIT,))
    assert ends(narrow) == ("b", "a")
    assert ends(replace(narrow, first=widened(narrow.first, 3))) == ("a", "b")


def test_weights_of_the_wider_party_multiply_the_error_and_still_decrypt() -> None:
    query = Query(sides=(side("a", "region"), side("b", "region", "visit", weight="spend")))
    _, pair, blocks = build(64_000, (9000, 15_000), (query,))
    assert ends(pair) == ("a", "b")
    found = shares(pair, blocks)
    exact = matmul_t(*(blocks[p].dense(32) for p in "ab"))
    np.testing.assert_array_equal(found["a"] + found["b"], exact)


# --- what the party with the key sees ------------------------------------------------------


def decrypted(pair: Pair, answered: bytes) -> NDArray[np.uint32]:
    """All coefficients that the offering party decrypts, uint32 (columns, degree)."""
    api, parameters = lattice.available("test"), bfv.PARAMETERS
    decryptor = api.Decryptor(parameters.context(), parameters.secret_key(KEY))
    rows = []
    for part in lattice.split(answered, "test"):
        plain = api.Plaintext()
        decryptor.decrypt(parameters.ciphertext(part, "test"), plain)
        row = np.zeros(bfv.DEGREE, np.uint32)
        row[: plain.coeff_count()] = [plain.data(i) for i in range(plain.coeff_count())]
        rows.append(row)
    return np.array(rows)


def answer(n_slots: int = 4000) -> tuple[Pair, dict[str, BlockSet], tuple[Ring, bytes]]:
    _, pair, blocks = build(n_slots, (n_slots // 2, n_slots // 2), (SEGMENT_VISIT,))
    own, other = ends(pair)
    return (
        pair,
        blocks,
        encrypted.respond(pair, blocks[other], encrypted.offer(pair, blocks[own], KEY)),
    )


@pytest.mark.curious("together-encrypted")
@pytest.mark.broken("together-encrypted")
def test_decrypted_coefficients_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, _, (_, answered) = answer()
    assert plausible(p_bytes(decrypted(pair, answered)))
    monkeypatch.setattr(secrets, "token_bytes", bytes)  # broken: no masks, cross terms show
    pair, _, (_, answered) = answer()
    assert not plausible(p_bytes(decrypted(pair, answered)))


def errors(pair: Pair, parameters: lattice.Parameters, shift: Any, masks: Any) -> Any:
    """The integers that `_shift` adds to round(masks q / t): object (degree,)."""
    q = prod(parameters.primes)
    rests = zip(shift, parameters.primes, strict=True)
    value = sum(row.astype(object) * (q // p) * pow(q // p, -1, p) for row, p in rests) % q
    flood = (value - (masks.astype(object) * q + (1 << 31)) // (1 << 32)) % q
    return np.where(flood > q // 2, flood - q, flood)


def flood_p_value(pair: Pair, parameters: lattice.Parameters, bits: int) -> float:
    """Of flooding noise that should be uniform in [-2**bits, 2**bits), by its upper bits."""
    masks = np.frombuffer(secrets.token_bytes(4 * bfv.DEGREE), np.uint32)
    flood = errors(pair, parameters, bfv.shift(pair, parameters, masks), masks)
    assert (np.abs(flood) <= 1 << bits).all()
    cells = ((flood + (1 << bits)) >> (bits - 5)).astype(np.int64)
    low = (flood & 63).astype(np.int64)
    return min(p_levels(c, 64) for c in (cells, low))


def test_flooding_noise_is_uniform_and_as_wide_as_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    _, pair, _ = build(1000, (9, 9), (SEGMENT_VISIT,))
    parameters, bits = bfv.PARAMETERS, bfv.flood_bits(pair)
    assert plausible(flood_p_value(pair, parameters, bits))
    monkeypatch.setattr(bfv, "flood_bits", lambda _: bits - 1)  # broken: half as wide
    assert not plausible(flood_p_value(pair, parameters, bits))


def error_bits(pair: Pair, blocks: Mapping[str, BlockSet]) -> int:
    """Bits of the largest error before flooding, from SEAL's noise budget."""
    own, other = ends(pair)
    api, parameters = lattice.available("test"), bfv.PARAMETERS
    sums = encrypted._products(pair, blocks[other], encrypted.offer(pair, blocks[own], KEY))
    decryptor = api.Decryptor(parameters.context(), parameters.secret_key(KEY))
    q = np.prod(np.array(parameters.primes, object))
    return max(int(q).bit_length() - 32 - decryptor.invariant_noise_budget(c) for c in sums)


def test_errors_depend_on_the_columns_but_stay_below_the_bound() -> None:
    _, pair, blocks = build(30_000, (30_000, 30_000), (SEGMENT_VISIT,))
    other = ends(pair)[1]
    few = random_blocks(pair.layout(other), pair.n_slots, np.random.default_rng(0))
    few.positions[:] = 0  # everyone in one column: the largest multiplier
    bits = error_bits(pair, {**blocks, other: few})
    assert bits <= bfv.worst_error(pair).bit_length()
    assert bfv.flood_bits(pair) >= bits + bfv.HIDING_BITS
    assert bfv.flood_bits(pair) <= bfv.CAPACITY


def test_answers_and_offers_are_randomised() -> None:
    pair, blocks, (share, answered) = answer(100)
    own, other = ends(pair)
    offers = [encrypted.offer(pair, blocks[own], KEY) for _ in "ab"]
    assert offers[0] != offers[1]
    again = encrypted.respond(pair, blocks[other], offers[0])
    assert again[1] != answered
    assert (again[0] != share).mean() > 0.9
    assert KEY not in offers[0]


def test_seeded_generator_serves_the_secret_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = bfv.PARAMETERS
    first, second = (parameters.secret_key(KEY) for _ in "ab")
    assert [first.data().data(i) for i in range(9)] == [second.data().data(i) for i in range(9)]
    keys = [lattice.dump(parameters.public_key(first)) for _ in "ab"]
    assert keys[0][200:] != keys[1][200:]
    # Broken: a context with a fixed seed gives the same public key, from the secret's stream.
    seeded = lattice._parameters(parameters)
    seeded.set_random_generator(lattice.available("t").Blake2xbPRNGFactory(list(range(8))))
    context = lattice._build(parameters, seeded)
    monkeypatch.setattr(lattice, "_context", lambda _: context)
    keys = [lattice.dump(parameters.public_key(first)) for _ in "ab"]
    assert keys[0] == keys[1]


# --- refusals ------------------------------------------------------------------------------


def test_tables_that_are_too_large_are_refused_with_an_estimate() -> None:
    _, pair, blocks = build(9, (5, 5), (SEGMENT_VISIT,))
    bfv.check(pair)
    for large in (replace(pair, n_slots=200_000_000), replace(pair, bits=64)):
        with pytest.raises(ConfigError, match=r"protocol\.cross_tables=secret_sharing"):
            bfv.check(large)
    with pytest.raises(ConfigError, match=r"[\d,]+ ciphertexts, [\d,]+ products, about"):
        bfv.check(replace(pair, n_slots=50_000_000))
    with pytest.raises(ConfigError, match="too wide"):
        bfv.check(
            replace(
                pair,
                first=widened(pair.first, 9000),
                second=widened(pair.second, 9000),
            )
        )
    with pytest.raises(ConfigError, match="about"):
        encrypted.offer(replace(pair, n_slots=50_000_000), blocks[ends(pair)[0]], KEY)


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.startswith("tenseal"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"twinweave\[homomorphic\]"):
        bfv.check(build(9, (5, 5))[1])


def test_steps_refuse_what_does_not_fit() -> None:
    _, pair, blocks = build(3000, (100, 100), (SEGMENT_VISIT,))
    own, other = ends(pair)
    offered = encrypted.offer(pair, blocks[own], KEY)
    _, answered = encrypted.respond(pair, blocks[other], offered)
    head, first, *rest = lattice.split(offered, "test")
    reply = lattice.split(answered, "test")
    junk = bytes(first)[:-7] + b"1234567"
    smaller = replace(bfv.PARAMETERS, degree=4096, prime_bits=(36, 36, 37))
    elsewhere = lattice.dump(smaller.public_key(smaller.secret_key(KEY)))
    for step in (
        lambda: encrypted.offer(pair, blocks[other], KEY),
        lambda: encrypted.respond(pair, blocks[own], offered),
        lambda: encrypted.respond(pair, blocks[other], b""),
        lambda: encrypted.respond(pair, blocks[other], offered[:-3]),
        lambda: encrypted.respond(pair, blocks[other], lattice.join([bytes(head)])),
        lambda: encrypted.respond(pair, blocks[other], lattice.join([bytes(first), junk])),
        lambda: encrypted.respond(
            pair, blocks[other], lattice.join([elsewhere, *map(bytes, (first, *rest))])
        ),
        lambda: encrypted.respond(
            pair, blocks[other], lattice.join([bytes(head), b"x" * 40, *map(bytes, rest)])
        ),
        lambda: encrypted.finish(pair, KEY, b""),
        lambda: encrypted.finish(pair, KEY, answered[:-1]),
        lambda: encrypted.finish(pair, KEY, lattice.join(map(bytes, reply[1:]))),
        lambda: encrypted.finish(pair, KEY, lattice.join([b"", *map(bytes, reply[1:])])),
    ):
        with pytest.raises(ProtocolError):
            step()


@pytest.mark.curious("together-encrypted")
def test_another_key_opens_nothing() -> None:
    _, pair, blocks = build(50, (30, 30), (SEGMENT_VISIT,))
    own, other = ends(pair)
    theirs, answered = encrypted.respond(
        pair, blocks[other], encrypted.offer(pair, blocks[own], KEY)
    )
    total = encrypted.finish(pair, PAIR, answered) + theirs
    assert (total > 50).mean() > 0.5
