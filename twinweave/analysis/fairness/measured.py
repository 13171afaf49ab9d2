"""Unfairness of the real data as the noisy tables have it: no synthetic row involved."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.fairness.spread import DRAWS, spread
from twinweave.analysis.lift.results import Finding
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import FairnessConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query

Floats = NDArray[np.float64]


def measured_parity(
    schema: JointSchema,
    sensitive: Sequence[str],
    conf: FairnessConf,
    measurements: Sequence[Measurement],
    k: int,
    level: float,
    rng: np.random.Generator,
) -> Finding | None:
    """Demographic parity difference of the real label between the groups of `sensitive`.

    The interval is that of the privacy noise alone: it speaks of the people in the tables.
    Groups below k, or below three standard deviations of their noise, are left out; None
    where no table counts the very people the audit looks at, or fewer than two groups stay.
    """
    columns = (*sensitive, conf.label)
    tables = [
        (m, *_folded(schema, columns, m))
        for m in measurements
        if m.query.weight is None and _same_people(schema, columns, m.query)
    ]
    if not tables:
        return None
    # Every table is unbiased for the same counts: the mean by precision is the best of them.
    precision = np.array([1 / max(merged * m.variance, 1e-9) for m, _, merged in tables])
    counts = np.tensordot(precision, np.stack([c for _, c, _ in tables]), 1) / precision.sum()
    noise = 1 / precision.sum()
    positive = schema.column(conf.label).labels.index(conf.positive)
    flat = counts.reshape(-1, counts.shape[-1])
    tens = np.stack([flat[:, positive], flat.sum(axis=1)], axis=1)
    sd_size = np.sqrt(noise * flat.shape[1])
    tens = tens[(tens[:, 1] >= max(k, 3 * sd_size)) & (tens[:, 1] > 0)]
    if len(tens) < 2:
        return None
    inside = tens[:, 0] + rng.normal(0, np.sqrt(noise), (DRAWS, len(tens)))
    others = np.sqrt(noise * (flat.shape[1] - 1))
    outside = tens[:, 1] - tens[:, 0] + rng.normal(0, others, (DRAWS, len(tens)))
    rates = (tens[:, 0] / tens[:, 1]).clip(0, 1)
    draws = inside / np.maximum(inside + outside, 1)
    return spread(rates[None], draws[:, None], level)


def _folded(schema: JointSchema, columns: Sequence[str], m: Measurement) -> tuple[Floats, int]:
    """The table summed to `columns`, absent positions left out of their sides; cells merged."""
    query = m.query
    values = np.asarray(m.values, dtype=np.float64)
    spare = 1
    if query.is_cross:
        needed = [bool(set(s.columns) & set(columns)) for s in query.sides]
        for axis, asked in enumerate(needed):
            if asked:
                values = values.take(range(values.shape[axis] - 1), axis)
            else:
                spare = values.shape[axis]
                values = values.sum(axis=axis, keepdims=True)
        kept = [s for s, n in zip(query.sides, needed, strict=True) if n]
    else:
        kept = list(query.sides)
    named = [c for s in kept for c in s.columns]
    values = values.reshape([schema.column(c).size for c in named])
    gone = tuple(i for i, c in enumerate(named) if c not in columns)
    spare *= int(np.prod([values.shape[i] for i in gone]))
    values = values.sum(axis=gone)
    left = [c for c in named if c in columns]
    return values.transpose([left.index(c) for c in columns]), spare


def _same_people(schema: JointSchema, columns: Sequence[str], query: Query) -> bool:
    """Whether the table has all columns, and counts exactly the users who have them.

    A union row has a column when any of its holders is present; a table counts the users
    present at each of the parties that it takes the columns from, or of a pool at any.
    """
    if any(query.columns.count(c) != 1 for c in columns):
        return False
    asked = [s.members for s in query.sides if set(s.columns) & set(columns)]
    if not set(asked) <= set(schema.units):
        return False
    for pattern in product((True, False), repeat=len(schema.units)):
        at = dict(zip(schema.units, pattern, strict=True))
        has = all(any(at[schema.unit(p)] for p in schema.holders(c)) for c in columns)
        if has != all(at[unit] for unit in asked):
            return False
    return True
