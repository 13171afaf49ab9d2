"""A party's schema, and the parties' schemas side by side.

Public and agreed before a run; order of columns is part of the contract (DESIGN section 7).
"""

from __future__ import annotations

from dataclasses import dataclass

from twinweave.errors import SchemaError
from twinweave.parsing import STRICT
from twinweave.tables.column import Column, Role


@dataclass(frozen=True, kw_only=True)
class Schema:
    """One party's table: exactly one key column, order of columns is part of the contract."""

    __pydantic_config__ = STRICT

    party: str
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
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
        if len(names) < 2:
            raise SchemaError(f"party {self.party!r}: no column beside the key. Declare one.")

    @property
    def key(self) -> Column:
        return next(c for c in self.columns if c.role is Role.KEY)

    @property
    def data_columns(self) -> tuple[Column, ...]:
        """Every column but the key, in schema order."""
        return tuple(c for c in self.columns if c.role is not Role.KEY)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.data_columns)

    def column(self, name: str) -> Column:
        for c in self.columns:
            if c.name == name:
                return c
        raise SchemaError(f"party {self.party!r} has no column {name!r}. Check the schema.")

    def with_role(self, role: Role) -> tuple[Column, ...]:
        return tuple(c for c in self.columns if c.role is role)


@dataclass(frozen=True, kw_only=True)
class JointSchema:
    """The parties' schemas side by side: the columns of a row of the union (DESIGN section 7).

    A shared column appears once; its holders are all parties that declare it. A column that
    is not shared has one holder. A row of the union also has one presence bit a party.
    """

    __pydantic_config__ = STRICT

    schemas: tuple[Schema, ...]

    def __post_init__(self) -> None:
        parties = [s.party for s in self.schemas]
        if len(set(parties)) != len(parties) or not parties:
            raise SchemaError("party names repeat or are missing. Give each party its own name.")
        first: dict[str, tuple[str, Column]] = {}
        for schema in self.schemas:
            for column in schema.data_columns:
                party, other = first.setdefault(column.name, (schema.party, column))
                if party != schema.party:
                    _check_agreement(column.name, party, other, schema.party, column)

    @property
    def parties(self) -> tuple[str, ...]:
        return tuple(s.party for s in self.schemas)

    @property
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
        for c in self.columns:
            if c.name == name:
                return c
        raise SchemaError(f"no party has a column {name!r}. Columns: {', '.join(self.names)}.")

    def holders(self, name: str) -> tuple[str, ...]:
        """Parties that hold the column, in run order."""
        return tuple(s.party for s in self.schemas if name in s.names)

    def with_role(self, role: Role) -> tuple[Column, ...]:
        return tuple(c for c in self.columns if c.role is role)


def _check_agreement(name: str, party: str, a: Column, other: str, b: Column) -> None:
    if not (a.shared and b.shared):
        raise SchemaError(
            f"column {name!r} is at {party!r} and at {other!r} but not shared at both. "
            "Mark it `shared: true` at both parties or rename one."
        )
    facts = ("kind", "role", "levels", "bounds", "bins", "missing", "invalid")
    if differ := [f for f in facts if getattr(a, f) != getattr(b, f)]:
        raise SchemaError(
            f"column {name!r}: schemas of {party!r} and {other!r} disagree on "
            f"{', '.join(differ)}. Make the shared column the same at both."
        )
