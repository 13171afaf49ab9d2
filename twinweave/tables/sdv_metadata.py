"""SDV metadata of a synthetic table as plain JSON, so that SDV users can go on with it.

Format: SDV's `Metadata` specification V1, which SDV 1 and 2 load. SDV itself is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinweave.tables.column import Column, Kind

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"  # how pandas writes what `decode` gives


def to_sdv_metadata(columns: Sequence[Column], key: str | None) -> dict[str, Any]:
    """Metadata of a synthetic table for `sdv.metadata.Metadata.load_from_dict`.

    columns: of the table, without the key; key: name of the id column if the table has one.
    A boolean is categorical there: its cells may be any two spellings.
    """
    told: dict[str, Any] = {} if key is None else {key: {"sdtype": "id"}}
    told |= {c.name: _sdtype(c) for c in columns}
    table: dict[str, Any] = {"columns": told}
    if key is not None:
        table["primary_key"] = key
    return {"METADATA_SPEC_VERSION": "V1", "tables": {"table": table}, "relationships": []}


def _sdtype(column: Column) -> dict[str, str]:
    if column.kind is Kind.DATETIME:
        return {"sdtype": "datetime", "datetime_format": TIME_FORMAT}
    return {"sdtype": "numerical" if column.is_numeric else "categorical"}
