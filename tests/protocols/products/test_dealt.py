"""Products from dealt randomness: exact, and uniform to whoever is to learn nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocols.products.world import (
    DEALER,
    PAIR,
    QUERIES,
    SEGMENT_VISIT,
    SUM_SPEND,
    A,
    B,
    Table,
    World,
    both_tables,
    in_the_clear,
    open_both,
    opened_tables,
    plan,
    planned,
    play,
    product_pair,
    side,
)
from tests.statistics import p_levels, plausible
from twinweave.errors import ProtocolError
from twinweave.protocols.keystream import Keystream, hkdf
from twinweave.protocols.products import dealt, opening
from twinweave.protocols.products.blocks import random_blocks
from twinweave.protocols.products.matching import marks_of
from twinweave.protocols.ring import Ring, matmul_t, next_words
from twinweave.tables.schema import Schema
from twinweave.workload.queries import Query


def example(
    n_slots: int = 300,
    rows: Sequence[int] = (180, 170),
    bits: int | None = None,
    seed: int = 3,
    queries: Sequence[Query] = QUERIES,
) -> tuple[dict[str, Table], World]:
    pair = product_pair(queries, n_slots)
    tables = both_tables(n_slots, rows, seed)
    return tables, play(replace(pair, bits=bits or pair.bits), tables)


# --- exactness ---------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    n_slots=st.integers(1, 40),
    data=st.data(),
    bits=st.sampled_from([32, 64]),
    seed=st.integers(0, 2**32),
)
def test_tables_match_the_clear(
    n_slots: int, data: st.DataObject, bits: int | None, seed: int
) -> None:
    rows = [data.draw(st.integers(0, n_slots)) for _ in range(2)]
    tables, world = example(n_slots, rows, bits, seed)
    got = opened_tables(world.pair, world.shares, plan(*map(planned, QUERIES)))
    for i, query in enumerate(QUERIES):
        np.testing.assert_array_equal(got[i], in_the_clear(query, tables, n_slots))


@pytest.mark.parametrize("bits", [32, 64])
def test_chunks_change_nothing(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = example(600, bits=bits)
    monkeypatch.setattr("twinweave.protocols.ring._CHUNK_CELLS", 1)
    _, chunked = example(600, bits=bits)
    for party in "ab":
        np.testing.assert_array_equal(whole.masked[party], chunked.masked[party])
        np.testing.assert_array_equal(whole.shares[party], chunked.shares[party])
    exact = matmul_t(*(whole.blocks[p].dense(bits) for p in "ab"))
    np.testing.assert_array_equal(whole.shares["a"] + whole.shares["b"], exact)


def test_random_blocks_are_products_too() -> None:
    pair, rng = product_pair((SEGMENT_VISIT,), 500), np.random.default_rng(1)
    a, b = (random_blocks(pair.layout(p), 500, rng) for p in "ab")
    deal = dealt.deal(pair, DEALER)
    total = dealt.finish_first(pair, deal.seeds["a"], dealt.mask(pair, b, deal.seeds["b"]))
    total += dealt.finish_second(pair, b, deal.correction, dealt.mask(pair, a, deal.seeds["a"]))
    np.testing.assert_array_equal(total, matmul_t(a.dense(32), b.dense(32)))


def fixed_table(schema: Schema) -> Table:
    rows = np.arange(12)
    sizes = np.array([c.size for c in schema.data_columns])
    return Table(
        slots=rows + (0 if schema is A else 5),
        codes=(rows[:, None] % sizes).astype(np.int32),
        units={("spend", None): rows * 2},
        marks=marks_of(rows, rows, PAIR),
    )


def test_known_answer() -> None:
    """Frozen from this construction; a change breaks parties of different versions."""
    pair = replace(product_pair(QUERIES, 20), bits=32)
    world = play(pair, {s.party: fixed_table(s) for s in (A, B)})
    tables = plan(planned(SEGMENT_VISIT), planned(SUM_SPEND))
    opened = open_both(pair, world.shares, tables)
    digest = hashlib.sha256()
    for array in (
        world.deal.correction,
        *world.masked.values(),
        *world.shares.values(),
        *(share for party in opened for share in party.values()),
    ):
        digest.update(array.astype("<u4").tobytes())
    assert digest.hexdigest() == "da0ed1bd76c8280a1c227f9846e5656d0a80ef582715963281141bea50666cf5"


# --- who sees what -----------------------------------------------------------------------


def p_uniform(words: Any, n_bytes: int = 4) -> float:
    """Smallest chi-square p-value over the low bytes of 32-bit words."""
    each = np.ascontiguousarray(words, "<u4").view(np.uint8).reshape(-1, 4)
    return min(p_levels(each[:, i], 256) for i in range(n_bytes))


def test_the_peer_sees_uniform_words() -> None:
    _, world = example(4000, (3000, 2500))
    for party, masked in world.masked.items():
        assert plausible(p_uniform(masked))
        assert not plausible(p_uniform(world.blocks[party].dense(32)))


def dealer_guess(world: World, opened_share: Ring) -> tuple[Ring, Ring]:
    """What the dealer computes from the first party's opened cells: R_P^T X_Q if they are bare."""
    pair, seeds = world.pair, world.deal.seeds
    r_p, r_q = (
        next_words(Keystream(hkdf(seeds[p], "matrix")), (pair.n_slots, pair.layout(p).width), 32)
        for p in "ab"
    )
    r = next_words(Keystream(hkdf(seeds["a"], "correction")), pair.shape, 32)
    known, truth = r - matmul_t(r_p, r_q), matmul_t(r_p, world.blocks["b"].dense(32))
    at = slice(pair.first.present), slice(pair.second.present)
    n = len(opened_share)
    return known[at].ravel()[:n] - opened_share, truth[at].ravel()[:n]


def first_opened(label: str = "open") -> tuple[World, Ring]:
    """One query whose table is all of the share but the marks': the dealer's attack is plain."""
    query = Query(sides=(side("a", "segment", "region"), side("b", "spend", "visit", "region")))
    _, world = example(queries=(query,))
    return world, open_both(world.pair, world.shares, plan(planned(query)), label=label)[0][0]


@pytest.mark.curious("server")
def test_an_opened_share_tells_the_dealer_nothing() -> None:
    world, share = first_opened()
    guess, truth = dealer_guess(world, share)
    assert not (guess == truth).any()
    differences = []
    for i in range(60):
        world, share = first_opened(label=f"open/{i}")
        guess, truth = dealer_guess(world, share)
        differences.append(guess - truth)
    assert plausible(p_uniform(np.concatenate(differences)))


@pytest.mark.broken("server")
def test_without_the_zero_sharing_the_dealer_recovers_a_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broken variant that the test above catches."""
    monkeypatch.setattr(opening, "_rerandomised", lambda values, key, add: values)
    world, share = first_opened()
    guess, truth = dealer_guess(world, share)
    np.testing.assert_array_equal(guess, truth)


def test_secrets_have_no_repr() -> None:
    _, world = example(8, (3, 4))
    shown = repr((world.deal, world.blocks))
    assert "seed" not in shown
    assert "array" not in shown


# --- refusals ----------------------------------------------------------------------------


def test_foreign_or_misshapen_arrays_are_refused() -> None:
    _, world = example(20, (12, 11), 32)
    pair, deal, masked = world.pair, world.deal, world.masked
    a, b = world.blocks["a"], world.blocks["b"]
    for step in (
        lambda: dealt.mask(replace(pair, n_slots=21), a, PAIR),
        lambda: dealt.mask(product_pair(QUERIES[:1], 20), a, PAIR),
        lambda: dealt.finish_first(pair, deal.seeds["a"], masked["a"]),
        lambda: dealt.finish_first(pair, deal.seeds["a"], masked["b"][:-1]),
        lambda: dealt.finish_first(pair, deal.seeds["a"], masked["b"].astype(np.uint64)),
        lambda: dealt.finish_second(pair, b, deal.correction, masked["b"]),
        lambda: dealt.finish_second(pair, a, deal.correction, masked["a"]),
        lambda: dealt.finish_second(pair, b, deal.correction[1:], masked["a"]),
        lambda: replace(pair, bits=16),
    ):
        with pytest.raises(ProtocolError):
            step()
