"""Which tables a run measures: the priority ones the lift and the audit stand on, then the rest.

Post-processing needs every query to be one linear query on the union; see workload/queries.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Protocol

from twinweave.tables.column import Role
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import FairnessConf, LiftConf
from twinweave.workload.queries import Query, Side, cells_of, check


class Chosen(Protocol):
    """What a feature selection hands over: columns of the tables worth measuring."""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def three_way(self) -> tuple[tuple[str, str, str], ...]: ...


def build(
    schema: JointSchema,
    *,
    lift: LiftConf | None,
    fairness: FairnessConf | None,
    one_way: bool,
    pairs: bool,
    three_way: bool,
    max_pair_columns: int,
    max_cells: int,
    choice: Chosen | None = None,
) -> tuple[Query, ...]:
    """Distinct queries in a deterministic order, priority first; none above `max_cells`.

    max_pair_columns: up to so many union columns all pairs are measured, beyond only those
    with a membership, conversion, label or sensitive column.
    choice: feature selection's (workload/choice.py): its pairs and three-way tables instead.
    """
    wanted: list[Query] = [*_priority(schema, lift, fairness)]
    if one_way:
        wanted += _one_way(schema)
    if pairs:
        wanted += _chosen(schema, choice.pairs) if choice else _pairs(schema, max_pair_columns)
    if three_way:
        wanted += _chosen(schema, choice.three_way) if choice else _three_way(schema, fairness)
    kept: dict[str, Query] = {}
    for query in wanted:
        check(schema, query)
        if query.priority or cells_of(schema, query).size <= max_cells:
            kept.setdefault(_key(query), query)
    return tuple(kept.values())


def _key(query: Query) -> str:
    """The same for queries that ask the same table, whatever the order of sides and columns."""
    return repr((sorted((s.party, sorted(s.columns)) for s in query.sides), query.weight))


def table(schema: JointSchema, *columns: str, priority: bool = False) -> Query | None:
    """The query over some columns, local where one party holds them all, else of two parties.

    Of two, the side of the first column's holder takes all it can: users whom only that party
    holds keep their shared columns. None where no two parties hold them all between them. A
    pool counts as one party: its members' tables are asked as their sum.
    """
    held = {unit: schema.schema(unit[0]).names for unit in schema.units}
    for unit, names in held.items():
        if all(c in names for c in columns):
            return Query(sides=(_side(unit, columns),), priority=priority)
    home = schema.unit(schema.holders(columns[0])[0])
    ordered = sorted(held, key=lambda unit: unit != home)
    for first, second in combinations(ordered, 2):
        at_first = tuple(c for c in columns if c in held[first])
        at_second = tuple(c for c in columns if c not in at_first and c in held[second])
        if at_first and at_second and len(at_first) + len(at_second) == len(columns):
            sides = (_side(first, at_first), _side(second, at_second))
            return Query(sides=sides, priority=priority)
    return None


def _side(
    unit: tuple[str, ...], columns: tuple[str, ...] = (), weight: str | None = None, power: int = 1
) -> Side:
    """A side of one party, or of a pool."""
    pool = unit if len(unit) > 1 else ()
    return Side(party=unit[0], columns=columns, weight=weight, power=power, pool=pool)


def _priority(
    schema: JointSchema, lift: LiftConf | None, fairness: FairnessConf | None
) -> Iterator[Query]:
    if lift is not None:
        home = schema.unit(schema.holders(lift.membership)[0])
        yield Query(sides=(_side(home, (lift.membership,)),), priority=True)
        yield from _some(table(schema, lift.membership, c, priority=True) for c in lift.conversions)
        for x in lift.breakdowns:
            for c in lift.conversions:
                yield from _some([table(schema, lift.membership, x, c, priority=True)])
        for value in lift.values:
            for power in (1, 2):
                yield _weighted(schema, lift.membership, value, power)
    if fairness is not None:
        yield from _some(
            table(schema, s, fairness.label, priority=True) for s in fairness.sensitive
        )


def _weighted(schema: JointSchema, membership: str, value: str, power: int) -> Query:
    """Sum of a value column by membership, at one party or across two."""
    home = schema.unit(schema.holders(membership)[0])
    if home[0] in schema.holders(value):
        return Query(sides=(_side(home, (membership,), value, power),), priority=True)
    holder = schema.unit(schema.holders(value)[0])
    sides = (_side(home, (membership,)), _side(holder, weight=value, power=power))
    return Query(sides=sides, priority=True)


def _one_way(schema: JointSchema) -> Iterator[Query]:
    for unit in schema.units:
        for name in schema.schema(unit[0]).names:
            yield Query(sides=(_side(unit, (name,)),))


def _pairs(schema: JointSchema, max_columns: int) -> Iterator[Query]:
    names = schema.names
    hubs = {
        c.name
        for role in (Role.MEMBERSHIP, Role.CONVERSION, Role.LABEL, Role.SENSITIVE)
        for c in schema.with_role(role)
    }
    pairs = combinations(names, 2)
    chosen = pairs if len(names) <= max_columns else (p for p in pairs if hubs & set(p))
    yield from _some(table(schema, *pair) for pair in chosen)


def _chosen(schema: JointSchema, tables: Iterable[tuple[str, ...]]) -> Iterator[Query]:
    return _some(table(schema, *columns) for columns in tables)


def _three_way(schema: JointSchema, fairness: FairnessConf | None) -> Iterator[Query]:
    if fairness is not None:
        for s in fairness.sensitive:
            others = [n for n in schema.names if n not in (s, fairness.label)]
            yield from _some(table(schema, s, x, fairness.label) for x in others)


def _some(queries: Iterable[Query | None]) -> Iterator[Query]:
    return (q for q in queries if q is not None)
