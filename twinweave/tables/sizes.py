"""How many rows a party's source has: the one fact about a table that is public anyway."""

from __future__ import annotations

from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source, read_parts


def count_rows(source: Source, schema: Schema) -> int:
    """Rows of the source before cleaning, which may drop some. Raises SourceError or ColumnError.

    No cell is looked at but what `source.present` and `keep_first_by` choose rows by. One column
    is read beside the id, for a table whose rows are their own ids has no other.
    """
    narrow = Schema(party=schema.party, columns=(schema.key, schema.data_columns[0]))
    return sum(len(part) for part in read_parts(source, narrow))
