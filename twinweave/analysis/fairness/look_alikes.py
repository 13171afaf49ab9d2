"""Columns that look sensitive, to be confirmed: by name, and by what the noisy tables say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from twinweave.tables.drafts.sensitive import sensitive_by_name
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import FairnessConf
from twinweave.workload.dependence import between_two
from twinweave.workload.measurement import Measurement

STRONG = 0.3
"""Cramer's V (corrected for noise) from which a column may stand in for a sensitive one."""

CLEAR = 5.0
"""Standard deviations from independence that the noisy table must show."""


@dataclass(frozen=True, kw_only=True)
class LookAlike:
    """A column that is not declared sensitive. trait: what its name tells, None for nothing.

    strength: Cramer's V with `of`, the declared column that it tells most of; None where no table
    of the two was measured, or where they are not clearly associated.
    """

    column: str
    trait: str | None
    of: str | None
    strength: float | None


def look_alikes(
    schema: JointSchema, conf: FairnessConf, measurements: Sequence[Measurement]
) -> tuple[LookAlike, ...]:
    """Those that are called like a trait, or strongly associated with a declared column."""
    strongest: dict[str, tuple[float, str]] = {}
    for m in measurements:
        columns = m.query.columns
        if m.query.weight is not None or len(columns) != 2:
            continue
        for declared, other in (columns, columns[::-1]):
            if declared in conf.sensitive and other not in (conf.label, *conf.sensitive):
                strength = _strength(schema, m, other, declared)
                strongest[other] = max(strongest.get(other, (0.0, "")), (strength, declared))
    named = sensitive_by_name(n for n in schema.names if n not in (conf.label, *conf.sensitive))
    found = []
    for name in schema.names:
        strength, of = strongest.get(name, (0.0, ""))
        if name in named or strength >= STRONG:
            found.append(
                LookAlike(
                    column=name,
                    trait=named.get(name),
                    of=of if strength >= STRONG else None,
                    strength=strength if strength >= STRONG else None,
                )
            )
    return tuple(found)


def _strength(schema: JointSchema, m: Measurement, other: str, declared: str) -> float:
    table = m.table(schema).project((other,), (declared,))
    found = between_two(table.values, float(table.variances.max()))
    if found.z < CLEAR:
        return 0.0
    few = min(len(schema.column(c).labels) for c in (other, declared)) - 1
    return found.phi / sqrt(max(few, 1))
