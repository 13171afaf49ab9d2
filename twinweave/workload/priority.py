"""The priority tables, on which the lift and the fairness audit stand."""

from __future__ import annotations

from collections.abc import Iterator

from twinweave.tables.column import Role
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
    """Arms; arms by conversion; the same by breakdown; of values, sums by arm, and how they are
    spread among all users of their party."""
    home = schema.unit(schema.holders(lift.membership)[0])
    yield Query(sides=(side_of(home, (lift.membership,)),), priority=True)
    for conversion in lift.conversions:
        yield query_over(schema, lift.membership, conversion, priority=True)
    for column in lift.breakdowns:
        for conversion in lift.conversions:
            yield query_over(schema, lift.membership, column, conversion, priority=True)
    for value in lift.values:
        yield _weighted(schema, lift.membership, value)
        yield query_over(schema, value, priority=True)


def _of_fairness(schema: JointSchema, fairness: FairnessConf) -> Iterator[Query | None]:
    for sensitive in fairness.sensitive:
        yield query_over(schema, sensitive, fairness.label, priority=True)


def _weighted(schema: JointSchema, membership: str, value: str) -> Query:
    """Sum of a value column by membership, at one party or across two."""
    home = schema.unit(schema.holders(membership)[0])
    if home[0] in schema.holders(value):
        return Query(sides=(side_of(home, (membership,), value),), priority=True)
    holder = schema.unit(schema.holders(value)[0])
    sides = (side_of(home, (membership,)), side_of(holder, weight=value))
    return Query(sides=sides, priority=True)


def importance(schema: JointSchema, query: Query) -> float:
    """Factor on a table's share of its budget: more for the few that the headline lift is from.

    A sum's noise is that of a count times the column's whole range, so sums need most.
    """
    roles = [schema.column(c).role for c in query.columns]
    if query.weight is not None:
        return 8.0
    if query.priority and set(roles) == {Role.MEMBERSHIP, Role.CONVERSION}:
        return 4.0
    return 1.0
