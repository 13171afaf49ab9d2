"""Noise on integer tables: exact discrete Gaussian samples from a cryptographic generator.

OpenDP draws it (Canonne, Kamath, Steinke 2020, in exact arithmetic on the generator of
OpenSSL): no float enters the sample. Some 10 to 25 microseconds a cell: 100,000 cells take a
few seconds. Shared binomial coins are drawn by the protocol, in shares.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.privacy.events import DiscreteGaussian, SharedBinomial

_CHUNK = 1 << 18  # cells handed over at once: each becomes a Python integer on the way back


def release_table(counts: NDArray[np.int64], scale: float) -> NDArray[np.int64]:
    """counts + discrete Gaussian noise of `scale` in every cell; int64, same shape.

    counts: exact integers of any integer dtype below 2**62. Raises ConfigError for floats or a
    scale that is not positive. Charge the event before calling.
    """
    table = np.asarray(counts)
    if table.dtype.kind not in "iu":
        raise ConfigError("counts", "not whole numbers", "Give an integer table.")
    if not 0 < scale < math.inf:
        raise ConfigError("scale", "must be positive and finite", "Give a number above 0.")
    measure = _gaussian(float(scale))
    flat = np.ascontiguousarray(table, dtype=np.int64).ravel()
    parts = [
        np.asarray(measure(flat[i : i + _CHUNK]), dtype=np.int64)
        for i in range(0, flat.size, _CHUNK)
    ]
    return np.concatenate(parts).reshape(table.shape) if parts else flat.reshape(table.shape)


def discrete_gaussian(shape: int | tuple[int, ...], scale: float) -> NDArray[np.int64]:
    """Independent samples of the discrete Gaussian of `scale`, int64 of `shape`."""
    return release_table(np.zeros(shape, dtype=np.int64), scale)


def noise_scale(event: DiscreteGaussian) -> float:
    """Scale in units of the table, so that what is drawn is what was charged."""
    return event.noise_multiplier * event.sensitivity


def noise_variance(mechanism: DiscreteGaussian | SharedBinomial) -> float:
    """Exact variance of the noise in one cell, in squared units of the table.

    A discrete Gaussian's is below scale**2, by more than 1e-6 of it for scales under 1 only.
    """
    if isinstance(mechanism, SharedBinomial):
        return mechanism.coins / 4
    scale = noise_scale(mechanism)
    if scale > 3:
        return scale * scale
    x = np.arange(-40, 41)
    weights = np.exp(-0.5 * (x / scale) ** 2)
    return float(weights @ (x * x) / weights.sum())


@lru_cache(maxsize=64)
def _gaussian(scale: float) -> Any:
    # The submodules, not opendp.prelude, which takes seconds to import.
    from opendp.domains import atom_domain, vector_domain
    from opendp.measurements import make_gaussian
    from opendp.metrics import l2_distance
    from opendp.mod import enable_features

    enable_features("contrib")
    return make_gaussian(vector_domain(atom_domain(T="i64")), l2_distance(T="f64"), scale=scale)
