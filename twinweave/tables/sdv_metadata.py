"""SDV metadata, written and read as plain JSON: SDV users can bring and take their tables.

Format: SDV's `Metadata` specification V1, which SDV 1 and 2 load. SDV itself is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinweave.errors import SchemaError
from twinweave.tables.column import Column, Kind

TO_CONFIRM = "???"
"""Marks in a draft what metadata cannot say: the public domain. A configuration refuses it."""

_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"  # how pandas writes what `decode` gives


def to_sdv_metadata(columns: Sequence[Column], key: str | None) -> dict[str, Any]:
    """Metadata of a synthetic table for `sdv.metadata.Metadata.load_from_dict`.

    columns: of the table, without the key; key: name of the id column if the table has one.
    A boolean is categorical there: its cells are the schema's two spellings.
    """
    told: dict[str, Any] = {} if key is None else {key: {"sdtype": "id"}}
    told |= {c.name: _sdtype(c) for c in columns}
    table: dict[str, Any] = {"columns": told}
    if key is not None:
        table["primary_key"] = key
    return {"METADATA_SPEC_VERSION": "V1", "tables": {"table": table}, "relationships": []}


def draft_from_sdv(metadata: Mapping[str, Any], table: str | None = None) -> list[dict[str, Any]]:
    """Column mappings for a schema from SDV metadata of one table (V1, V2 or single-table).

    What SDV does not record, levels and bounds, is TO_CONFIRM. Columns that cannot be coded
    from a public domain (names, addresses, foreign keys) are left out. Raises SchemaError.
    """
    chosen = _table(metadata, table)
    keys = chosen.get("primary_key") or ()
    keys = (keys,) if isinstance(keys, str) else tuple(keys)
    if len(keys) != 1:
        raise SchemaError("SDV metadata: the table has not one primary key. Name the id column.")
    draft: list[dict[str, Any]] = [{"name": keys[0], "kind": "categorical", "role": "key"}]
    for name, facts in chosen.get("columns", {}).items():
        if name not in keys and (column := _drafted(facts)) is not None:
            draft.append({"name": str(name), **column})
    return draft


def _table(metadata: Mapping[str, Any], table: str | None) -> Mapping[str, Any]:
    if "columns" in metadata:
        return metadata
    tables = metadata.get("tables")
    if not isinstance(tables, Mapping) or not tables:
        raise SchemaError("SDV metadata: no table in it. Save it with SDV's `save_to_json`.")
    if table is None and len(tables) == 1:
        table = next(iter(tables))
    if table not in tables:
        raise SchemaError(f"SDV metadata: name one of its tables: {', '.join(map(str, tables))}.")
    chosen: Mapping[str, Any] = tables[table]
    return chosen


def _sdtype(column: Column) -> dict[str, str]:
    if column.kind is Kind.DATETIME:
        return {"sdtype": "datetime", "datetime_format": _TIME_FORMAT}
    return {"sdtype": "numerical" if column.is_numeric else "categorical"}


def _drafted(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    sdtype = facts.get("sdtype")
    if sdtype == "numerical":
        whole = "Int" in str(facts.get("computer_representation", ""))
        return {"kind": "integer" if whole else "continuous", "bounds": TO_CONFIRM}
    if sdtype == "datetime":
        return {"kind": "datetime", "bounds": TO_CONFIRM}
    if sdtype == "boolean":
        return {"kind": "boolean"}
    if sdtype in ("categorical", "ordinal"):
        order = facts.get("range_values") or facts.get("order")
        return {"kind": "categorical", "levels": [str(v) for v in order] if order else TO_CONFIRM}
    return None
