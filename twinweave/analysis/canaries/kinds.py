"""The kinds of tables that a run may release, each as a canary run asks for them.

Canary i of a run with `side` ** 2 of them has i // side for its high digit and i % side for its
low one: with both of them a table has one cell for every canary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from twinweave.spec import RunSpec
from twinweave.tables.column import VALUE_UNITS, Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.queries import Query, Side, side_of

KEY, HIGH, LOW, COARSE, AMOUNT = "user", "high", "low", "coarse", "amount"
ONE, TWO, ALSO = "one", "two", "also"
"""Parties. A canary is at ONE and at TWO; where ONE and ALSO are a pool, at either of them."""


@dataclass(frozen=True, kw_only=True)
class TableKind:
    """name: of the release path. first: tables of a first pass; `queries` are the second's then.

    coins: shared ones are asked for. reader: see `parties.Parties`. runs: so many, whose canaries
    add up.
    """

    name: str
    queries: tuple[Query, ...]
    first: tuple[Query, ...] = ()
    pool: tuple[str, ...] = ()
    coins: bool = False
    reader: str | None = None
    runs: int = 1

    @property
    def parties(self) -> tuple[str, ...]:
        return (*(self.pool or (ONE,)), TWO)


def kinds_of(spec: RunSpec, side: int) -> Iterator[TableKind]:
    """The kinds of tables that are in a run's plan."""
    plan = spec.plan
    across = [p for p in plan if p.query.is_cross and not p.query.is_pooled]
    yield own_tables()
    if any(p.coins for p in across):
        yield shared_coins()
    if any(not p.coins for p in across):
        yield noise_of_each()
    if any(p.query.weight for p in plan):
        yield sums()
    if spec.two_passes:
        yield two_passes(side)
    if spec.pools:
        yield pools()


def own_tables() -> TableKind:
    return TableKind(name="tables: of one party", queries=(_local(ONE), _local(TWO)))


def shared_coins() -> TableKind:
    """Four tables and two runs: the spare coins, which are not charged for but which a server that
    deals as it should does not know either, then take little from what it sees."""
    sides = [(_side(ONE, a), _side(TWO, b)) for a, b in ((HIGH, LOW), (LOW, HIGH))]
    both = (pair for one, two in sides for pair in ((one, two), (two, one)))
    return TableKind(
        name="tables: across parties, shared coins",
        queries=tuple(Query(sides=pair) for pair in both),
        coins=True,
        runs=2,
    )


def noise_of_each() -> TableKind:
    return TableKind(
        name="tables: across parties, noise of each",
        queries=(Query(sides=(_side(ONE, HIGH), _side(TWO, LOW))),),
        reader=TWO,
    )


def sums() -> TableKind:
    weighted = Side(party=TWO, columns=(_name(TWO, LOW),), weight=_name(TWO, AMOUNT))
    return TableKind(
        name="tables: sums of amounts",
        queries=(Query(sides=(_side(ONE, HIGH), weighted)),),
        reader=TWO,
    )


def two_passes(side: int) -> TableKind:
    columns = tuple(_name(ONE, c) for c in (COARSE, LOW))
    groups = tuple(i // 2 for i in range(2 * side)), tuple(range(side))
    coarse = Query(sides=(Side(party=ONE, columns=columns, groups=groups),))
    return TableKind(
        name="tables: a coarse first pass, then a second", first=(coarse,), queries=(_local(TWO),)
    )


def pools() -> TableKind:
    pool = (ONE, ALSO)
    both = side_of(pool, (_name(ONE, HIGH), _name(ONE, LOW)))
    return TableKind(name="tables: of a pool", queries=(Query(sides=(both,)),), pool=pool)


def schema_of(kind: TableKind, side: int) -> JointSchema:
    """Every party's key and columns; the members of a pool hold the same ones."""
    pools = (kind.pool,) if kind.pool else ()
    schemas = (Schema(party=p, columns=_columns(kind, p, side)) for p in kind.parties)
    return JointSchema(schemas=tuple(schemas), pools=pools)


def _columns(kind: TableKind, party: str, side: int) -> tuple[Column, ...]:
    shared = party in kind.pool
    sizes = {HIGH: side, LOW: side, COARSE: 2 * side}
    digits = (
        Column(
            name=name_at(kind, party, digit),
            kind=Kind.INTEGER,
            bounds=(0.0, size - 1.0),
            bins=size,
            shared=shared,
        )
        for digit, size in sizes.items()
    )
    amount = Column(
        name=name_at(kind, party, AMOUNT),
        kind=Kind.INTEGER,
        role=Role.VALUE,
        bounds=(0.0, float(VALUE_UNITS)),
        bins=2,
        shared=shared,
    )
    return (Column(name=KEY, kind=Kind.CATEGORICAL, role=Role.KEY), *digits, amount)


def name_at(kind: TableKind, party: str, digit: str) -> str:
    """A party's column; the members of a pool have the first one's."""
    return _name(kind.pool[0] if party in kind.pool else party, digit)


def _name(party: str, digit: str) -> str:
    return f"{party}_{digit}"


def _side(party: str, *digits: str) -> Side:
    return Side(party=party, columns=tuple(_name(party, d) for d in digits))


def _local(party: str) -> Query:
    return Query(sides=(_side(party, HIGH, LOW),))
