"""Exact matrix arithmetic in Z_{2^32} and Z_{2^64}, in bounded memory.

numpy has no fast integer matrix product, so a dense product is split into 16-bit limbs whose
float64 products are exact below 2**53 and go through BLAS. A sparse operand (a party's own
one-hot blocks) needs no limbs: scipy's integer CSR product wraps by itself and is 5 to 20
times faster than BLAS on the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.keystream import Keystream

Ring = NDArray[np.unsignedinteger[Any]]
"""An array of ring elements: uint32 for Z_{2^32}, uint64 for Z_{2^64}."""

_LIMB = 16
_EXACT_ROWS = 1 << 20  # 2**20 rows of 32-bit limb products stay below 2**53
_CHUNK_ROWS = 1 << 16
_CHUNK_CELLS = 1 << 22  # ring elements held at once per matrix: 16 MiB, 32 MiB as floats


def ring_bits(n_slots: int, max_weight: int = 1) -> int:
    """32 or 64: the ring in which a sum over n_slots of weights up to max_weight is exact.

    Two bits are kept for the sign and for noise. Raises ProtocolError beyond 64 bits.
    """
    if n_slots < 1 or max_weight < 1:
        raise ProtocolError("a secure product needs a slot and a weight. Check the sizes.")
    for bits in (32, 64):
        if n_slots * max_weight < 1 << (bits - 2):
            return bits
    raise ProtocolError("the largest possible sum exceeds 64 bits. Use fewer slots.")


def dtype_of(bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The unsigned dtype of a ring. Raises ProtocolError unless bits is 32 or 64."""
    if bits == 32:
        return np.dtype(np.uint32)
    if bits == 64:
        return np.dtype(np.uint64)
    raise ProtocolError("a ring has 32 or 64 bits. Take it from ring_bits.")


def check_array(array: Ring, shape: tuple[int, ...], bits: int, what: str) -> None:
    """Raise ProtocolError, naming what it is, unless the array is one of these ring elements."""
    if array.shape != shape or array.dtype != dtype_of(bits):
        raise ProtocolError(f"a {what} of shape {shape} in {bits} bits is expected.")


def next_words(stream: Keystream, shape: tuple[int, ...], bits: int) -> Ring:
    """The next elements of a stream as a uniform array of the ring, row-major."""
    n = prod(shape)
    words: Ring = stream.words32(n) if dtype_of(bits) == np.uint32 else stream.words64(n)
    return words.reshape(shape)


def row_chunks(n_rows: int, width: int) -> Iterator[slice]:
    """Slices that cover n_rows, each small enough for a matrix of `width` columns."""
    step = max(256, min(_CHUNK_ROWS, _CHUNK_CELLS // max(width, 1)))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def matmul_t(a: Ring, b: Ring) -> Ring:
    """a.T @ b in the ring of their common dtype: (n, p), (n, q) -> (p, q), exact.

    Each 16-bit limb product is below 2**32, and at most 2**20 of them are summed in one
    float64, so nothing is rounded. Raises ProtocolError on other dtypes or unequal rows.
    """
    if a.dtype != b.dtype or a.dtype not in (np.uint32, np.uint64):
        raise ProtocolError("a ring product takes two uint32 or two uint64 matrices.")
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[0]:
        raise ProtocolError("a ring product takes two matrices with the same rows.")
    total = np.zeros((a.shape[1], b.shape[1]), dtype=a.dtype)
    for rows in row_chunks(a.shape[0], max(a.shape[1], b.shape[1])):
        assert rows.stop - rows.start <= _EXACT_ROWS
        total += _limb_product(a[rows], b[rows])
    return total


def to_signed(values: Ring) -> NDArray[np.int64]:
    """Centred representative in [-2**(k-1), 2**(k-1)) of each element."""
    signed = np.int32 if values.dtype == np.uint32 else np.int64
    return values.view(signed).astype(np.int64)


def to_ring(values: NDArray[np.int64], bits: int) -> Ring:
    """Integers, negative ones included, modulo 2**bits."""
    return values.astype(np.int64).view(np.uint64).astype(dtype_of(bits))


def _limb_product(a: Ring, b: Ring) -> Ring:
    limbs = a.dtype.itemsize * 8 // _LIMB
    left, right = _limbs(a, limbs), _limbs(b, limbs)
    total = np.zeros((a.shape[1], b.shape[1]), dtype=a.dtype)
    for i in range(limbs):
        for j in range(limbs - i):  # higher pairs vanish modulo 2**bits
            part = (left[i].T @ right[j]).astype(np.uint64) << np.uint64(_LIMB * (i + j))
            total += part.astype(a.dtype)
    return total


def _limbs(x: Ring, count: int) -> list[NDArray[np.float64]]:
    """Little-endian 16-bit limbs as float64 matrices."""
    words = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("<"))
    halves = words.view("<u2").reshape(*x.shape, count)
    return [halves[..., i].astype(np.float64) for i in range(count)]
