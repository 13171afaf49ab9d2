"""From measured tables to sums for each arm, whatever else a table is broken down by.

A sum of independent noisy cells is unbiased, and its variance is the sum of theirs; so
every table with the membership in it, however fine, says something about the arms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Side

Floats = NDArray[np.float64]

POSITIVE = 1
"""Code of a boolean column's second level: the user has converted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmSums:
    """Sums of one measured table's cells. Shapes (2, levels): test then control; by level.

    inside, outside: cells with the conversion, and all others, or everything in `outside`
        when no conversion is asked for. Variances of the noise have the same shape.
    """

    inside: Floats = field(repr=False)
    outside: Floats = field(repr=False)
    var_inside: Floats = field(repr=False)
    var_outside: Floats = field(repr=False)


def arm_sums(
    schema: JointSchema,
    conf: LiftConf,
    measurement: Measurement,
    *,
    by: str | None = None,
    conversion: str | None = None,
) -> ArmSums | None:
    """Sum a table's cells for each arm (and each level of `by`), split by `conversion`.

    None when the table lacks the membership, `by` or `conversion`. Without `by` there is
    one level. Users whom the conversion's party does not hold are in `outside`.
    """
    home, away, array = _oriented(schema, conf, measurement)
    if home is None or (by is not None and by not in home.columns):
        return None
    leading = [conf.membership] + ([by] if by else [])
    rest = [c for c in home.columns if c not in leading]
    mask = _mask(schema, rest, away, array.size, home, conversion)
    if mask is None:
        return None
    sizes = [schema.column(c).size for c in home.columns]
    order = [home.columns.index(c) for c in leading + rest]
    folded = array.reshape(*sizes, -1).transpose(*order, len(sizes))
    cells = folded.reshape(sizes[order[0]], sizes[order[1]] if by else 1, -1)
    labels = schema.column(conf.membership).labels
    arms = [[labels.index(level) for level in levels] for levels in (conf.test, conf.control)]
    inside = np.stack([cells[arm][:, :, mask].sum(axis=(0, 2)) for arm in arms])
    outside = np.stack([cells[arm][:, :, ~mask].sum(axis=(0, 2)) for arm in arms])
    merged = np.array([[len(arm)] for arm in arms]) * np.ones_like(inside)
    return ArmSums(
        inside=inside,
        outside=outside,
        var_inside=merged * int(mask.sum()) * measurement.variance,
        var_outside=merged * int((~mask).sum()) * measurement.variance,
    )


def _oriented(
    schema: JointSchema, conf: LiftConf, measurement: Measurement
) -> tuple[Side | None, Side | None, Floats]:
    """The membership's side, the other one, and the table without its absent row."""
    sides = measurement.query.sides
    party = schema.holders(conf.membership)[0]
    values = np.asarray(measurement.values, dtype=np.float64)
    at = [i for i, s in enumerate(sides) if s.party == party and conf.membership in s.columns]
    if not at:
        return None, None, values
    home = sides[at[0]]
    if len(sides) == 1:
        return home, None, values
    rows = values if at[0] == 0 else values.T
    return home, sides[1 - at[0]], rows[:-1] if home.weight is None else rows


def _mask(
    schema: JointSchema,
    rest: list[str],
    away: Side | None,
    n_cells: int,
    home: Side,
    conversion: str | None,
) -> NDArray[np.bool_] | None:
    """Which positions of (rest of home) x away have converted; None when none can be told."""
    inner = [schema.column(c).size for c in rest]
    width = n_cells // prod(schema.column(c).size for c in home.columns)
    mask = np.zeros((*inner, width), dtype=bool)
    if conversion is None:
        return mask.ravel()
    if conversion in rest:
        mask[(slice(None),) * rest.index(conversion) + (POSITIVE,)] = True
        return mask.ravel()
    if away is None or conversion not in away.columns:
        return None
    sizes = [schema.column(c).size for c in away.columns]
    held = np.indices(sizes)[away.columns.index(conversion)].ravel() == POSITIVE
    mask[..., : held.size] = held
    return mask.ravel()
