"""CPU seconds and peak memory of reading a large table: source, cleaning, codes.

Twelve columns: an id of 12 characters, an arm, four categorical, four of numbers, two of dates;
some cells missing. Each source is read in a process of its own, whose peak resident memory is
told whole: interpreter, libraries and table (Linux). A database runs outside of it.

    python -m scripts.benchmarks.tables --rows 5000000 --sources csv parquet duckdb
    BENCH_URL=postgresql+psycopg://... python -m scripts.benchmarks.tables --sources sql \\
        --url-env BENCH_URL

With `sql`, the table `twinweave_benchmark` is made in that database, and stays there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scripts.benchmarks.timing import cpu
from twinweave.parsing import parse
from twinweave.tables.loading import load_reported
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source

TABLE = "twinweave_benchmark"
PART = 250_000  # rows written at once
LEVELS = {"region": 12, "channel": 6, "segment": 40, "device": 4}
NUMBERS = {"age": 90, "visits": 500, "orders": 60}

COLUMNS: list[dict[str, Any]] = [
    {"name": "id", "kind": "categorical", "role": "key"},
    {"name": "arm", "kind": "boolean", "role": "membership"},
    *(
        {"name": n, "kind": "categorical", "levels": [f"{n} {i}" for i in range(k)]}
        for n, k in LEVELS.items()
    ),
    *({"name": n, "kind": "integer", "bounds": [0, k]} for n, k in NUMBERS.items()),
    {"name": "spend", "kind": "continuous", "role": "value", "bounds": [0, 1000]},
    *(
        {"name": n, "kind": "datetime", "bounds": ["2015-01-01", "2025-01-01"]}
        for n in ("joined", "seen")
    ),
]
SCHEMA = {
    "party": "bench",
    "columns": [{"missing": "level"} | c if "role" not in c else c for c in COLUMNS],
}


def parts(rows: int) -> Iterator[pd.DataFrame]:
    """The table, some rows at a time."""
    rng = np.random.default_rng(0)
    for first in range(0, rows, PART):
        n = min(PART, rows - first)
        days = np.datetime64("2015-01-01") + rng.integers(0, 3600, (2, n)).astype("m8[D]")
        frame = pd.DataFrame({"id": [f"user{i:08d}" for i in range(first, first + n)]})
        frame["arm"] = rng.integers(0, 2, n)
        for name, k in LEVELS.items():
            frame[name] = np.array([f"{name} {i}" for i in range(k)])[rng.integers(0, k, n)]
        for name, k in NUMBERS.items():
            frame[name] = pd.array(rng.integers(0, k, n), dtype="Int64")
        frame["spend"] = rng.gamma(2, 40, n).clip(0, 1000).round(2)
        frame["joined"], frame["seen"] = days.astype("M8[s]")
        frame.loc[rng.random(n) < 0.02, ["region", "visits", "seen"]] = None
        yield frame


def write(kind: str, rows: int, folder: Path, url_env: str | None) -> dict[str, Any]:
    """Write the table; the source that reads it again."""
    if kind == "sql":
        return _write_sql(rows, url_env)
    import pyarrow as pa
    from pyarrow import csv, parquet

    writers: dict[str, Any] = {"csv": csv.CSVWriter}
    file = folder / ("bench.csv" if kind == "csv" else "bench.parquet")
    with ExitStack() as stack:
        writer = None
        for frame in parts(rows):
            made = pa.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                writer = writers.get(kind, parquet.ParquetWriter)(file, made.schema)
                stack.enter_context(writer)
            writer.write_table(made)
    if kind != "duckdb":
        return {"kind": kind, "path": str(file)}
    import duckdb

    path = folder / "bench.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE TABLE {TABLE} AS FROM read_parquet('{file}')")
    file.unlink()
    return {"kind": kind, "path": str(path), "query": f"SELECT * FROM {TABLE}"}


def _write_sql(rows: int, url_env: str | None) -> dict[str, Any]:
    import sqlalchemy

    engine = sqlalchemy.create_engine(os.environ[url_env or ""])
    method = _copied if engine.dialect.name == "postgresql" else None
    for at, frame in enumerate(parts(rows)):
        with engine.begin() as connection:
            if not at:
                connection.execute(sqlalchemy.text(f"DROP TABLE IF EXISTS {TABLE}"))
            frame.to_sql(TABLE, connection, index=False, if_exists="append", method=method)
    engine.dispose()
    return {"kind": "sql", "url_env": url_env, "query": f"SELECT * FROM {TABLE}"}


def _copied(table: Any, connection: Any, keys: list[str], rows: Any) -> None:
    """PostgreSQL's COPY, which takes a tenth of the time of INSERT."""
    with connection.connection.cursor() as cursor:
        names = ", ".join(keys)
        with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)


def read(source: dict[str, Any]) -> dict[str, float]:
    """Rows, CPU seconds and peak MiB of this process, once it has read the source."""
    before = _peak()
    (table, _), seconds = cpu(
        lambda: load_reported(parse(Source, source), parse(Schema, SCHEMA), "bench")
    )
    return {"rows": len(table), "CPU s": seconds, "peak MiB": _peak(), "before MiB": before}


def _peak() -> float:
    """MiB. Not `ru_maxrss`, which begins with the memory of the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _arguments(argv)
    if options.read:
        print(json.dumps(read(json.loads(options.read))))
        return 0
    print(f"{'source':10}{'rows':>12}{'CPU s':>10}{'peak MiB':>10}{'of it before':>14}")
    for kind in options.sources:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            source = write(kind, options.rows, Path(folder), options.url_env)
            command = [sys.executable, "-m", "scripts.benchmarks.tables", "--read"]
            told = subprocess.run(
                [*command, json.dumps(source)], check=True, stdout=subprocess.PIPE, text=True
            )
            rows, seconds, peak, before = json.loads(told.stdout.splitlines()[-1]).values()
            print(f"{kind:10}{rows:12,}{seconds:10.1f}{peak:10.0f}{before:14.0f}", flush=True)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ("csv", "parquet", "duckdb", "sql")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--sources", nargs="+", choices=kinds, default=["csv", "parquet"])
    parser.add_argument("--folder", help="where the files are written; the system's own without")
    parser.add_argument("--url-env", help="environment variable with the database's URL, for sql")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
