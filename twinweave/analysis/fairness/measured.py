"""Unfairness of the real data as the noisy tables have it: no synthetic row involved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.fairness.spread import DRAWS, spread
from twinweave.analysis.finding import Finding
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import FairnessConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredParity:
    """finding: None where fewer than two groups stay. kept: bool (groups,), who is compared."""

    finding: Finding | None
    kept: NDArray[np.bool_] = field(repr=False)


def measured_parity(
    schema: JointSchema,
    sensitive: Sequence[str],
    conf: FairnessConf,
    measurements: Sequence[Measurement],
    k: int,
    level: float,
    rng: np.random.Generator,
) -> MeasuredParity | None:
    """Demographic parity difference of the real label between the groups of `sensitive`.

    The interval is that of the privacy noise alone: it speaks of the people in the tables.
    Groups below k, or below three standard deviations of their noise, are left out; None
    where no table counts the very people the audit looks at.
    """
    columns = (*sensitive, conf.label)
    tables = [
        m.table(schema).project(tuple(sensitive), (conf.label,))
        for m in measurements
        if m.query.weight is None and _same_people(schema, columns, m.query)
    ]
    if not tables:
        return None
    # Every table is unbiased for the same counts: the mean by precision is the best of them.
    precision = np.array([1 / max(float(t.variances.max()), 1e-9) for t in tables])
    counts = np.tensordot(precision, np.stack([t.values for t in tables]), 1) / precision.sum()
    positive = counts[:, schema.column(conf.label).labels.index(conf.positive)]
    size, noise, labels = counts.sum(axis=1), 1 / precision.sum(), counts.shape[1]
    kept = (size >= max(k, 3 * np.sqrt(noise * labels))) & (size > 0)
    if kept.sum() < 2:
        return MeasuredParity(finding=None, kept=kept)
    positive, negative = positive[kept], (size - positive)[kept]
    inside = positive + rng.normal(0, np.sqrt(noise), (DRAWS, len(positive)))
    outside = negative + rng.normal(0, np.sqrt(noise * (labels - 1)), (DRAWS, len(negative)))
    rates = (positive / size[kept]).clip(0, 1)
    draws = inside / np.maximum(inside + outside, 1)
    return MeasuredParity(finding=spread(rates[None], draws[:, None], level), kept=kept)


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
