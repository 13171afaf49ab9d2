"""Everything that would stop a run at a party's own table, and all that cleaning changes, at once.

A run ends at the first fault and names no count, since its errors may leave the party. This is
for the party's own eyes: it goes on, and counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from twinweave.errors import AppError, ColumnError, SchemaError, SourceError
from twinweave.tables.cleaning import clean, column_faults
from twinweave.tables.column import Column, Role, Rule
from twinweave.tables.keys import clean_key, normalise_key
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source, read_table

if TYPE_CHECKING:
    import pandas as pd


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
    frame, kept = _read(source, schema, faults)
    if frame is None:
        return TableCheck(faults=tuple(faults))
    if told := _key_faults(frame[schema.key.name], schema.key):
        faults += told
        frame = frame.assign(**{schema.key.name: [str(i) for i in range(len(frame))]})
    lenient = []
    for column in kept.data_columns:
        told = column_faults(frame[column.name], column)
        faults += told
        # A fault is told; the rest of the table is cleaned as if its rows were dropped.
        lenient.append(replace(column, missing=Rule.DROP, invalid=Rule.DROP) if told else column)
    try:
        clusters = kept.with_role(Role.CLUSTER)
        report = clean(frame, replace(kept, columns=(kept.key, *lenient, *clusters))).report
    except (ColumnError, SchemaError, SourceError) as error:
        return TableCheck(faults=(*faults, str(error)))
    if faults:
        return TableCheck(faults=tuple(faults))
    return TableCheck(faults=(), changes=report.lines(), warnings=report.warnings())


def _read(source: Source, schema: Schema, faults: list[str]) -> tuple[pd.DataFrame | None, Schema]:
    """The columns there are. A column that is not there is a fault, and left out."""
    while True:
        try:
            return read_table(source, schema), schema
        except ColumnError as error:
            faults += [str(ColumnError(*part)) for part in error.parts]
            names = {column for column, _, _ in error.parts}
            gone = [c for c in schema.columns if c.name in names]
            rest = tuple(c for c in schema.columns if c not in gone)
            if not gone or schema.key in gone or len(rest) < 2:
                return None, schema
            schema = replace(schema, columns=rest)


def _key_faults(cells: pd.Series, key: Column) -> list[str]:
    import pandas as pd

    try:
        clean_key(cells, key)
    except AppError as error:
        ids, missing = normalise_key(cells, key.normalise)
        repeated = int(pd.Series(ids[~missing]).duplicated(keep=False).sum())
        return [f"{error} ({int(missing.sum())} missing, {repeated} rows share an id)"]
    return []
