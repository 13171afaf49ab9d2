"""Cross tables without a dealer: against the clear, and what the party with the key sees."""

import builtins
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocols.products.test_cross_tables import (
    JOINT,
    QUERIES,
    SEGMENT_VISIT,
    SUM_SPEND,
    A,
    B,
    in_the_clear,
    random_table,
    side,
)
from tests.statistics import p_bytes, p_levels, plausible
from twinweave.errors import ConfigError, ProtocolError
from twinweave.protocols import lattice
from twinweave.protocols.products import cross_tables as ct
from twinweave.protocols.products import homomorphic_tables as ht
from twinweave.protocols.products.blocks import build_blocks, random_blocks
from twinweave.protocols.products.cross_tables import OpenPlan, Role
from twinweave.protocols.ring import matmul_t
from twinweave.workload.queries import Query

pytest.importorskip("tenseal")
KEY, PAIR = b"\x05" * 32, b"\x06" * 32
SMALL = (SEGMENT_VISIT, SUM_SPEND)


def build(n_slots, rows, queries=SMALL, seed=1):
    rng = np.random.default_rng(seed)
    tables = {s.party: random_table(s, n, n_slots, rng) for s, n in zip((A, B), rows, strict=True)}
    pair = ct.pair_of(JOINT, queries, n_slots, first="a", second="b")
    blocks = {
        role: build_blocks(schema, pair.layout(role), n_slots=n_slots, **vars(tables[schema.party]))
        for role, schema in zip(Role, (A, B), strict=True)
    }
    return tables, pair, blocks


def roles(pair):
    own = ht.offering(pair)
    return own, Role.SECOND if own is Role.FIRST else Role.FIRST


def shares(pair, blocks):
    """By role."""
    own, other = roles(pair)
    offered = ht.offer(pair, blocks[own], KEY)
    theirs, answered = ht.respond(pair, blocks[other], offered)
    return {own: ht.finish(pair, KEY, answered), other: theirs}


def table_of(pair, found, queries, noise=None):
    plans = [OpenPlan(query=q) for q in queries]
    coins = {Role.FIRST: ct.CoinsFirst(seeds=()), Role.SECOND: ct.CoinsSecond(words=())}
    zeros = [np.zeros(ct.open_cells(pair, q), np.int64) for q in queries]
    opened = [
        ct.open_shares(
            pair,
            found[r],
            plans,
            pair_secret=PAIR,
            label="open/1",
            coins=coins[r],
            noise=(noise or {}).get(r, zeros),
        )
        for r in Role
    ]
    return ct.reconstruct(pair, plans, *opened)


@settings(max_examples=12, deadline=None)
@given(n_slots=st.integers(1, 40), data=st.data(), seed=st.integers(0, 2**32))
def test_tables_match_the_clear(n_slots, data, seed):
    rows = [data.draw(st.integers(0, n_slots)) for _ in range(2)]
    queries = data.draw(st.sampled_from([SMALL, (SEGMENT_VISIT,)]))
    tables, pair, blocks = build(n_slots, rows, queries, seed)
    for query, table in zip(queries, table_of(pair, shares(pair, blocks), queries), strict=True):
        np.testing.assert_array_equal(table, in_the_clear(query, tables, n_slots))


@pytest.mark.parametrize("queries", [QUERIES, QUERIES[1:2]])
def test_several_chunks_and_either_orientation(queries):
    _, pair, blocks = build(3000, (500, 600), queries)
    found = shares(pair, blocks)
    exact = matmul_t(*(blocks[r].dense(32) for r in Role))
    np.testing.assert_array_equal(found[Role.FIRST] + found[Role.SECOND], exact)
    assert len(list(ht._chunks(pair))) > 1
    assert found[Role.FIRST].shape == pair.shape


def test_both_parties_may_offer():
    # The narrower side encrypts: here the first, then the second.
    _, narrow, _ = build(9, (5, 5), (SEGMENT_VISIT,))
    assert ht.offering(narrow) is Role.SECOND
    assert ht.offering(replace(narrow, first=replace(narrow.first, widths=(3,)))) is Role.FIRST


def test_weights_take_a_third_prime():
    query = Query(sides=(side("a", "region"), side("b", "region", "visit", weight="spend")))
    _, pair, blocks = build(64_000, (9000, 15_000), (query,))
    assert ht.offering(pair) is Role.FIRST  # so the weights multiply the error
    assert len(ht._parameters(pair).primes) == 3
    assert len(ht._parameters(replace(pair, n_slots=5000)).primes) == 2
    found = shares(pair, blocks)
    exact = matmul_t(*(blocks[r].dense(32) for r in Role))
    np.testing.assert_array_equal(found[Role.FIRST] + found[Role.SECOND], exact)


def test_noise_of_both_parties_is_opened():
    tables, pair, blocks = build(300, (180, 170), (SEGMENT_VISIT,))
    rng = np.random.default_rng(4)
    cells = ct.open_cells(pair, SEGMENT_VISIT)
    noise = {r: [rng.integers(-50, 50, cells)] for r in Role}
    (table,) = table_of(pair, shares(pair, blocks), (SEGMENT_VISIT,), noise)
    added = (table - in_the_clear(SEGMENT_VISIT, tables, 300)).ravel()[:-1]
    np.testing.assert_array_equal(added, noise[Role.FIRST][0] + noise[Role.SECOND][0])


# --- what the party with the key sees ------------------------------------------------------


def decrypted(pair, answered):
    """All coefficients that the offering party decrypts, uint32 (columns, degree)."""
    api, parameters = lattice.available("test"), ht._parameters(pair)
    decryptor = api.Decryptor(parameters.context(), parameters.secret_key(KEY))
    rows = []
    for part in lattice.split(answered, "test"):
        plain = api.Plaintext()
        decryptor.decrypt(parameters.ciphertext(part, "test"), plain)
        row = np.zeros(ht.DEGREE, np.uint32)
        row[: plain.coeff_count()] = [plain.data(i) for i in range(plain.coeff_count())]
        rows.append(row)
    return np.array(rows)


def answer(n_slots=4000):
    _, pair, blocks = build(n_slots, (n_slots // 2, n_slots // 2), (SEGMENT_VISIT,))
    own, other = roles(pair)
    return pair, blocks, ht.respond(pair, blocks[other], ht.offer(pair, blocks[own], KEY))


def test_decrypted_coefficients_are_uniform(monkeypatch):
    pair, _, (_, answered) = answer()
    assert plausible(p_bytes(decrypted(pair, answered)))
    monkeypatch.setattr(ht.secrets, "token_bytes", bytes)  # broken: no masks, cross terms show
    pair, _, (_, answered) = answer()
    assert not plausible(p_bytes(decrypted(pair, answered)))


def errors(pair, parameters, shift, masks):
    """The integers that `_shift` adds to round(masks q / t): object (degree,)."""
    first, second = parameters.primes
    q = first * second
    x, y = (row.astype(object) for row in shift)
    value = (x + first * ((y - x) * pow(first, -1, second) % second)) % q
    flood = (value - (masks.astype(object) * q + (1 << 31)) // (1 << 32)) % q
    return np.where(flood > q // 2, flood - q, flood)


def flood_p_value(pair, parameters, bits):
    """Of flooding noise that should be uniform in [-2**bits, 2**bits), by its upper bits."""
    masks = np.frombuffer(ht.secrets.token_bytes(4 * ht.DEGREE), np.uint32)
    flood = errors(pair, parameters, ht._shift(pair, parameters, masks), masks)
    assert (np.abs(flood) <= 1 << bits).all()
    cells = ((flood + (1 << bits)) >> (bits - 5)).astype(np.int64)
    low = (flood & 63).astype(np.int64)
    return min(p_levels(c, 64) for c in (cells, low))


def test_flooding_noise_is_uniform_and_as_wide_as_claimed(monkeypatch):
    _, pair, _ = build(1000, (9, 9), (SEGMENT_VISIT,))
    parameters, bits = ht._parameters(pair), ht._flood_bits(pair)
    assert plausible(flood_p_value(pair, parameters, bits))
    monkeypatch.setattr(ht, "_flood_bits", lambda _: bits - 1)  # broken: half as wide
    assert not plausible(flood_p_value(pair, parameters, bits))


def error_bits(pair, blocks):
    """Bits of the largest error before flooding, from SEAL's noise budget."""
    own, other = roles(pair)
    api, parameters = lattice.available("test"), ht._parameters(pair)
    sums = ht._products(pair, blocks[other], ht.offer(pair, blocks[own], KEY))
    decryptor = api.Decryptor(parameters.context(), parameters.secret_key(KEY))
    q = np.prod(np.array(parameters.primes, object))
    return max(int(q).bit_length() - 32 - decryptor.invariant_noise_budget(c) for c in sums)


def test_errors_depend_on_the_columns_but_stay_below_the_bound():
    _, pair, blocks = build(30_000, (30_000, 30_000), (SEGMENT_VISIT,))
    other = roles(pair)[1]
    few = random_blocks(pair.layout(other), pair.n_slots, np.random.default_rng(0))
    few.positions[:] = 0  # everyone in one column: the largest multiplier
    bits = error_bits(pair, {**blocks, other: few})
    assert bits <= ht._worst_error(pair).bit_length()
    assert ht._flood_bits(pair) >= bits + ht.HIDING_BITS
    assert ht._flood_bits(pair) <= ht._capacity(len(ht._parameters(pair).prime_bits) - 1)


def test_answers_and_offers_are_randomised():
    pair, blocks, (share, answered) = answer(100)
    own, other = roles(pair)
    offers = [ht.offer(pair, blocks[own], KEY) for _ in "ab"]
    assert offers[0] != offers[1]
    again = ht.respond(pair, blocks[other], offers[0])
    assert again[1] != answered
    assert (again[0] != share).mean() > 0.9
    assert KEY not in offers[0]


def test_seeded_generator_serves_the_secret_key_alone(monkeypatch):
    parameters = ht._parameters(build(9, (5, 5))[1])
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


def test_tables_that_are_too_large_are_refused_with_an_estimate():
    _, pair, _ = build(9, (5, 5), (SEGMENT_VISIT,))
    ht.check(pair)
    for large in (replace(pair, n_slots=200_000_000), replace(pair, bits=64)):
        with pytest.raises(ConfigError, match=r"protocol\.cross_tables=secret_sharing"):
            ht.check(large)
    with pytest.raises(ConfigError, match=r"[\d,]+ ciphertexts, [\d,]+ products, about"):
        ht.check(replace(pair, n_slots=50_000_000))
    with pytest.raises(ConfigError, match="too wide"):
        ht.check(
            replace(
                pair,
                first=replace(pair.first, widths=(9000,)),
                second=replace(pair.second, widths=(9000,)),
            )
        )
    with pytest.raises(ConfigError, match="about"):
        ht.offer(replace(pair, n_slots=50_000_000), None, KEY)


def test_missing_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args):
        if name.startswith("tenseal"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"twinweave\[homomorphic\]"):
        ht.check(build(9, (5, 5))[1])


def test_steps_refuse_what_does_not_fit():
    _, pair, blocks = build(3000, (100, 100), (SEGMENT_VISIT,))
    own, other = roles(pair)
    offered = ht.offer(pair, blocks[own], KEY)
    _, answered = ht.respond(pair, blocks[other], offered)
    head, first, *rest = lattice.split(offered, "test")
    reply = lattice.split(answered, "test")
    junk = bytes(first)[:-7] + b"1234567"
    smaller = replace(ht._parameters(pair), degree=4096, prime_bits=(36, 36, 37))
    elsewhere = lattice.dump(smaller.public_key(smaller.secret_key(KEY)))
    for step in (
        lambda: ht.offer(pair, blocks[other], KEY),
        lambda: ht.respond(pair, blocks[own], offered),
        lambda: ht.respond(pair, blocks[other], b""),
        lambda: ht.respond(pair, blocks[other], offered[:-3]),
        lambda: ht.respond(pair, blocks[other], lattice.join([bytes(head)])),
        lambda: ht.respond(pair, blocks[other], lattice.join([bytes(first), junk])),
        lambda: ht.respond(
            pair, blocks[other], lattice.join([elsewhere, *map(bytes, (first, *rest))])
        ),
        lambda: ht.respond(
            pair, blocks[other], lattice.join([bytes(head), b"x" * 40, *map(bytes, rest)])
        ),
        lambda: ht.finish(pair, KEY, b""),
        lambda: ht.finish(pair, KEY, answered[:-1]),
        lambda: ht.finish(pair, KEY, lattice.join(map(bytes, reply[1:]))),
        lambda: ht.finish(pair, KEY, lattice.join([b"", *map(bytes, reply[1:])])),
    ):
        with pytest.raises(ProtocolError):
            step()


def test_another_key_opens_nothing():
    _, pair, blocks = build(50, (30, 30), (SEGMENT_VISIT,))
    own, other = roles(pair)
    theirs, answered = ht.respond(pair, blocks[other], ht.offer(pair, blocks[own], KEY))
    total = ht.finish(pair, PAIR, answered) + theirs
    assert (total > 50).mean() > 0.5
