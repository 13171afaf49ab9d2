"""Pooled tables: the sum is exact, its parts are uniform, its coins are binomial."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.statistics import p_share, plausible
from twinweave.errors import ProtocolError
from twinweave.protocols.pools.masks import add_up, mask


def secrets(pool: tuple[Any, ...], seed: bytes = b"pairs") -> dict[str, dict[str, bytes]]:
    """Each member's keys with the others: the same at both ends of a pair."""
    return {
        own: {
            peer: (f"{min(own, peer)} {max(own, peer)} ".encode() + seed).ljust(32, b".")
            for peer in pool
            if peer != own
        }
        for own in pool
    }


def masked(tables: list[NDArray[np.int64]], label: str = "t") -> list[NDArray[np.uint64]]:
    pool = tuple(f"p{i:02d}" for i in range(len(tables)))
    keys = secrets(pool)
    return [
        mask(t, own=p, pool=pool, secrets=keys[p], label=label)
        for p, t in zip(pool, tables, strict=True)
    ]


@settings(max_examples=50)
@given(st.integers(2, 12), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_the_masks_cancel_in_the_sum_of_all(members: int, cells: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tables = [rng.integers(-(2**40), 2**40, cells) for _ in range(members)]
    np.testing.assert_array_equal(add_up(masked(tables)), np.sum(tables, axis=0))


def test_one_missing_and_nothing_is_seen() -> None:
    tables = [np.arange(1000) for _ in range(4)]
    for missing in range(4):
        parts = masked(tables)
        del parts[missing]
        shown = np.abs(add_up(parts)) < 2.0**62  # half of the ring
        assert plausible(p_share(shown.sum(), 1000, 0.5))
    shown = np.abs(add_up([t.astype(np.uint64) for t in tables[1:]])) < 2.0**62
    assert not plausible(p_share(shown.sum(), 1000, 0.5))


def test_no_mask_serves_two_tables() -> None:
    zeros = [np.zeros(50, np.int64)] * 3
    one, two = masked(zeros, "first"), masked(zeros, "second")
    assert not any((a == b).any() for a, b in zip(one, two, strict=True))


def test_every_member_needs_a_key_with_every_other() -> None:
    keys = secrets(("a", "b", "c"))
    for changed in ({"b": keys["a"]["b"]}, keys["b"]):
        with pytest.raises(ProtocolError, match="a key with every other member"):
            mask(np.zeros(3, np.int64), own="a", pool=("a", "b", "c"), secrets=changed, label="t")
    with pytest.raises(ProtocolError, match="differ in shape"):
        add_up([np.zeros(3, np.uint64), np.zeros(4, np.uint64)])
