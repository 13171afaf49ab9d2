"""Everything that would stop a run at a party's own table, and all that cleaning changes, at once.

A run ends at the first fault and names no count, since its errors may leave the party. This is
for the party's own eyes: it goes on, and counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from twinweave.errors import ColumnError
from twinweave.tables.cleaning import ALL_DROPPED, Cleaning
from twinweave.tables.column import Role
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source, read_parts


@dataclass(frozen=True, kw_only=True)
class TableCheck:
    """faults: what stops a run, a line each; where nothing does, changes: what cleaning does,
    and warnings: what of it may be a wrong declaration."""

    faults: tuple[str, ...]
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check_table(source: Source, schema: Schema) -> TableCheck:
    """Read a party's table and apply its schema, past every fault. Raises SourceError."""
    faults: list[str] = []
    cleaning = _cleaned(source, schema, faults)
    if cleaning is None:
        return TableCheck(faults=tuple(faults))
    faults += [_counted(error, count, cleaning) for error, count in cleaning.faults()]
    if not cleaning.kept.any():
        faults.append(ALL_DROPPED)
    if faults:
        return TableCheck(faults=tuple(faults))
    report = cleaning.finish()
    return TableCheck(faults=(), changes=report.lines(), warnings=report.warnings())


def _cleaned(source: Source, schema: Schema, faults: list[str]) -> Cleaning | None:
    """The columns there are, cleaned. A column that is not there is a fault, and left out."""
    while True:
        cleaning = Cleaning(schema)
        try:
            for part in read_parts(source, schema):
                cleaning.add(part)
            return cleaning
        except ColumnError as error:
            faults += [str(ColumnError(*part)) for part in error.parts]
            names = {column for column, _, _ in error.parts}
            gone = [c for c in schema.columns if c.name in names]
            rest = tuple(c for c in schema.columns if c not in gone)
            if not gone or schema.key in gone or all(c.role in _IDS for c in rest):
                return None
            schema = replace(schema, columns=rest)


_IDS = (Role.KEY, Role.CLUSTER)
"""Columns that alone make no table."""


def _counted(error: ColumnError, count: int | None, cleaning: Cleaning) -> str:
    if count is not None:
        return f"{error} ({count} of {cleaning.rows} cells)"
    if error.parts[0][0] != cleaning.schema.key.name:
        return str(error)
    import pandas as pd

    ids = pd.Series(cleaning.ids, dtype=object)
    repeated = int(ids.dropna().duplicated(keep=False).sum())
    return f"{error} ({int(ids.isna().sum())} missing, {repeated} rows share an id)"
