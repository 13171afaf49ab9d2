"""Of which relations with the lift the synthetic rows are no evidence: those not measured.

Rows show some relation between any columns. Where no table counts membership, a column and an
outcome together, how the lift differs by that column is the generator's invention. Coarse tables,
which a first pass asks for, are no such tables: their groups say little of the levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    """Columns by which an outcome's lift was not measured, in the schema's order."""

    outcome: str
    columns: tuple[str, ...]


def unmeasured(
    schema: JointSchema, conf: LiftConf, measurements: Sequence[Measurement]
) -> tuple[Unmeasured, ...]:
    """For each conversion and value: columns with which no table of arms and outcome is.

    Outcomes themselves and the membership are no such columns. A sum of a value by arm and a
    column is a table of all three.
    """
    together = [_together(m.query) for m in measurements]
    outcomes = (*conf.conversions, *conf.values)
    others = [n for n in schema.names if n not in (conf.membership, *outcomes)]
    found = []
    for outcome in outcomes:
        pair = {conf.membership, outcome}
        seen = set().union(*(t for t in together if pair <= t))
        missing = tuple(name for name in others if name not in seen)
        if missing:
            found.append(Unmeasured(outcome=outcome, columns=missing))
    return tuple(found)


def _together(query: Query) -> set[str]:
    """The columns of one table, with the one that it sums."""
    return {*query.columns, *([] if query.weight is None else [query.weight])}
