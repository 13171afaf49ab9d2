"""From measured tables to sums for each arm, whatever else a table is broken down by.

A sum of independent noisy cells is unbiased, and its variance is the sum of theirs; so
every table with the membership in it, however fine, says something about the arms.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement

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
    home = schema.holders(conf.membership)[0]
    own = [s.columns for s in measurement.query.sides if s.party == home]
    leading = (conf.membership, *((by,) if by else ()))
    if not own or not set(leading) <= set(own[0]):
        return None
    if conversion is not None and conversion not in measurement.query.columns:
        return None
    table = measurement.table(schema)
    everyone = table.project(leading[:1], leading[1:])
    inside = var_inside = np.zeros((2, everyone.values.shape[1]))
    total, var_total = (_by_arm(schema, conf, x) for x in (everyone.values, everyone.variances))
    if conversion is not None:
        converted = table.project(leading[:1], leading[1:], (conversion,))
        inside, var_inside = (
            _by_arm(schema, conf, x[..., POSITIVE]) for x in (converted.values, converted.variances)
        )
    return ArmSums(
        inside=inside,
        outside=total - inside,
        var_inside=var_inside,
        var_outside=var_total - var_inside,
    )


def lacking_sums(
    schema: JointSchema, conf: LiftConf, measurement: Measurement
) -> tuple[str, Floats, Floats] | None:
    """Users of each arm whom a table's other side lacks: (its first party, sums, variances).

    Sums and variances are (2,): test then control. None for a table without the membership,
    or of one side.
    """
    home = schema.holders(conf.membership)[0]
    own = [s for s in measurement.query.sides if s.party == home]
    other = [s for s in measurement.query.sides if s.party != home]
    if not own or conf.membership not in own[0].columns or not other or not other[0].columns:
        return None
    table = measurement.table(schema)
    everyone = table.project((conf.membership,), ())
    held = table.project((conf.membership,), (), other[0].columns[:1])
    sums, variances = (
        _by_arm(schema, conf, every - present.sum(axis=-1))[:, 0]
        for every, present in ((everyone.values, held.values), (everyone.variances, held.variances))
    )
    return other[0].party, sums, variances


def _by_arm(schema: JointSchema, conf: LiftConf, by_level: Floats) -> Floats:
    """(levels of the membership, levels) summed to (2, levels): test, then control."""
    labels = schema.column(conf.membership).labels
    arms = [[labels.index(level) for level in levels] for levels in (conf.test, conf.control)]
    return np.stack([by_level[arm].sum(axis=0) for arm in arms])
