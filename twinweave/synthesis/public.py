"""Rows of a public file, which a generator may learn the format from; they cost no privacy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twinweave.errors import ConfigError
from twinweave.generators.union import Rows
from twinweave.tables.schema import JointSchema
from twinweave.tables.sources import Source, SourceKind


def public_rows(schema: JointSchema, file: str) -> Rows:
    """A CSV or Parquet file with every column of every party, keys included, as rows of the union.

    Cleaned by the schema's own rules, of each party; a row that one of them drops is left out.
    Raises AppErrors that name the file or its columns; ConfigError where no row is left.
    """
    from twinweave.tables.loading import load_party

    source = Source(kind=SourceKind.of(Path(file)), path=file)
    tables = [load_party(source, own, "the public file") for own in schema.schemas]
    ids = sorted(set.intersection(*(set(table.ids) for table in tables)))
    if not ids:
        raise ConfigError("generator.format_file", "has no row with all columns", "Give another.")
    codes = np.empty((len(ids), len(schema.names)), dtype=np.int32)
    for table in tables:
        place = {one: i for i, one in enumerate(table.ids)}
        rows = np.array([place[one] for one in ids])
        for name in table.schema.names:
            codes[:, schema.names.index(name)] = table.column(name)[rows]
    return Rows(codes=codes, presence=np.ones((len(ids), len(schema.parties)), dtype=bool))
