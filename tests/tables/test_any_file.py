"""Whatever a table holds and however its file is written: what is read is what was written, or
there is an error with a name; never another exception, and never another value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.tables.files import WAYS, Drawn, Table, Written, tables, write_csv, write_parquet
from twinweave.errors import AppError
from twinweave.parsing import parse
from twinweave.tables import columnar, dtypes
from twinweave.tables.cleaning import clean
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source, read_table

bounded = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read(source: dict[str, Any], table: Table) -> pd.DataFrame:
    schema = parse(Schema, table.schema)
    return clean(read_table(parse(Source, source), schema), schema).frame


def check(source: dict[str, Any], table: Table, *, may_fail: bool) -> None:
    try:
        frame = read(source, table)
    except AppError as error:
        if may_fail and "\n" not in str(error):
            return
        raise
    assert frame["id"].tolist() == [i.strip().lower() if "@" in i else i.strip() for i in table.ids]
    for name, column in table.columns.items():
        found, kind = frame[name], column.facts["kind"]
        gone = np.array([c is None for c in column.cells])
        np.testing.assert_array_equal(found.isna(), gone)
        wanted = [c for c in column.cells if c is not None]
        if kind == "continuous":
            np.testing.assert_allclose(found[~gone].astype(float), wanted, rtol=1e-15)
        else:
            assert found[~gone].tolist() == wanted, name


def plain(table: Table) -> bool:
    """Whether no name is refused by the schema (that is `tests/test_names.py`)."""
    return all(name.isprintable() for name in table.columns) and "id" not in table.columns


def told_apart(table: Table) -> bool:
    """Whether text is none that a file of text cannot hold, or the rules would not keep."""
    cells = [t for c in table.columns.values() for t in c.text if t is not None]
    return not any("\0" in t or "\x1f" in t or "\r" in t for t in (*cells, *table.columns))


@bounded
@given(tables(), WAYS)
def test_csv(tmp_path: Path, table: Table, way: Written) -> None:
    assume(plain(table))
    path = tmp_path / "t.csv"
    try:
        write_csv(path, table, way)
    except UnicodeEncodeError:
        assume(False)
    source = {"kind": "csv", "path": str(path), **way.source}
    check(source, table, may_fail=not told_apart(table))


@bounded
@given(tables(), st.booleans())
def test_parquet(tmp_path: Path, table: Table, index: bool) -> None:
    assume(plain(table))
    path = tmp_path / "t.parquet"
    write_parquet(path, table, index=index)
    check({"kind": "parquet", "path": str(path)}, table, may_fail=False)


def test_the_check_catches_codes_that_went_through_floats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deliberately broken reader, and one that reads naive times in their neighbour's zone."""
    codes = [2**53, 2**53 + 1, None]
    told = [None if c is None else str(c) for c in codes]
    facts = {"kind": "categorical", "levels": told[:2]}
    numbers = Drawn(facts, told, told, pd.Series(pd.array(codes, dtype="Int64")))
    text = ["2020-01-01T05:30:00+05:30", "2020-01-01T00:00:00", None]
    midnight = pd.Timestamp("2020-01-01").as_unit("us")
    bounds = {"kind": "datetime", "bounds": ["2019-01-01", "2021-01-01"]}
    times = Drawn(bounds, [midnight, midnight, None], text, pd.Series(text, dtype=object))
    path = tmp_path / "t.parquet"
    source = {"kind": "parquet", "path": str(path)}
    for column in (numbers, times):
        write_parquet(path, Table(["a", "b", "c"], {"x": column}), index=False)
        check(source, Table(["a", "b", "c"], {"x": column}), may_fail=False)
    real = columnar.cells_of

    def through_floats(batch: Any) -> pd.DataFrame:
        return real(batch).astype({"x": float}, errors="ignore")

    monkeypatch.setattr(columnar, "cells_of", through_floats)
    monkeypatch.setattr(dtypes, "_ZONED", re.compile("never"))
    for column in (numbers, times):
        write_parquet(path, Table(["a", "b", "c"], {"x": column}), index=False)
        with pytest.raises((AssertionError, AppError)):
            check(source, Table(["a", "b", "c"], {"x": column}), may_fail=False)
