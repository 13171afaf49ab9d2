"""A party's matrix: one entry a block, laid out by what is public; malformed tables refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.protocols.products.world import (
    JOINT,
    QUERIES,
    SEGMENT_VISIT,
    SUM_SPEND,
    B,
    blocks_of,
    both_tables,
    product_pair,
    side,
)
from twinweave.errors import ProtocolError
from twinweave.protocols.products.blocks import build_blocks, random_blocks
from twinweave.protocols.products.pair import pair_of
from twinweave.protocols.ring import dtype_of
from twinweave.tables.column import VALUE_UNITS
from twinweave.workload.queries import Query, cells_of


def test_the_ring_grows_with_weights() -> None:
    for queries, n_slots, bits in [
        ((SEGMENT_VISIT,), 1 << 20, 32),
        ((SEGMENT_VISIT, SUM_SPEND), 1 << 24, 32),
        ((SEGMENT_VISIT, SUM_SPEND), 1 << 25, 64),
    ]:
        assert product_pair(queries, n_slots).bits == bits


def test_layout_follows_from_public_facts() -> None:
    pair = product_pair(QUERIES, 9)
    assert [axis.size for axis in pair.first.axes] == [4, 7, 2, 7]
    assert [axis.size for axis in pair.second.axes] == [3, 5, 5, 1, 2]
    for query in QUERIES:
        assert pair.cells(query) == cells_of(JOINT, query)


def test_a_product_needs_a_table_and_its_own_parties() -> None:
    with pytest.raises(ProtocolError):
        pair_of(JOINT, [], 20, first="a", second="b")
    with pytest.raises(ProtocolError):
        product_pair(QUERIES, 20).layout("c")


def test_a_product_larger_than_a_party_computes_is_refused() -> None:
    """Of two small tables, each wide at another party; and of one on a very long spine."""
    wide = [
        Query(sides=(side("a", *["segment"] * 10), side("b"))),
        Query(sides=(side("a"), side("b", *["visit"] * 14))),
    ]
    for queries, n_slots in ((wide, 20), ((SEGMENT_VISIT,), 1 << 32)):
        with pytest.raises(ProtocolError, match="larger than a party computes"):
            product_pair(queries, n_slots)


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
        {"units": {("spend", None): np.array([0, VALUE_UNITS + 1])}},
        {"units": {("spend", None): np.array([-1, 0])}},
        {"marks": np.zeros((3, 2), np.uint32)},
    ],
)
def test_malformed_tables_are_refused(change: Any) -> None:
    pair = product_pair(QUERIES, 9)
    good: dict[str, Any] = {
        "slots": np.array([0, 1]),
        "codes": np.zeros((2, 3), np.int32),
        "units": {("spend", None): np.array([0, 1])},
        "marks": np.zeros((2, 2), np.uint32),
    }
    build_blocks(B, pair.second, n_slots=9, **good)
    with pytest.raises(ProtocolError) as caught:
        build_blocks(B, pair.second, n_slots=9, **{**good, **change})
    assert "7" not in str(caught.value)


def test_dense_matrix_has_one_entry_a_block() -> None:
    pair = product_pair(QUERIES, 50)
    dense = blocks_of(pair, both_tables(50, (20, 30), 3))["a"].dense()
    assert dense.dtype == dtype_of(64)
    for s in pair.first.sides:
        assert (dense[:, pair.first.span(s)].sum(axis=1) == 1).all()


def test_random_blocks_are_counts() -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(ProtocolError):
        random_blocks(product_pair((SUM_SPEND,), 500).second, 500, rng)
