"""Parquet files and DuckDB databases, which both speak Arrow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from twinweave.errors import SourceError
from twinweave.tables.delimited import UNOPENED, file_error, not_opened
from twinweave.tables.streams import Stream, rows_at_once

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

_UNNAMED = re.compile(r"__index_level_\d+__")
"""How pandas files an index without a name, or of a column's name."""


_DUCKDB: dict[str, Any] = {
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
}
"""A name in a query means a table or a file, never a variable here; reading installs nothing."""


def read_parquet(path: Path, cells: int) -> Stream:
    """All columns, named index levels too; whole numbers with gaps stay whole.

    path: a file, or a folder of them (hive partitions are columns). Raises SourceError.
    """
    import pyarrow.compute as pc
    from pyarrow import dataset

    with _parquet_faults(path):
        options = dataset.ParquetFragmentScanOptions(arrow_extensions_enabled=True)  # UUIDs
        form = dataset.ParquetFileFormat(default_fragment_scan_options=options)
        found = dataset.dataset(str(path), format=form, partitioning="hive")
    metadata = found.schema.pandas_metadata or {}
    ranges = _named_ranges(metadata, found.schema.names)
    names = [n for n in found.schema.names if n not in _index_fields(metadata)]

    def parts(columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        wanted = list(dict.fromkeys((*names, *ranges) if columns is None else columns))
        size, first = rows_at_once(cells, len(wanted)), 0
        with _parquet_faults(path):
            batches = found.to_batches(
                columns={n: pc.field(n) for n in wanted if n not in ranges},
                batch_size=size,
                batch_readahead=1,
                fragment_readahead=0,
                use_threads=False,
            )
            for batch in batches:
                frame = cells_of(batch)
                for name, (start, step) in ranges.items():
                    if name in wanted:
                        at = range(first, first + batch.num_rows)
                        frame[name] = [start + step * i for i in at]
                first += batch.num_rows
                yield frame[wanted]

    return Stream(names=(*names, *ranges), parts=parts)


def _index_fields(metadata: Mapping[str, Any]) -> set[str]:
    """Columns of the file that hold an index without a name of its own."""
    levels = [level for level in metadata.get("index_columns", ()) if isinstance(level, str)]
    return {level for level in levels if _UNNAMED.fullmatch(level)}


def _named_ranges(metadata: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """{name: (start, step)} of an index that is counted, and stands in no column."""
    levels = [level for level in metadata.get("index_columns", ()) if isinstance(level, dict)]
    return {
        str(level["name"]): (level["start"], level["step"])
        for level in levels
        if level.get("name") is not None and str(level["name"]) not in names
    }


@contextmanager
def _parquet_faults(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises into one line. Raises SourceError."""
    import pyarrow

    try:
        yield
        return
    except UNOPENED as error:
        trouble = not_opened(error)
    except (OSError, ValueError, TypeError, pyarrow.ArrowException):
        trouble = "is not a Parquet file, or damaged. Correct `kind`, or get the file again"
    raise file_error(path, trouble)


def read_duckdb(path: Path, query: str, cells: int) -> Stream:
    """The rows of a SELECT from a DuckDB file, which is opened for reading. Raises SourceError."""
    step = (
        "DuckDB is not installed in this environment. Install it: pip install 'twinweave[duckdb]'"
    )
    try:
        import duckdb

        if not path.is_file():
            step = f"database {path.name!r} does not exist. Correct `path`"
            raise FileNotFoundError
        step = (
            f"database {path.name!r} cannot be opened: it is no DuckDB file of a release that the "
            "one installed here reads, or another process writes to it. Close that, or correct "
            "`path`"
        )
        connection = duckdb.connect(str(path), read_only=True, config=_DUCKDB)
    except Exception:
        # DuckDB's messages quote the query, and cells. What it raises derives from Exception.
        raise SourceError(f"{step}.") from None
    try:
        step = "`query` is no SELECT, or several statements. Give one SELECT"
        (statement,) = connection.extract_statements(query)
        if statement.type is not duckdb.StatementType.SELECT:
            raise ValueError
        step = f"database {path.name!r} could not run `query`. Check its SQL, tables and columns"
        relation = connection.sql(query)
        names = tuple(relation.columns)
    except Exception:
        connection.close()
        raise SourceError(f"{step}.") from None

    def parts(columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        try:
            for batch in relation.to_arrow_reader(rows_at_once(cells, len(names))):
                frame = cells_of(batch)
                yield frame if columns is None else frame[list(dict.fromkeys(columns))]
        except Exception:
            raise SourceError(
                f"database {path.name!r} stopped in the middle of `query`: a cell it cannot "
                "compute, or a damaged file. Try the query in DuckDB."
            ) from None

    return Stream(names=names, parts=parts, close=connection.close)


def cells_of(batch: pyarrow.RecordBatch) -> pd.DataFrame:
    """Cells of a batch as `dtypes` reads them. Integers and booleans with gaps keep their type."""
    import pandas as pd
    import pyarrow as pa

    whole = {
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    plain = pa.Table.from_arrays(
        [_plain(column) for column in batch.columns], names=batch.schema.names
    )
    frame: pd.DataFrame = plain.to_pandas(types_mapper=whole.get, ignore_metadata=True)
    return frame


def _plain(column: pyarrow.Array) -> pyarrow.Array:
    """Cells of a dictionary as themselves, UUIDs as text."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    if getattr(column.type, "extension_name", None) == "arrow.uuid":
        cells = column.storage.to_pylist()
        return pa.array([None if c is None else str(UUID(bytes=c)) for c in cells], pa.string())
    return column
