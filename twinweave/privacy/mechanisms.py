"""Noise on integer tables, from cryptographic generators, under the receipt that paid for it.

OpenDP draws the discrete Gaussian (Canonne, Kamath, Steinke 2020, in exact arithmetic on the
generator of OpenSSL): no float enters the sample. Some 10 to 25 microseconds a cell: 100,000
cells take a few seconds. Coins are bits of an AES stream under a key of the operating system.
Coins that a dealer deals to two parties are drawn by the protocol, in shares.
"""

from __future__ import annotations

import os
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from twinweave.errors import ConfigError, ProtocolError
from twinweave.privacy.events import DiscreteGaussian, Event, SharedBinomial
from twinweave.privacy.guard import Receipt

_CHUNK = 1 << 18  # cells handed over at once: each becomes a Python integer on the way back
_CHUNK_WORDS = 1 << 22
_WORD = 16


def release_table(counts: NDArray[np.int64], event: Event, receipt: Receipt) -> NDArray[np.int64]:
    """counts plus the event's noise in every cell; int64, same shape.

    counts: exact integers of any integer dtype below 2**62. Raises ProtocolError unless the
    receipt paid for this event, ConfigError for floats.
    """
    table = np.asarray(counts)
    if table.dtype.kind not in "iu":
        raise ConfigError("counts", "not whole numbers", "Give an integer table.")
    return table.astype(np.int64) + draw(table.shape, event, receipt)


def draw(
    shape: int | tuple[int, ...], event: Event, receipt: Receipt, *, sharers: int = 1
) -> NDArray[np.int64]:
    """One party's noise of an event, independent in each cell: int64 of `shape`, of mean 0.

    The scale is the event's, so that what is drawn is what was charged.
    sharers: parties that each draw a part of the event's coins; binomials with one half add up
        to one. A discrete Gaussian has no such closure: every party draws it at full scale.
    Raises ProtocolError unless the receipt paid for this event, or where it has no such noise.
    """
    receipt.check(event)
    cells = prod(shape) if isinstance(shape, tuple) else shape
    match event.mechanism:
        case DiscreteGaussian() as mechanism:
            noise = _gaussian(cells, noise_scale(mechanism))
        case SharedBinomial(coins=coins):
            noise = _coins(cells, coins_each(coins, sharers), os.urandom(32))
        case _:
            raise ProtocolError(f"release {event.label!r} has no noise on a table. Check the plan.")
    return noise.reshape(shape)


def noise_scale(event: DiscreteGaussian) -> float:
    """Scale in units of the table."""
    return event.noise_multiplier * event.sensitivity


def coins_each(coins: int, sharers: int) -> int:
    """Coins that each of `sharers` parties draws, so that together they draw `coins` or more.

    An even number, so that half of them, the mean, is whole.
    """
    return 2 * -(-coins // (2 * sharers))


def gaussian_variance(mechanism: DiscreteGaussian) -> float:
    """Exact variance of one party's noise in a cell, in squared units of the table.

    It is below scale**2, by more than 1e-6 of it for scales under 1 only.
    """
    scale = noise_scale(mechanism)
    if scale > 3:
        return scale * scale
    x = np.arange(-40, 41)
    weights = np.exp(-0.5 * (x / scale) ** 2)
    return float(weights @ (x * x) / weights.sum())


def _gaussian(cells: int, scale: float) -> NDArray[np.int64]:
    """Independent samples of the discrete Gaussian of `scale`: int64 (cells,)."""
    measure = _measurement(scale)
    noise = np.empty(cells, dtype=np.int64)
    for start in range(0, cells, _CHUNK):
        part = noise[start : start + _CHUNK]
        part[:] = measure(np.zeros(len(part), dtype=np.int64))
    return noise


@lru_cache(maxsize=64)
def _measurement(scale: float) -> Any:
    # The submodules, not opendp.prelude, which takes seconds to import.
    from opendp.domains import atom_domain, vector_domain
    from opendp.measurements import make_gaussian
    from opendp.metrics import l2_distance
    from opendp.mod import enable_features

    enable_features("contrib")
    return make_gaussian(vector_domain(atom_domain(T="i64")), l2_distance(T="f64"), scale=scale)


def _coins(cells: int, coins: int, key: bytes) -> NDArray[np.int64]:
    """Heads of `coins` fair coins less half of them, independently in each cell: int64 (cells,).

    coins: even. key: 32 bytes fresh from the operating system, used for nothing else.
    """
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    width = -(-coins // _WORD)
    last = np.uint16((1 << (coins - _WORD * (width - 1))) - 1)
    heads = np.empty(cells, dtype=np.int64)
    step = max(1, _CHUNK_WORDS // width)
    for start in range(0, cells, step):
        stop = min(start + step, cells)
        drawn = stream.update(bytes(2 * (stop - start) * width))
        words = np.frombuffer(drawn, dtype="<u2").reshape(-1, width)
        ones = _ONES[words]
        ones[:, -1] = _ONES[words[:, -1] & last]
        heads[start:stop] = ones.sum(axis=1, dtype=np.int64)
    return heads - coins // 2


_BYTE_ONES = np.array([byte.bit_count() for byte in range(256)], dtype=np.uint8)
_ONES: NDArray[np.uint8] = (_BYTE_ONES[:, None] + _BYTE_ONES[None, :]).ravel()
"""Number of ones in each 16-bit word."""
