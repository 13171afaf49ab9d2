"""A party's schema, and the parties' schemas side by side.

Public and agreed before a run; the order of the columns is part of the contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from twinweave.errors import SchemaError
from twinweave.names import check_name
from twinweave.parsing import Parsed
from twinweave.tables.column import Column, Role
from twinweave.tables.rules import Implies, Impossible, Rules, compiled


@dataclass(frozen=True, kw_only=True)
class Schema(Parsed):
    """One party's table: exactly one key column, order of columns is part of the contract."""

    party: str
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        check_name("a party", self.party)
        names = [c.name for c in self.columns]
        if repeated := {n for n in names if names.count(n) > 1}:
            raise SchemaError(
                f"party {self.party!r}: column names repeat: {sorted(repeated)}. Rename one."
            )
        if [c.role for c in self.columns].count(Role.KEY) != 1:
            raise SchemaError(
                f"party {self.party!r}: a table has exactly one key column. "
                "Give one column `role: key`."
            )
        if not self.data_columns:
            raise SchemaError(f"party {self.party!r}: no column beside the key. Declare one.")

    @property
    def key(self) -> Column:
        return next(c for c in self.columns if c.role is Role.KEY)

    @property
    def data_columns(self) -> tuple[Column, ...]:
        """Every column that a row has beside its id, in schema order: no key, no cluster."""
        return tuple(c for c in self.columns if c.role not in (Role.KEY, Role.CLUSTER))

    @cached_property
    def coded_columns(self) -> tuple[Column, ...]:
        """The columns of an encoded table: those of a row, then the clusters' groups."""
        return self.data_columns + self.with_role(Role.CLUSTER)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.data_columns)

    @property
    def coded_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.coded_columns)

    def column(self, name: str) -> Column:
        for c in self.columns:
            if c.name == name:
                return c
        raise SchemaError(f"party {self.party!r} has no column {name!r}. Check the schema.")

    def with_role(self, role: Role) -> tuple[Column, ...]:
        return tuple(c for c in self.columns if c.role is role)


@dataclass(frozen=True, kw_only=True)
class JointSchema(Parsed):
    """The parties' schemas side by side: the columns of a row of the union.

    A shared column appears once; its holders are all parties that declare it. A column that
    is not shared has one holder. A row of the union also has one presence bit a party.

    pools: groups of parties that hold the same columns of different people (branches of one
    bank): what is asked of one is asked of all of them together. That no person is at two
    members is checked in every run, once the ids are aligned.
    implies, impossible: public rules between columns, of one party or of several, that every
    synthetic row keeps.
    """

    schemas: tuple[Schema, ...]
    pools: tuple[tuple[str, ...], ...] = ()
    implies: tuple[Implies, ...] = ()
    impossible: tuple[Impossible, ...] = ()

    def __post_init__(self) -> None:
        parties = [s.party for s in self.schemas]
        if len(set(parties)) != len(parties) or not parties:
            raise SchemaError("party names repeat or are missing. Give each party its own name.")
        _check_keys(self.schemas)
        first: dict[str, tuple[str, Column]] = {}
        for schema in self.schemas:
            for column in schema.data_columns:
                party, other = first.setdefault(column.name, (schema.party, column))
                if party != schema.party:
                    _check_agreement(column.name, party, other, schema.party, column)
        for pool in self.pools:
            _check_pool(self, pool)
        for column in self.with_role(Role.CLUSTER):
            _check_cluster(self, column.name)
        compiled(self.columns, self.implies, self.impossible)

    @cached_property
    def rules(self) -> Rules:
        """`implies` and `impossible` in codes."""
        return compiled(self.columns, self.implies, self.impossible)

    @property
    def parties(self) -> tuple[str, ...]:
        return tuple(s.party for s in self.schemas)

    @cached_property
    def units(self) -> tuple[tuple[str, ...], ...]:
        """The parties, pools together, in run order: each is asked as one, and one person may be
        in several units but is at one party of a unit."""
        own = {party: pool for pool in self.pools for party in pool}
        return tuple(dict.fromkeys(self._ordered(own.get(p, (p,))) for p in self.parties))

    def unit(self, party: str) -> tuple[str, ...]:
        """The unit that the party is in. Raises SchemaError for an unknown one."""
        held = self.schema(party).party
        return next(unit for unit in self.units if held in unit)

    def _ordered(self, parties: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(p for p in self.parties if p in parties)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Union columns: party by party in schema order, a shared one at its first holder."""
        seen: dict[str, Column] = {}
        for schema in self.schemas:
            for column in schema.data_columns:
                seen.setdefault(column.name, column)
        return tuple(seen.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    def schema(self, party: str) -> Schema:
        for s in self.schemas:
            if s.party == party:
                return s
        raise SchemaError(f"no party {party!r} in this run. Parties: {', '.join(self.parties)}.")

    def column(self, name: str) -> Column:
        for c in (*self.columns, *self.with_role(Role.CLUSTER)):
            if c.name == name:
                return c
        raise SchemaError(f"no party has a column {name!r}. Columns: {', '.join(self.names)}.")

    def holders(self, name: str) -> tuple[str, ...]:
        """Parties that hold the column, in run order."""
        return tuple(s.party for s in self.schemas if name in s.coded_names)

    def with_role(self, role: Role) -> tuple[Column, ...]:
        """Each column with the role once, clusters too, which no row of the union has."""
        found: dict[str, Column] = {}
        for column in (c for s in self.schemas for c in s.with_role(role)):
            found.setdefault(column.name, column)
        return tuple(found.values())


def _check_keys(schemas: tuple[Schema, ...]) -> None:
    """Raise SchemaError unless every party spells ids alike: no id would match otherwise.

    And where row numbers meet ids: the first row is not the user called 0.
    """
    numbered = {s.key.numbered: s.party for s in schemas}
    if len(numbered) > 1:
        raise SchemaError(
            f"the key of party {numbered[True]!r} is the row's number, that of {numbered[False]!r} "
            "is an id: strangers would be paired. Give both an id, or mark the key of all parties "
            "`numbered: true` if their rows are in the same order."
        )
    first = schemas[0]
    for schema in schemas:
        if set(schema.key.normalise) != set(first.key.normalise):
            raise SchemaError(
                f"keys of {first.party!r} and {schema.party!r} disagree on `normalise`. Give both "
                "the same rules."
            )


def _check_pool(schema: JointSchema, pool: tuple[str, ...]) -> None:
    """Raise SchemaError unless the pool's members are parties with the same columns, in no other.

    Their kinds, levels and bounds agree already: every column is shared.
    """
    named = " and ".join(map(repr, pool)) or "nobody"
    if len(pool) < 2 or len(set(pool)) != len(pool) or not set(pool) <= set(schema.parties):
        raise SchemaError(
            f"a pool of {named}: two or more parties of the run make one. Correct data.pools."
        )
    if any(sum(p in other for other in schema.pools) > 1 for p in pool):
        raise SchemaError(f"a pool of {named}: a party is in two pools. Correct data.pools.")
    if len({frozenset(schema.schema(p).coded_names) for p in pool}) > 1:
        raise SchemaError(
            f"a pool of {named}: their columns differ. Pool parties that hold the same columns, "
            "or declare the column at every member."
        )


def _check_cluster(schema: JointSchema, name: str) -> None:
    """Raise SchemaError where other parties than the members of one pool have the cluster column,
    or a column of its name."""
    holders = schema.holders(name)
    if name in schema.names or schema.unit(holders[0]) != holders:
        raise SchemaError(
            f"cluster column {name!r}: another party has a column of that name. Rename one: one "
            "party, or the members of one pool, know who belongs to which cluster."
        )


def _check_agreement(name: str, party: str, a: Column, other: str, b: Column) -> None:
    if not (a.shared and b.shared):
        raise SchemaError(
            f"column {name!r} is at {party!r} and at {other!r} but not shared at both. "
            "Mark it `shared: true` at both parties or rename one."
        )
    facts = ("kind", "role", "levels", "bounds", "bins", "special", "missing", "invalid")
    if differ := [f for f in facts if getattr(a, f) != getattr(b, f)]:
        raise SchemaError(
            f"column {name!r}: schemas of {party!r} and {other!r} disagree on "
            f"{', '.join(differ)}. Make the shared column the same at both."
        )
