"""The priority tables, on which the lift and the fairness audit stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from twinweave.tables.column import GROUPS, Role
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import Analyses, FairnessConf, LiftConf
from twinweave.workload.queries import Query, query_over, side_of


def priority_tables(analyses: Analyses) -> list[Query]:
    """In order of importance: of the lift, then of the audit."""
    schema = analyses.schema
    found: list[Query | None] = []
    if analyses.lift is not None:
        found += _of_lift(schema, analyses.lift)
    if analyses.fairness is not None:
        found += _of_fairness(schema, analyses.fairness)
    return [q for q in found if q is not None]


def _of_lift(schema: JointSchema, lift: LiftConf) -> Iterator[Query | None]:
    """Arms; arms by conversion, also by random group of clusters; of values, sums by arm, and how
    they are spread among all users of their party; conversions and sums by breakdown."""
    home = schema.unit(schema.holders(lift.membership)[0])
    yield Query(sides=(side_of(home, (lift.membership,)),), priority=True)
    for conversion in lift.conversions:
        yield query_over(schema, lift.membership, conversion, priority=True)
    if lift.cluster is not None:
        for conversion in lift.conversions:
            yield query_over(schema, lift.membership, lift.cluster, conversion, priority=True)
    for value in lift.values:
        yield _sum(schema, lift, value)
        yield query_over(schema, value, priority=True)
    for column in lift.breakdowns:
        by = [
            query_over(schema, lift.membership, column, conversion, priority=True)
            for conversion in lift.conversions
        ]
        sums = [_sum(schema, lift, value, column) for value in lift.values]
        yield from (*by, *sums)
        if any(sums) and not any(by):  # a mean needs the sizes too
            yield query_over(schema, lift.membership, column, priority=True)


def _of_fairness(schema: JointSchema, fairness: FairnessConf) -> Iterator[Query | None]:
    for sensitive in fairness.sensitive:
        yield query_over(schema, sensitive, fairness.label, priority=True)


def _sum(schema: JointSchema, lift: LiftConf, value: str, by: str | None = None) -> Query | None:
    """Sum of a value column by membership, and by a further column, up to its stated clip; None
    where no two parties hold them all between them.

    It has the sides of a count over the columns and the value, which is summed on its own.
    """
    columns = (lift.membership, *((by,) if by else ()))
    counted = query_over(schema, *columns, value, priority=True)
    if counted is None:
        return None
    stated, (_, high) = lift.stated_clips.get(value), schema.column(value).span
    clip = None if stated is None or stated >= high else stated
    sides = tuple(
        side_of(s.members, tuple(c for c in s.columns if c != value), value, clip)
        if value in s.columns
        else s
        for s in counted.sides
    )
    return replace(counted, sides=sides)


_HEADLINE = 8.0


def importance(schema: JointSchema, query: Query) -> float:
    """Factor on a table's share of its budget: more for the few that the headline lift is from.

    A sum's noise is that of a count times the column's whole range, so sums need most; those of a
    breakdown, which are many, take no more than its counts. Random groups of clusters have GROUPS
    times the cells of the table of arm and conversion: they get as much of the budget as it.
    """
    roles = [schema.column(c).role for c in query.columns]
    if query.weight is not None:
        return 12.0 if len(query.columns) == 1 else 1.0
    if Role.CLUSTER in roles:
        return _HEADLINE / float(GROUPS ** (2 / 3))
    if query.priority and set(roles) == {Role.MEMBERSHIP, Role.CONVERSION}:
        return _HEADLINE
    return 1.0
