"""Ring products against Python integers, which never overflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols import ring
from twinweave.protocols.ring import dtype_of, matmul_t, ring_bits, row_chunks, to_ring, to_signed


def in_the_clear(a: NDArray[Any], b: NDArray[Any], bits: int) -> NDArray[Any]:
    product = a.astype(object).T @ b.astype(object)
    return (product % (1 << bits)).astype(dtype_of(bits))


@st.composite
def two_matrices(draw: Callable[..., Any]) -> tuple[Any, ...]:
    bits = draw(st.sampled_from([32, 64]))
    top = (1 << bits) - 1
    words = st.one_of(st.integers(0, top), st.sampled_from([0, 1, top, top - 1, 1 << (bits - 1)]))
    rows, p, q = (draw(st.integers(1, 6)) for _ in range(3))
    a, b = (draw(arrays(dtype_of(bits), (rows, width), elements=words)) for width in (p, q))
    return bits, a, b


@settings(max_examples=150)
@given(two_matrices())
def test_product_matches_python_integers(case: tuple[Any, ...]) -> None:
    bits, a, b = case
    np.testing.assert_array_equal(matmul_t(a, b), in_the_clear(a, b, bits))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("rows", [1, 255, 256, 257, 70_001])
def test_largest_elements_are_exact_across_chunks(bits: int, rows: int) -> None:
    top = np.full((rows, 2), (1 << bits) - 1, dtype=dtype_of(bits))
    # (-1) * (-1) summed over the rows is the number of rows.
    np.testing.assert_array_equal(matmul_t(top, top), np.full((2, 2), rows, dtype=dtype_of(bits)))


@pytest.mark.parametrize("bits", [32, 64])
def test_chunk_size_changes_nothing(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    a, b = (
        rng.integers(0, 1 << bits, (1000, 7), dtype=np.uint64).astype(dtype_of(bits))
        for _ in range(2)
    )
    whole = matmul_t(a, b)
    monkeypatch.setattr(ring, "_CHUNK_CELLS", 1)
    assert len(list(row_chunks(1000, 7))) == 4
    np.testing.assert_array_equal(matmul_t(a, b), whole)
    np.testing.assert_array_equal(whole, in_the_clear(a, b, bits))


def test_limb_bound_holds_for_the_largest_chunk() -> None:
    largest = max(s.stop - s.start for s in row_chunks(1 << 21, 1))
    assert largest * (0xFFFF**2) < 1 << 53
    assert ring._EXACT_ROWS * (0xFFFF**2) < 1 << 53


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1), st.sampled_from([32, 64]))
def test_signed_numbers_survive_the_ring(numbers: list[int], bits: int) -> None:
    values = np.array(numbers, dtype=np.int64)
    np.testing.assert_array_equal(to_signed(to_ring(values, bits)), values)


def test_the_ring_holds_the_largest_sum() -> None:
    assert ring_bits((1 << 30) - 1) == 32
    assert ring_bits(1 << 30) == 64
    assert ring_bits(1 << 20, 1024) == 64
    with pytest.raises(ProtocolError):
        ring_bits(1 << 53, 1 << 10)
    with pytest.raises(ProtocolError):
        ring_bits(0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((2, 1), np.uint32), np.zeros((3, 1), np.uint32)),
        (np.zeros((2, 1), np.uint32), np.zeros((2, 1), np.uint64)),
        (np.zeros((2, 1), np.int64), np.zeros((2, 1), np.int64)),
        (np.zeros(2, np.uint32), np.zeros((2, 1), np.uint32)),
    ],
)
def test_wrong_operands_are_refused(a: NDArray[Any], b: NDArray[Any]) -> None:
    with pytest.raises(ProtocolError):
        matmul_t(a, b)
