"""Hundreds of broken tables: each ends in one error that names the column and tells no cell."""

from __future__ import annotations

import gzip
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from twinweave.errors import AppError, ColumnError, SourceError
from twinweave.tables.cleaning import clean
from twinweave.tables.encoding import encode
from twinweave.tables.loading import load_party
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source, SourceKind

CASES = 400

SECRET = "tell-tale"
NUMBER_SECRET = 7654321

WRONG: dict[str, list[Any]] = {
    "colour": [
        SECRET,
        None,
        "",
        np.nan,
        NUMBER_SECRET,
        [SECRET],
        {"a": SECRET},
        b"tell-tale",
        True,
        b"\xff\xfe",
        pd.NaT,
        1e300,
        object(),
        "red;green",
    ],
    "visits": [
        SECRET,
        None,
        "",
        np.nan,
        NUMBER_SECRET,
        -NUMBER_SECRET,
        1.5,
        np.inf,
        -np.inf,
        2j,
        10**400,
        "0x10",
        "1_0",
        "1,0",
        [1],
        b"tell-tale",
        pd.Timestamp("2020-01-01"),
        2**63,
    ],
    "score": [
        SECRET,
        None,
        "nan",
        pd.NA,
        NUMBER_SECRET,
        np.inf,
        "1e999",
        (1, 2),
        1.0000001,
        -2,
        "0.5.5",
        pd.Timedelta(1, "D"),
    ],
    "seen": [
        SECRET,
        None,
        pd.NaT,
        "now",
        "today",
        NUMBER_SECRET,
        1.5e9,
        "2020-02-30",
        "9999-01-01",
        "01/02/2021",
        pd.Timestamp("1999-01-01", tz="CET"),
        [1],
        b"2020-01-01x",
        True,
    ],
    "member": [SECRET, None, "", 2, NUMBER_SECRET, 0.5, "y\x00es", [True], b"tell-tale", "jein"],
    "spend": [SECRET, None, "", np.nan, -0.01, NUMBER_SECRET, "12 EUR", np.inf, {1}, "1.000,50"],
}


def wrong_cell(table: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, str]:
    name = str(rng.choice(sorted(WRONG)))
    cell = WRONG[name][rng.integers(len(WRONG[name]))]
    cells = table[name].astype(object).to_numpy(dtype=object).copy()
    for row in rng.choice(len(cells), rng.integers(1, 4), replace=False):
        cells[row] = cell
    table[name] = pd.Series(cells, dtype=object)
    return table, name


def wrong_dtype(table: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, str]:
    """A whole column of another type than declared."""
    n = len(table)
    name, cells = [
        ("seen", pd.Series(np.arange(n) + NUMBER_SECRET)),
        ("visits", table["seen"]),
        ("visits", pd.Series([SECRET] * n, dtype="category")),
        ("score", pd.Series(np.full(n, 2 + 1j))),
        ("score", pd.Series(pd.to_timedelta(np.arange(n), "D"))),
        ("colour", pd.Series([SECRET] * n, dtype="string")),
        ("colour", pd.Series(pd.period_range("2020", periods=n, freq="D"))),
        ("member", table["score"]),
        ("spend", pd.Series(pd.array([NUMBER_SECRET, *[None] * (n - 1)], dtype="Int64"))),
    ][rng.integers(9)]
    table[name] = cells
    return table, str(name)


def wrong_columns(table: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, str]:
    name = str(rng.choice(table.columns))
    match rng.integers(4):
        case 0:
            return table.drop(columns=name), name
        case 1:
            return table.rename(columns={name: f"{name} "}), name
        case 2:
            return table.rename(columns={name: name.upper()}), name
        case _:
            return pd.concat([table, table[[name]]], axis=1), name


def wrong_ids(table: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, str]:
    ids = table["user"].astype(object).to_numpy(dtype=object).copy()
    first, second = rng.choice(len(ids), 2, replace=False)
    ids[first] = [
        ids[second],
        f" {ids[second]}\t",
        ids[second].upper(),
        None,
        "",
        "  ",
        pd.NA,
        np.nan,
        [SECRET],
    ][rng.integers(9)]
    table["user"] = pd.Series(ids, dtype=object)
    return table, "user"


Corruption = Callable[[pd.DataFrame, np.random.Generator], tuple[pd.DataFrame, str]]
CORRUPTIONS: tuple[Corruption, ...] = (
    wrong_cell,
    wrong_cell,
    wrong_dtype,
    wrong_columns,
    wrong_ids,
)


def assert_tells_nothing(error: BaseException) -> None:
    """One line; no secret in the error, in its causes, or in the traceback's own words."""
    assert "\n" not in str(error)
    seen = traceback.format_exception_only(error)
    link: BaseException | None = error
    while link is not None:
        seen.append(f"{link} {link!r} {link.args}")
        link = link.__cause__ or link.__context__
    for secret in (SECRET, str(NUMBER_SECRET)):
        assert not any(secret in text for text in seen)


def test_the_good_table_passes(good: pd.DataFrame, schema: Schema, tmp_path: Path) -> None:
    """Without this, the tests below could pass for the wrong reason."""
    encode(clean(good, schema))
    good.to_csv(tmp_path / "good.csv", index=False)
    good.to_parquet(tmp_path / "good.parquet")
    a = load_party(Source(kind=SourceKind.CSV, path=str(tmp_path / "good.csv")), schema, "shop")
    b = load_party(
        Source(kind=SourceKind.PARQUET, path=str(tmp_path / "good.parquet")), schema, "shop"
    )
    np.testing.assert_array_equal(a.codes, b.codes)
    np.testing.assert_array_equal(a.amounts["spend"], b.amounts["spend"])


@pytest.mark.parametrize("part", range(4))
def test_broken_frames(good: pd.DataFrame, schema: Schema, part: int) -> None:
    for case in range(part, CASES, 4):
        rng = np.random.default_rng(case)
        table, name = CORRUPTIONS[rng.integers(len(CORRUPTIONS))](good.copy(), rng)
        with pytest.raises(ColumnError) as caught:
            encode(clean(table, schema))
        assert f"column {name!r}: " in str(caught.value), case
        assert_tells_nothing(caught.value)


def test_broken_files_of_cells(good: pd.DataFrame, schema: Schema, tmp_path: Path) -> None:
    """The same through a CSV file; what text cannot hold is skipped."""
    path = tmp_path / "table.csv"
    source = Source(kind=SourceKind.CSV, path=str(path))
    for case in range(120):
        rng = np.random.default_rng([1, case])
        corrupt = (wrong_cell, wrong_columns, wrong_ids)[case % 3]
        table, name = corrupt(good.copy(), rng)
        if name in (" ".join(c.split()) for c in table.columns if c != name):
            continue  # spaces around a header's names are stripped
        if corrupt is wrong_ids and table["user"].map(lambda i: isinstance(i, list)).any():
            continue  # as text it is an id like any other
        table.to_csv(path, index=False)
        with pytest.raises(AppError) as caught:
            load_party(source, schema, "shop")
        where = "table file" if b"\0" in path.read_bytes() else f"column {name!r}: "
        assert str(caught.value).startswith(f"party 'shop': {where}"), case
        assert_tells_nothing(caught.value)


def cut_gzip(text: bytes) -> bytes:
    return gzip.compress(text)[:-40]


def more_cells(text: bytes) -> bytes:
    head, rows = text.split(b"\n", 1)
    return head + b"\n" + rows.replace(b"\n", b",tell-tale\n")


FILES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty": ("t.csv", lambda t: b"", "empty"),
    "header only": ("t.csv", lambda t: t.split(b"\n")[0], "no rows"),
    "another separator": ("t.csv", lambda t: t.replace(b",", b"|"), "Set `separator`"),
    "too many cells": ("t.csv", more_cells, "more cells than the header"),
    "too many cells in one row": (
        "t.csv",
        lambda t: t + b"a,b,c,d,e,f,g,h,tell-tale\n",
        "more cells",
    ),
    "open quote": ("t.csv", lambda t: t + b'"tell-tale,red,1,0,2020-01-01,no,1\n', "never closed"),
    "latin-1": ("t.csv", lambda t: t.replace(b"red", b"r\xe9d"), "utf-8"),
    "utf-16": ("t.csv", lambda t: t.decode().encode("utf-16"), "Set `encoding: utf-16`"),
    "binary": ("t.csv", lambda t: bytes(range(256)) * 9, "utf-8|CSV"),
    "not gzip": ("t.csv.gz", lambda t: t, "damaged"),
    "cut gzip": ("t.csv.gz", cut_gzip, "damaged"),
    "CSV called Parquet": ("t.parquet", lambda t: t, "not a Parquet file"),
    "cut Parquet": ("t.parquet", lambda t: b"PAR1" + t[:50], "not a Parquet file"),
}


@pytest.mark.parametrize("what", FILES)
def test_broken_files(good: pd.DataFrame, schema: Schema, tmp_path: Path, what: str) -> None:
    name, spoil, rule = FILES[what]
    path = tmp_path / name
    path.write_bytes(spoil(good.to_csv(index=False).encode()))
    kind = SourceKind.PARQUET if path.suffix == ".parquet" else SourceKind.CSV
    with pytest.raises((SourceError, ColumnError), match=rule) as caught:
        load_party(Source(kind=kind, path=str(path)), schema, "shop")
    assert str(caught.value).startswith("party 'shop': ")
    assert_tells_nothing(caught.value)


@pytest.mark.parametrize("kind", [SourceKind.CSV, SourceKind.PARQUET])
def test_no_file(schema: Schema, tmp_path: Path, kind: SourceKind) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises((SourceError, ColumnError)):
            load_party(Source(kind=kind, path=str(path)), schema, "shop")


def test_the_check_catches_a_cause_that_quotes_a_cell() -> None:
    """A deliberately broken variant: `from None` hides a cause from print, not from the chain."""
    try:
        try:
            float(SECRET)
        except ValueError:
            raise ColumnError("x", "not a number", "Correct it.") from None
    except ColumnError as error:
        with pytest.raises(AssertionError):
            assert_tells_nothing(error)


def test_paths_in_errors_are_names_of_files(schema: Schema) -> None:
    source = Source(kind=SourceKind.CSV, path="/private/customers/t.csv")
    with pytest.raises(SourceError) as caught:
        load_party(source, schema, "shop")
    assert "private" not in str(caught.value)
    assert Path("t.csv").name in str(caught.value)
