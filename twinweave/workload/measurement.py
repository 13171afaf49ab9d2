"""Measurements: noisy linear counting queries, the only facts about joint data that leave.

Everything on the server (lift, fit, raking, report) is post-processing of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinweave.workload.queries import Query


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """A query's noisy table.

    values: float64, shape `query.shape(schema, query)`; unbiased; counts of users, or value
        units (0..VALUE_UNITS a user) for a weighted query.
    variance: of the noise in each cell, in the square of the same unit; known and public.
    """

    query: Query
    values: NDArray[np.float64] = field(repr=False)
    variance: float
