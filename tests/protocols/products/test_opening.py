"""Opened tables: the noise that was paid for, and shares that are uniform by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.protocols.products.test_dealt import example, p_uniform
from tests.protocols.products.world import (
    DEALER,
    PAIR,
    QUERIES,
    SEGMENT_VISIT,
    SUM_SPEND,
    in_the_clear,
    open_both,
    opened_tables,
    plan,
    planned,
    product_pair,
    receipt_of,
    side,
)
from tests.statistics import assert_scale, p_variance, plausible
from twinweave.errors import ProtocolError
from twinweave.privacy.noise import SPARE_COINS
from twinweave.protocols.keystream import hkdf
from twinweave.protocols.products import coins as coinage
from twinweave.protocols.products import opening
from twinweave.protocols.products.opening import Product, coins_of, open_shares, reconstruct
from twinweave.protocols.products.pair import Pair
from twinweave.protocols.ring import Ring
from twinweave.workload.queries import Query

COUNTS = tuple(q for q in QUERIES if q.weight is None)
SUMS = tuple(q for q in QUERIES if q.weight is not None)


def heads_of(
    pair: Pair, tables: Any, key: bytes = PAIR
) -> dict[str, dict[int, NDArray[np.uint32]]]:
    """Both parties' shares of the coins of every table that has some."""
    heads: dict[str, dict[int, NDArray[np.uint32]]] = {"a": {}, "b": {}}
    for i, dealt in coins_of(pair, tables).items():
        secret, places = hkdf(DEALER, str(i)), coinage.Places.of(dealt, hkdf(key, "places", str(i)))
        signs, seed = hkdf(key, "signs", str(i)), coinage.seed(secret)
        seen = coinage.shown(dealt, seed, places)
        heads["a"][i] = coinage.first_heads(dealt, seed, places, signs)
        words = coinage.words(dealt, secret)
        heads["b"][i] = coinage.second_heads(dealt, words, seen, places, signs)
    return heads


@pytest.mark.curious("together-noise")
def test_noise_of_both_parties_is_added() -> None:
    tables, world = example()
    asked = plan(*(planned(q, scale=300.0) for q in QUERIES))
    added = []
    for _ in range(10):
        got = opened_tables(world.pair, world.shares, asked)
        for i, query in enumerate(QUERIES):
            noise = got[i] - in_the_clear(query, tables, 300)
            added.append(world.pair.cells(query).opened(noise))
            assert noise.sum() == added[-1].sum()  # [absent, absent] is never measured
    assert_scale(np.concatenate(added) / (300 * np.sqrt(2)), p_variance, 0.5, 2.0)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("queries", [COUNTS, SUMS], ids=["counts", "sums"])
def test_coins_add_centred_binomial_noise(queries: tuple[Query, ...], bits: int) -> None:
    tables, world = example(bits=bits)
    asked = plan(planned(SUM_SPEND), *(planned(q, coins=400) for q in queries))
    noise = []
    for signs in (b"%032d" % i for i in range(4 if queries is COUNTS else 12)):
        heads = heads_of(world.pair, asked, signs)
        got = opened_tables(world.pair, world.shares, asked, heads)
        np.testing.assert_array_equal(got[0], in_the_clear(SUM_SPEND, tables, 300))
        for i, query in enumerate(queries, 1):
            added = got[i] - in_the_clear(query, tables, 300)
            noise.append(world.pair.cells(query).opened(added))
    noise = np.concatenate(noise)
    assert set(np.unique(noise % 1)) == {0.5}  # an odd number of coins, centred
    assert noise.any()
    assert_scale(noise / np.sqrt((400 + SPARE_COINS) / 4), p_variance, 0.5, 2.0)


def test_opened_coins_show_no_bits_beyond_their_modulus() -> None:
    _, world = example()
    asked = plan(*(planned(q, coins=300) for q in COUNTS))
    heads = heads_of(world.pair, asked)
    collected: list[Any] = []
    for i in range(150):
        for party in open_both(world.pair, world.shares, asked, heads, label=f"open/{i}"):
            collected += party.values()
    words = np.concatenate(collected)
    assert (words < 1 << 16).all()  # 300 slots and 300 coins take two bytes
    assert plausible(p_uniform(words, 2))


def test_each_label_and_table_has_its_own_zero_sharing() -> None:
    _, world = example()
    asked = plan(*map(planned, QUERIES))

    def first(label: str) -> list[Any]:
        opened = open_both(world.pair, world.shares, asked, label=label)[0]
        return [share[0] for share in opened.values()]

    seen = first("open/1") + first("open/2")
    raw = [opening._cells(world.pair, world.shares["a"], q)[0] for q in QUERIES] * 2
    masks = [int(a) - int(b) for a, b in zip(seen, raw, strict=True)]
    assert len({m % (1 << 32) for m in masks}) == len(masks)
    assert first("open/1") == seen[: len(QUERIES)]  # a repeated message, the same answer


@pytest.mark.parametrize("coins", [None, 300])
def test_shares_of_parties_that_saw_different_messages_do_not_cancel(coins: int | None) -> None:
    _, world = example()
    asked = plan(*(planned(q, coins=coins) for q in COUNTS))
    heads = heads_of(world.pair, asked)
    collected: list[Any] = []
    for i in range(150):
        bound = {"a": b"one", "b": b"%d" % i}
        shares = open_both(world.pair, world.shares, asked, heads, bound=bound)
        found = [shares[0][i] + shares[1][i] for i in asked]
        collected += found if coins is None else [total & 0xFFFF for total in found]
    assert plausible(p_uniform(np.concatenate(collected), 2 if coins else 4))


# --- refusals ----------------------------------------------------------------------------


@pytest.mark.parametrize("coins", [None, 40])
def test_no_table_opens_without_the_receipt_that_paid_for_it(coins: int | None) -> None:
    _, world = example(20, (12, 11), 32)
    asked = plan(planned(SEGMENT_VISIT, coins=coins))
    heads = heads_of(world.pair, asked)["a"]
    dearer = plan(planned(SEGMENT_VISIT, coins=80, scale=2e-3))
    terms: dict[str, Any] = {"own": "a", "secret": PAIR, "label": "open"}
    for receipt in (receipt_of({}), receipt_of(dearer), receipt_of(asked, fresh=False)):
        product = Product(share=world.shares["a"], bound=b"", heads=heads)
        with pytest.raises(ProtocolError, match=r"charged|paid"):
            open_shares(world.pair, product, asked, receipt=receipt, **terms)


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _, world = example(20, (12, 11), 32)
    pair, share = world.pair, world.shares["a"]
    asked = plan(planned(SEGMENT_VISIT))
    coined = plan(planned(SEGMENT_VISIT, coins=3))
    whole = Query(sides=(side("a", "segment", "region"), side("b", "spend", "visit", "region")))

    def open_(share: Ring = share, asked: Any = asked, heads: Any = None) -> None:
        open_shares(
            pair,
            Product(share=share, bound=b"", heads=heads or {}),
            asked,
            own="a",
            secret=PAIR,
            label="x",
            receipt=receipt_of(asked),
        )

    def zeros(n: int, dtype: Any = np.uint32) -> dict[int, Any]:
        return {0: np.zeros(n, dtype)}

    for step in (
        lambda: open_(share=share[1:]),
        lambda: open_(heads=zeros(11)),
        lambda: open_(asked=coined),
        lambda: open_(asked=coined, heads=zeros(12)),
        lambda: open_(asked=coined, heads=zeros(11, np.uint64)),
        lambda: open_(asked=plan(planned(whole))),
        lambda: reconstruct(pair, asked, zeros(11, np.uint64), zeros(11)),
        lambda: reconstruct(pair, asked, zeros(12), zeros(12)),
        lambda: reconstruct(replace(pair, bits=64), asked, zeros(11), zeros(11)),
        lambda: product_pair((SEGMENT_VISIT,), 20).cells(whole),
    ):
        with pytest.raises(ProtocolError):
            step()
    monkeypatch.setattr(opening, "draw", lambda cells, *_: np.full(cells, np.iinfo(np.int64).min))
    with pytest.raises(ProtocolError, match="exceeds the ring"):
        open_()
