"""A weighted mean as one sum: update, weight and metrics are coordinates of the same vector.

Each party sends weight * update, weight, weight * metric, ...; the sums give the weighted means,
and no party's weight or metric is seen alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError


@dataclass(frozen=True, kw_only=True, eq=False)
class Mean:
    """What a sum of packed vectors says: update float64 (d,), total weight, mean metrics."""

    update: NDArray[np.float64]
    weight: float
    metrics: dict[str, float]


def pack(
    update: NDArray[np.floating[Any]], weight: float, metrics: Mapping[str, float] | None = None
) -> NDArray[np.float64]:
    """float (d,) -> float64 (d + 1 + metrics,), metrics in the order of their names.

    Keep weights near one (a party's share of the rows, say): they take up the range of the
    fixed point. Raises ProtocolError unless the weight is positive and finite.
    """
    if not (math.isfinite(weight) and weight > 0):
        raise ProtocolError("weighted sum: a weight is not a positive number. Leave the party out.")
    extra = [metrics[name] for name in sorted(metrics)] if metrics else []
    packed = np.empty(len(update) + 1 + len(extra))
    np.multiply(update, weight, out=packed[: len(update)])
    packed[len(update) :] = weight * np.array([1.0, *extra])
    return packed


def unpack(total: NDArray[np.float64], metrics: Sequence[str] = ()) -> Mean:
    """Sum of packed vectors -> their weighted mean. `metrics`: the same names as packed.

    Raises ProtocolError when the vector is too short or its weight is not positive.
    """
    size = len(total) - 1 - len(metrics)
    if size < 0 or not total[size] > 0:
        raise ProtocolError("weighted sum: no positive weight in it. Pack at every party.")
    weight = float(total[size])
    means = total[size + 1 :] / weight
    named = {name: float(mean) for name, mean in zip(sorted(metrics), means, strict=True)}
    return Mean(update=total[:size] / weight, weight=weight, metrics=named)
