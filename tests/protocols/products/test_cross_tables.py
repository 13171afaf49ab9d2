"""Secure cross tables against tables counted in the clear, and what each message shows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.statistics import assert_scale, p_levels, p_variance, plausible
from twinweave.errors import ProtocolError
from twinweave.protocols.keystream import Keystream, hkdf
from twinweave.protocols.products import cross_tables as ct
from twinweave.protocols.products.blocks import build_blocks, random_blocks
from twinweave.protocols.products.cross_tables import OpenPlan, Role
from twinweave.protocols.ring import dtype_of, matmul_t
from twinweave.tables.column import VALUE_UNITS, Column, Kind
from twinweave.tables.column import Role as ColumnRole
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.queries import Query, Side, shape

DEALER, PAIR = b"\x01" * 32, b"\x02" * 32


def levels(name, n, **kwargs):
    return Column(
        name=name, kind=Kind.CATEGORICAL, levels=tuple(f"l{i}" for i in range(n)), **kwargs
    )


KEY = Column(name="id", kind=Kind.CATEGORICAL, role=ColumnRole.KEY)
SPEND = Column(name="spend", kind=Kind.CONTINUOUS, role=ColumnRole.VALUE, bounds=(0, 100), bins=4)
A = Schema(party="a", columns=(levels("segment", 3), KEY, levels("region", 2, shared=True)))
B = Schema(party="b", columns=(KEY, levels("region", 2, shared=True), levels("visit", 2), SPEND))
JOINT = JointSchema(schemas=(A, B))


def side(party, *columns, **kwargs):
    return Side(party=party, columns=columns, **kwargs)


SEGMENT_VISIT = Query(sides=(side("a", "segment"), side("b", "visit")), priority=True)
SUM_SPEND = Query(sides=(side("a", "segment"), side("b", weight="spend")))
QUERIES = (
    SEGMENT_VISIT,
    Query(sides=(side("b", "visit", "region"), side("a", "region", "segment"))),
    Query(sides=(side("a"), side("b", "spend"))),
    SUM_SPEND,
    Query(sides=(side("b", "region", weight="spend", power=2), side("a", "segment", "region"))),
)


@dataclass(frozen=True, kw_only=True)
class Table:
    slots: np.ndarray
    codes: np.ndarray
    units: dict


def random_table(schema, n_rows, n_slots, rng):
    sizes = [c.size for c in schema.data_columns]
    values = [c.name for c in schema.with_role(ColumnRole.VALUE)]
    return Table(
        slots=rng.permutation(n_slots)[:n_rows].astype(np.int64),
        codes=np.stack([rng.integers(0, s, n_rows) for s in sizes], axis=1).astype(np.int32),
        units={v: rng.integers(0, VALUE_UNITS + 1, n_rows) for v in values},
    )


def in_the_clear(query, tables, n_slots):
    """Slow oracle: one user after the other."""
    total = np.zeros(shape(JOINT, query), dtype=np.int64)
    if query.weight is None:
        total[-1, -1] -= n_slots - len(set(tables["a"].slots) | set(tables["b"].slots))
    for slot in range(n_slots):
        cell, amount = [], 1
        for s in query.sides:
            schema, table = JOINT.schema(s.party), tables[s.party]
            found = np.flatnonzero(table.slots == slot)
            if not len(found):
                sizes = [schema.column(c).size for c in s.columns]
                cell.append(int(np.prod(sizes)) if s.weight is None else 0)
                amount *= s.weight is None
                continue
            row, position = found[0], 0
            for c in s.columns:
                code = table.codes[row, schema.names.index(c)]
                position = position * schema.column(c).size + code
            cell.append(position)
            if s.weight:
                u = int(table.units[s.weight][row])
                amount *= u if s.power == 1 else round(u * u / VALUE_UNITS)
        total[tuple(cell)] += amount
    return total


@dataclass(frozen=True, kw_only=True)
class World:
    """Every party's state in one process."""

    pair: ct.Pair
    blocks: dict
    deals: tuple
    masked: tuple
    shares: tuple


def play(tables, n_slots, bits=None, queries=QUERIES, secret=DEALER):
    pair = ct.pair_of(JOINT, queries, n_slots, first="a", second="b")
    pair = replace(pair, bits=bits or pair.bits)
    blocks = {
        role: build_blocks(schema, pair.layout(role), n_slots=n_slots, **vars(tables[schema.party]))
        for role, schema in zip(Role, (A, B), strict=True)
    }
    deals = ct.deal(pair, secret)
    masked = tuple(ct.mask(pair, blocks[r], d) for r, d in zip(Role, deals, strict=True))
    shares = (
        ct.finish_first(pair, deals[0], masked[1]),
        ct.finish_second(pair, blocks[Role.SECOND], deals[1], masked[0]),
    )
    return World(pair=pair, blocks=blocks, deals=deals, masked=masked, shares=shares)


def zeros(world, plans):
    return [np.zeros(ct.open_cells(world.pair, p.query), np.int64) for p in plans if not p.coins]


def opened(world, plans, noise=None, label="open/1", secret=PAIR):
    coins = ct.deal_coins(world.pair, plans, DEALER)
    noise = noise or (zeros(world, plans), zeros(world, plans))
    return tuple(
        ct.open_shares(world.pair, share, plans, pair_secret=secret, label=label, coins=c, noise=n)
        for share, c, n in zip(world.shares, coins, noise, strict=True)
    )


def example(n_slots=300, rows=(180, 170), bits=None, seed=3, **kwargs):
    rng = np.random.default_rng(seed)
    tables = {s.party: random_table(s, n, n_slots, rng) for s, n in zip((A, B), rows, strict=True)}
    return tables, play(tables, n_slots, bits, **kwargs)


# --- exactness ---------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    n_slots=st.integers(1, 40),
    data=st.data(),
    bits=st.sampled_from([32, 64]),
    seed=st.integers(0, 2**32),
)
def test_tables_match_the_clear(n_slots, data, bits, seed):
    rows = [data.draw(st.integers(0, n_slots)) for _ in range(2)]
    tables, world = example(n_slots, rows, bits, seed)
    plans = [OpenPlan(query=q) for q in QUERIES]
    got = ct.reconstruct(world.pair, plans, *opened(world, plans))
    for query, table in zip(QUERIES, got, strict=True):
        np.testing.assert_array_equal(table, in_the_clear(query, tables, n_slots))


@pytest.mark.parametrize("bits", [32, 64])
def test_chunks_change_nothing(bits, monkeypatch):
    _, whole = example(600, bits=bits)
    monkeypatch.setattr("twinweave.protocols.ring._CHUNK_CELLS", 1)
    _, chunked = example(600, bits=bits)
    for a, b in zip(whole.masked + whole.shares, chunked.masked + chunked.shares, strict=True):
        np.testing.assert_array_equal(a, b)
    x, y = (whole.blocks[r].dense(bits) for r in Role)
    np.testing.assert_array_equal(whole.shares[0] + whole.shares[1], matmul_t(x, y))


def test_noise_of_both_parties_is_added():
    tables, world = example()
    plans = [OpenPlan(query=q) for q in QUERIES]
    rng = np.random.default_rng(11)
    noise = tuple([rng.integers(-500, 500, len(z)) for z in zeros(world, plans)] for _ in "ab")
    got = ct.reconstruct(world.pair, plans, *opened(world, plans, noise))
    for query, table, a, b in zip(QUERIES, got, *noise, strict=True):
        added = (table - in_the_clear(query, tables, 300)).ravel()
        np.testing.assert_array_equal(added[: len(a)], a + b)
        assert (added[len(a) :] == 0).all()  # [absent, absent] is never measured


@pytest.mark.parametrize("bits", [32, 64])
def test_coins_add_centred_binomial_noise(bits):
    tables, world = example(bits=bits)
    counts = [q for q in QUERIES if q.weight is None]
    plans = [OpenPlan(query=SUM_SPEND), *(OpenPlan(query=q, coins=401) for q in counts)]
    got = ct.reconstruct(world.pair, plans, *opened(world, plans))
    np.testing.assert_array_equal(got[0], in_the_clear(SUM_SPEND, tables, 300))
    noise = [
        (t - in_the_clear(q, tables, 300)).ravel()[:-1]
        for q, t in zip(counts, got[1:], strict=True)
    ]
    noise = np.concatenate(noise)
    assert set(np.unique(noise % 1)) == {0.5}  # an odd number of coins, centred
    assert noise.any()
    assert_scale(noise / np.sqrt(401 / 4), p_variance, 0.5, 2.0)


def test_the_ring_grows_with_weights():
    for queries, n_slots, bits in [
        ((SEGMENT_VISIT,), 1 << 20, 32),
        ((SEGMENT_VISIT, SUM_SPEND), 1 << 19, 32),
        ((SEGMENT_VISIT, SUM_SPEND), 1 << 20, 64),
    ]:
        assert ct.pair_of(JOINT, queries, n_slots, first="a", second="b").bits == bits


def test_layout_follows_from_public_facts():
    pair = ct.pair_of(JOINT, QUERIES, 9, first="a", second="b")
    assert pair.first.widths == (4, 7, 2, 7)
    assert pair.second.widths == (3, 5, 5, 1, 2)
    for query in QUERIES:
        assert ct.table_shape(pair, query) == shape(JOINT, query)


def fixed_table(schema):
    rows = np.arange(12)
    sizes = np.array([c.size for c in schema.data_columns])
    start = 0 if schema is A else 5
    return Table(
        slots=rows + start,
        codes=(rows[:, None] % sizes).astype(np.int32),
        units={"spend": rows * 85},
    )


def test_known_answer():
    """Frozen from this construction; a change breaks parties of different versions."""
    world = play({s.party: fixed_table(s) for s in (A, B)}, 20, 32)
    plans = [OpenPlan(query=SEGMENT_VISIT, coins=40), OpenPlan(query=SUM_SPEND)]
    digest = hashlib.sha256()
    for array in (
        world.deals[1].correction,
        *world.masked,
        *world.shares,
        *(x for party in opened(world, plans) for x in party),
    ):
        digest.update(array.astype("<u4").tobytes())
    assert digest.hexdigest() == "0bb4ef5cd9f42c7ba2df15bc014d707f8c9f577a8448ef6705cbf99f5766b383"


# --- who sees what -----------------------------------------------------------------------


def p_uniform(words, n_bytes):
    """Smallest chi-square p-value over the low bytes of 32-bit words."""
    each = np.ascontiguousarray(words, "<u4").view(np.uint8).reshape(-1, 4)
    return min(p_levels(each[:, i], 256) for i in range(n_bytes))


def test_the_peer_sees_uniform_words():
    _, world = example(4000, (3000, 2500))
    for role, masked in zip(Role, world.masked, strict=True):
        assert plausible(p_uniform(masked, 4))
        assert not plausible(p_uniform(world.blocks[role].dense(32), 4))


def dealer_guess(world, opened_share):
    """What the dealer computes from the first party's opened share: R_P^T X_Q if it is bare."""
    pair, (first, second) = world.pair, world.deals
    r_p, r_q = (
        Keystream(hkdf(d.seed, "matrix"))
        .words32(pair.n_slots * pair.layout(r).width)
        .reshape(pair.n_slots, -1)
        for r, d in zip(Role, (first, second), strict=True)
    )
    r = Keystream(hkdf(first.seed, "correction")).words32(world.shares[0].size)
    guess = r.reshape(pair.shape) - opened_share - matmul_t(r_p, r_q)
    return guess, matmul_t(r_p, world.blocks[Role.SECOND].dense(32))


def whole_table_plan():
    """One query whose table is the whole share matrix, so that the dealer's attack is plain."""
    return Query(sides=(side("a", "segment", "region"), side("b", "spend", "visit", "region")))


def first_opened(label="open/1"):
    query = whole_table_plan()
    _, world = example(queries=(query,))
    plans = [OpenPlan(query=query)]
    flat = opened(world, plans, label=label)[0][0]
    return world, np.append(flat, world.shares[0][-1, -1]).reshape(world.pair.shape)


def test_an_opened_share_tells_the_dealer_nothing():
    world, share = first_opened()
    guess, truth = dealer_guess(world, share)
    assert not (guess == truth).ravel()[:-1].any()
    differences = []
    for i in range(60):
        world, share = first_opened(label=f"open/{i}")
        guess, truth = dealer_guess(world, share)
        differences.append((guess - truth).ravel()[:-1])
    assert plausible(p_uniform(np.concatenate(differences), 4))


def test_without_the_zero_sharing_the_dealer_recovers_a_product(monkeypatch):
    """The broken variant that the test above catches."""
    monkeypatch.setattr(ct, "_rerandomised", lambda pair, plan, values, key, role: values)
    world, share = first_opened()
    guess, truth = dealer_guess(world, share)
    np.testing.assert_array_equal(guess.ravel()[:-1], truth.ravel()[:-1])


def test_opened_coins_show_no_bits_beyond_their_modulus():
    _, world = example()
    plans = [OpenPlan(query=q, coins=300) for q in QUERIES if q.weight is None]
    collected = []
    for i in range(150):
        for party in opened(world, plans, label=f"open/{i}"):
            collected += party
    words = np.concatenate(collected)
    assert (words < 1 << 16).all()  # 300 slots and 300 coins take two bytes
    assert plausible(p_uniform(words, 2))


def test_each_label_and_table_has_its_own_zero_sharing():
    _, world = example()
    plans = [OpenPlan(query=q) for q in QUERIES]
    seen = [x[0] for label in ("open/1", "open/2") for x in opened(world, plans, label=label)[0]]
    raw = [ct._block(world.pair, world.shares[0], q).ravel()[0] for q in QUERIES] * 2
    masks = [int(a) - int(b) for a, b in zip(seen, raw, strict=True)]
    assert len({m % (1 << 32) for m in masks}) == len(masks)
    again = opened(world, plans, label="open/1")[0]
    assert [x[0] for x in again] == seen[: len(plans)]  # a repeated message, the same answer


def test_secrets_have_no_repr():
    _, world = example(8, (3, 4))
    coins = ct.deal_coins(world.pair, [OpenPlan(query=SEGMENT_VISIT, coins=4)], DEALER)
    shown = repr((world.deals, coins, world.blocks))
    assert "seed" not in shown
    assert "array" not in shown


# --- refusals ----------------------------------------------------------------------------


def test_foreign_or_misshapen_arrays_are_refused():
    _, world = example(20, (12, 11), 32)
    pair, (first, second), (m_a, m_b) = world.pair, world.deals, world.masked
    a, b = world.blocks[Role.FIRST], world.blocks[Role.SECOND]
    plans = [OpenPlan(query=SEGMENT_VISIT)]
    coins = ct.CoinsFirst(seeds=())
    share = world.shares[0]

    def open_(**kwargs):
        given = {"coins": coins, "noise": zeros(world, plans), **kwargs}
        values = given.pop("share", share)
        asked = given.pop("plans", plans)
        return lambda: ct.open_shares(pair, values, asked, pair_secret=PAIR, label="x", **given)

    huge = [np.full(11, np.iinfo(np.int64).min)]
    for step in (
        lambda: ct.mask(pair, b, first),
        lambda: ct.mask(replace(pair, n_slots=21), a, first),
        lambda: ct.finish_first(pair, first, m_a),
        lambda: ct.finish_first(pair, first, m_b[:-1]),
        lambda: ct.finish_first(pair, first, m_b.astype(np.uint64)),
        lambda: ct.finish_second(pair, b, second, m_b),
        lambda: ct.finish_second(pair, a, second, m_a),
        lambda: ct.finish_second(pair, b, replace(second, correction=share[1:]), m_a),
        lambda: replace(pair, bits=16),
        lambda: ct.pair_of(JOINT, [], 20, first="a", second="b"),
        lambda: pair.role("c"),
        open_(share=share[1:]),
        open_(noise=[]),
        open_(noise=[np.zeros(12, np.int64)]),
        open_(noise=[np.zeros(11)]),
        open_(noise=huge),
        open_(coins=ct.CoinsFirst(seeds=(b"x" * 32,))),
        open_(plans=plans * 2, noise=zeros(world, plans) * 2),
        open_(plans=[OpenPlan(query=whole_table_plan())]),
        open_(
            plans=[OpenPlan(query=SEGMENT_VISIT, coins=3)],
            coins=ct.CoinsSecond(words=(np.zeros((11, 3, 3), np.uint8),)),
            noise=[],
        ),
        lambda: ct.reconstruct(pair, plans, [np.zeros(11, np.uint32)], []),
        lambda: ct.reconstruct(pair, plans, *[[np.zeros(11, np.uint64)]] * 2),
        lambda: OpenPlan(query=SUM_SPEND, coins=10),
        lambda: OpenPlan(query=SEGMENT_VISIT, coins=0),
        lambda: OpenPlan(query=Query(sides=(side("a", "segment"),))),
    ):
        with pytest.raises(ProtocolError):
            step()


@pytest.mark.parametrize(
    "change",
    [
        {"slots": np.array([0, 0])},
        {"slots": np.array([0, 9])},
        {"slots": np.array([0, -1])},
        {"slots": np.array([0])},
        {"codes": np.zeros((2, 2), np.int32)},
        {"codes": np.full((2, 3), 7, np.int32)},
        {"codes": np.full((2, 3), -1, np.int32)},
        {"units": {}},
        {"units": {"spend": np.array([0, VALUE_UNITS + 1])}},
        {"units": {"spend": np.array([-1, 0])}},
    ],
)
def test_malformed_tables_are_refused(change):
    pair = ct.pair_of(JOINT, QUERIES, 9, first="a", second="b")
    good = {
        "slots": np.array([0, 1]),
        "codes": np.zeros((2, 3), np.int32),
        "units": {"spend": np.array([0, 1])},
    }
    build_blocks(B, pair.second, n_slots=9, **good)
    with pytest.raises(ProtocolError) as caught:
        build_blocks(B, pair.second, n_slots=9, **{**good, **change})
    assert "7" not in str(caught.value)


def test_random_blocks_are_products_too():
    pair = ct.pair_of(JOINT, (SEGMENT_VISIT,), 500, first="a", second="b")
    rng = np.random.default_rng(1)
    a, b = (random_blocks(pair.layout(r), 500, rng) for r in Role)
    first, second = ct.deal(pair, DEALER)
    total = ct.finish_first(pair, first, ct.mask(pair, b, second))
    total += ct.finish_second(pair, b, second, ct.mask(pair, a, first))
    np.testing.assert_array_equal(total, matmul_t(a.dense(32), b.dense(32)))
    weighted = ct.pair_of(JOINT, (SUM_SPEND,), 500, first="a", second="b")
    with pytest.raises(ProtocolError):
        random_blocks(weighted.second, 500, rng)


def test_dense_matrix_has_one_entry_a_block():
    _, world = example(50, (20, 30))
    dense = world.blocks[Role.FIRST].dense()
    assert dense.dtype == dtype_of(64)
    for s in world.pair.first.sides:
        assert (dense[:, world.pair.first.span(s)].sum(axis=1) == 1).all()
