"""Shamir's secret sharing (CACM 1979), byte by byte over GF(2**8).

The field is that of AES (x^8 + x^4 + x^3 + x + 1, FIPS 197 section 4.2), so holders are numbered
1 to 255 and a share is as long as the secret. Arrays of secrets are shared at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.keystream import Keystream

Bytes = NDArray[np.uint8]
MAX_HOLDERS = 255


@cache
def _products() -> Bytes:
    """products[a, b] = a * b in the field, uint8 (256, 256)."""
    power = np.zeros(255, np.int64)
    value = 1
    for exponent in range(255):  # 3 generates the field's units; 3 * v = v + x * v
        power[exponent] = value
        value ^= (value << 1) ^ (0x11B if value & 0x80 else 0)
    log = np.zeros(256, np.int64)
    log[power] = np.arange(255)
    table: Bytes = power[(log[:, None] + log[None, :]) % 255].astype(np.uint8)
    table[0, :] = table[:, 0] = 0
    return table


def split(secret: Bytes, *, threshold: int, n_holders: int, stream: Keystream) -> Bytes:
    """Share `secret`, uint8 of any shape: (n_holders, *shape), row i for holder i + 1.

    Any `threshold` shares give it back; fewer are independent of it. `stream` draws the
    polynomials' other coefficients and must be used for nothing else. Raises ProtocolError
    unless 1 <= threshold <= n_holders <= 255.
    """
    if not 1 <= threshold <= n_holders <= MAX_HOLDERS:
        raise ProtocolError(
            f"a secret is shared among 1 to {MAX_HOLDERS} holders, of whom all or fewer restore "
            "it. Lower the threshold, or use a graph of smaller degree."
        )
    drawn = stream.words8((threshold - 1) * secret.size).reshape(threshold - 1, *secret.shape)
    shares = np.empty((n_holders, *secret.shape), np.uint8)
    for row in range(n_holders):
        by_x = _products()[row + 1]
        value = np.zeros_like(secret)
        for coefficient in drawn:  # Horner, from the highest power down
            value = by_x[value ^ coefficient]
        shares[row] = value ^ secret
    return shares


def combine(shares: Mapping[int, Bytes], *, threshold: int) -> Bytes:
    """The secret, from holder number -> share; more than `threshold` shares are not looked at.

    Lagrange's interpolation at zero. Raises ProtocolError for fewer shares.
    """
    if len(shares) < threshold or threshold < 1:
        raise ProtocolError(f"{len(shares)} shares of {threshold} needed. The secret stays hidden.")
    chosen = tuple(sorted(shares)[:threshold])
    secret = np.zeros_like(shares[chosen[0]])
    for holder, factor in zip(chosen, _factors_at_zero(chosen), strict=True):
        secret ^= _products()[factor][shares[holder]]
    return secret


@lru_cache(maxsize=1024)
def _factors_at_zero(holders: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's factor of each holder's share: the product of other / (other - own)."""
    products = _products()
    inverse = np.argmax(products == 1, axis=1)
    factors = []
    for own in holders:
        factor = 1
        for other in holders:
            if other != own:
                factor = int(products[factor, products[other, inverse[other ^ own]]])
        factors.append(factor)
    return tuple(factors)
