"""Reading: shaping options, databases, and what never shows in an error or a repr."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sqlite3
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from twinweave.errors import ColumnError, ConfigError, SourceError
from twinweave.parsing import parse
from twinweave.tables.loading import load_party
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source, read_raw, read_table
from twinweave.tables.transforms import Derived, icd9_chapter

KEY = {"name": "id", "kind": "categorical", "role": "key"}


def schema_of(*names: str) -> Schema:
    columns = [{"name": n, "kind": "categorical", "levels": ["a", "b"]} for n in names]
    return parse(Schema, {"party": "shop", "columns": [KEY, *columns]})


def read(source: dict[str, Any], *names: str) -> pd.DataFrame:
    return read_table(parse(Source, source), schema_of(*names))


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Any]:
    def write(text: str, name: str = "t.csv") -> dict[str, Any]:
        (tmp_path / name).write_text(text)
        return {"kind": "csv", "path": str(tmp_path / name)}

    return write


def test_options_of_a_csv(csv: Callable[..., Any]) -> None:
    source = csv("# a note\n1; a ;?\n2;b;x\n") | {
        "names": ["id", "c", "d"],
        "skip_rows": 1,
        "separator": ";",
        "strip": True,
        "na_values": ["?"],
        "rename": {"c": "colour"},
    }
    table = read(source, "d", "colour")
    assert table.columns.tolist() == ["id", "d", "colour"]
    assert table.to_numpy().tolist() == [["1", None, "a"], ["2", "x", "b"]]


def test_a_byte_order_mark_and_windows_line_ends(csv: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_bytes(b"\xef\xbb\xbfid,c\r\n1,a\r\n")
    assert read({"kind": "csv", "path": str(tmp_path / "w.csv")}, "c")["id"].tolist() == ["1"]


def test_whole_numbers_with_gaps_stay_whole(tmp_path: Path) -> None:
    """As Parquet or from a database: as floats, two codes above 2**53 would become one."""
    codes = [2**53, 2**53 + 1, None]
    frame = pd.DataFrame({"id": ["1", "2", "3"], "c": pd.array(codes, dtype="Int64")})
    frame.to_parquet(tmp_path / "t.parquet")
    with sqlite3.connect(tmp_path / "t.sqlite") as connection:
        connection.execute("create table t (id text, c integer)")
        connection.executemany("insert into t values (?, ?)", zip("123", codes, strict=True))
    connection.close()
    for source in (
        {"kind": "parquet", "path": str(tmp_path / "t.parquet")},
        {"kind": "sql", "url": f"sqlite:///{tmp_path / 't.sqlite'}", "query": "select * from t"},
    ):
        assert read(source, "c")["c"].dropna().tolist() == codes[:2]


def test_a_named_index_of_a_parquet_file_is_a_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["x", "y"], "c": ["a", "b"]}).set_index("id")
    frame.to_parquet(tmp_path / "t.parquet")
    table = read({"kind": "parquet", "path": str(tmp_path / "t.parquet")}, "c")
    assert table["id"].tolist() == ["x", "y"]


@pytest.mark.parametrize(
    "text",
    [
        "\nid,c\n1,a\n",
        "\n\r\nid,c\n\n1,a\n",
        "id,c\n1,a,\n",
        "id,c,\n1,a,\n",
        '"id",c,"a\nname"\n1,a,x\n',
    ],
)
def test_blank_lines_trailing_separators_and_a_header_of_two_lines(
    csv: Callable[..., Any], text: str
) -> None:
    assert read(csv(text), "c").to_numpy().tolist() == [["1", "a"]]


def test_separators_of_two_characters_and_none_that_fits(csv: Callable[..., Any]) -> None:
    two = csv("id||c\n1||a\n") | {"separator": "||"}
    assert read(two, "c").to_numpy().tolist() == [["1", "a"]]
    with pytest.raises(SourceError, match=r"';' in it. Set `separator`"):
        read(csv("id;c\n1;a\n"), "c")
    with pytest.raises(SourceError, match="more cells"):
        read(csv("id,c\n1,a\n2,a,,b\n"), "c")
    excel = csv("sep=;\nid;c\n1;a\n") | {"separator": ";"}
    with pytest.raises(SourceError, match="Set `skip_rows: 1`"):
        read(excel, "c")
    assert read(excel | {"skip_rows": 1}, "c")["c"].tolist() == ["a"]


def test_a_cell_is_not_cut_at_a_nul(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_bytes(b"id,c\n1,a\x00b\n")
    with pytest.raises(SourceError, match="not utf-8 text"):
        read({"kind": "csv", "path": str(tmp_path / "n.csv")}, "c")
    (tmp_path / "u.csv").write_bytes("id,c\n1,a\n".encode("utf-16"))
    source = {"kind": "csv", "path": str(tmp_path / "u.csv")}
    with pytest.raises(SourceError, match="Set `encoding: utf-16`"):
        read(source, "c")
    assert read(source | {"encoding": "utf-16"}, "c")["c"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("text", "options", "wanted"),
    [
        ('id, c\n1, "a b"\n', {}, "a b"),
        ('id,c\n1,"a\nb"\n', {}, "a\nb"),
        ('id,c\r\n1,"a\r\nb"\r\n', {}, "a\r\nb"),
        ("id,c\r1,a\r", {}, "a"),
        ('id,c\n1,"a ""b"" c"\n', {}, 'a "b" c'),
        ('id,c\n1,"a \\"b\\", c"\n', {"escape": "\\"}, 'a "b", c'),
        ('id,c\n1,"C:\\x\\"\n', {"escape": ""}, "C:\\x\\"),
        ('id||c\n1||"a||b"\n', {"separator": "||"}, "a||b"),
        ("id¦c\n1¦a\n", {"separator": "¦"}, "a"),
        ("id c\n1 a\n", {"separator": " "}, "a"),
    ],
)
def test_ways_of_quoting_and_separating(
    csv: Callable[..., Any], tmp_path: Path, text: str, options: dict[str, str], wanted: str
) -> None:
    source = csv("")
    Path(source["path"]).write_bytes(text.encode())
    assert read(source | options, "c")["c"].tolist() == [wanted]


def test_backslashes_before_quotes_are_not_guessed(csv: Callable[..., Any]) -> None:
    with pytest.raises(SourceError, match="Set `escape`"):
        read(csv('id,c\n1,"a \\"b\\", c"\n'), "c")
    with pytest.raises(SourceError, match="never closed"):
        read(csv('id,c\n1,"a\n'), "c")


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "latin-1"]
)
@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zip"])
def test_encodings_packed_or_not(tmp_path: Path, encoding: str, suffix: str) -> None:
    path = tmp_path / f"t.csv{suffix}"
    frame = pd.DataFrame({"id": ["1"], "Größe": ["é"], "c": ["a"]})
    text = frame.to_csv(index=False).encode(encoding)
    pack: dict[str, Any] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("t.csv", text)
    else:
        path.write_bytes(pack.get(suffix, bytes)(text))
    source = parse(Source, {"kind": "csv", "path": str(path), "encoding": encoding})
    assert read_raw(source).to_dict("list") == frame.to_dict("list")
    if encoding not in ("utf-8", "utf-8-sig"):
        with pytest.raises(SourceError, match="encoding"):
            read_raw(parse(Source, {"kind": "csv", "path": str(path)}))


def test_dates_of_a_declared_form(csv: Callable[..., Any]) -> None:
    until = {"name": "until", "kind": "datetime", "bounds": ["2000-01-01", "2020-01-01"]}
    schema = parse(Schema, {"party": "shop", "columns": [KEY, until]})
    text = "id,until\n1,03.02.2001\n2,\n3,2001-02-03\n4,31.12.9999\n"
    source = csv(text) | {"date_format": "%d.%m.%Y"}
    read = read_table(parse(Source, source), schema)["until"].tolist()
    assert read == ["2001-02-03T00:00:00", None, "\ufffd", "9999-12-31T00:00:00"]


def test_columns_that_are_not_there_are_told_at_once(csv: Callable[..., Any]) -> None:
    with pytest.raises(ColumnError) as caught:
        read(csv("ID,c,e,e\n1,a,b,b\n"), "c", "d", "e", "f")
    for part in ("'id': not in the table, which has one", "'d', 'f': not in", "'e': occurs more"):
        assert part in str(caught.value)


def test_a_parquet_file_with_numbers_for_names(tmp_path: Path) -> None:
    frame = pd.DataFrame({0: ["a"], 1: ["b"]}, index=pd.Index(["x"], name="2"))
    frame.to_parquet(tmp_path / "t.parquet")
    source = {"kind": "parquet", "path": str(tmp_path / "t.parquet"), "rename": {"2": "id"}}
    assert read(source, "0", "1").to_numpy().tolist() == [["x", "a", "b"]]


def test_parts_row_numbers_and_derived_columns(csv: Callable[..., Any]) -> None:
    one, two = csv("c,g\na,9\nb,\n", "1.csv"), csv("c,g\nb,11\n", "2.csv")
    source = {
        "kind": "csv",
        "parts": [one["path"], two["path"]],
        "derive": {
            "c": {"source": "c", "values": {"a": "b"}, "otherwise": "a"},
            "passed": {"source": "g", "at_least": 10},
        },
    }
    schema = schema_of("c", "passed")
    numbered = tuple(replace(c, numbered=c is schema.key) for c in schema.columns)
    table = read_table(parse(Source, source), replace(schema, columns=numbered))
    assert table.to_numpy().tolist() == [["0", "b", "0"], ["1", "a", None], ["2", "a", "1"]]
    assert read_raw(parse(Source, source)).columns.tolist() == ["c", "g"]


def test_the_first_row_of_each_user_is_kept(csv: Callable[..., Any]) -> None:
    source = csv("id,c,who\n1,a,x\n2,b,x\n3,a,y\n4,b,\n5,a,\n") | {"keep_first_by": "who"}
    assert read(source, "c")["id"].tolist() == ["1", "3", "4", "5"]
    spelled = csv("id,c\nA@b,a\n a@B,b\n") | {"keep_first_by": "id"}
    assert read(spelled, "c")["c"].tolist() == ["a"]  # as one user, as cleaning counts them


def test_a_file_is_cut_into_overlapping_parties(csv: Callable[..., Any]) -> None:
    n = 20_000
    text = "id,c\n" + "".join(f"u{i}@Mail.example,a\n" for i in range(n))
    source = csv(text)
    cut = {
        s: set(read(source | {"present": {"fraction": 0.6, "salt": s}}, "c")["id"])
        for s in ("one", "two")
    }
    # Binomial(20000, p): 6 standard deviations are a false alarm of 2e-9 each.
    for ids in cut.values():
        assert abs(len(ids) - 0.6 * n) < 6 * (n * 0.24) ** 0.5
    both = len(cut["one"] & cut["two"])
    assert abs(both - 0.36 * n) < 6 * (n * 0.36 * 0.64) ** 0.5
    again = read(source | {"present": {"fraction": 0.6, "salt": "one"}}, "c")
    assert set(again["id"]) == cut["one"]


def test_a_file_is_cut_into_disjoint_parties(csv: Callable[..., Any]) -> None:
    """Tenths add up to no exact binary fractions, and still nobody is in two parts or in none."""
    source = csv("id,c\n" + "".join(f"u{i},a\n" for i in range(5000)))
    cuts = [{"fraction": 0.1, "salt": "s", "start": i / 10} for i in range(10)]
    parts = [list(read(source | {"present": cut}, "c")["id"]) for cut in cuts]
    assert sorted(user for part in parts for user in part) == sorted(f"u{i}" for i in range(5000))
    assert all(abs(len(part) - 500) < 6 * (5000 * 0.09) ** 0.5 for part in parts)


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "t.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (id text, c text, secret text)")
        connection.executemany("insert into t values (?, ?, 'tell-tale')", [("1", "a"), ("2", "b")])
    connection.close()
    return f"sqlite:///{path}"


def test_a_database(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read({"kind": "sql", "url": database, "query": "select * from t"}, "c").shape == (2, 2)
    monkeypatch.setenv("TEST_DB_URL", database)
    source = {"kind": "sql", "url_env": "TEST_DB_URL", "query": "select id, c from t"}
    assert read(source, "c")["c"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    "query",
    [
        "select id, c from t where c <> ':a'",
        "select id, c from t where c <> ' :a' and c like '%'",
        r"select id, c from t where c <> '\:a' and 7 % 2 = 1;",
    ],
)
def test_a_query_runs_as_it_is_written(database: str, query: str) -> None:
    """No part of it is a parameter."""
    assert len(read({"kind": "sql", "url": database, "query": query}, "c")) == 2


def test_a_database_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.sqlite'}"
    with pytest.raises(SourceError, match=r"`url` names does not exist.*four slashes"):
        read({"kind": "sql", "url": url, "query": "select 1 as id, 2 as c"}, "c")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("select nope from t", "could not run `query`"),
        ("select tell-tale", "could not run `query`"),
        ("select id, c from t where c = :tell", "could not run `query`"),
        ("select id from t", "'c': not in the table"),
        ("select id, c, c from t", "'c': occurs more than once"),
        ("select id, c from t where 0", "no rows"),
        ("delete from t", "could not run `query`"),
    ],
)
def test_queries_that_fail(database: str, query: str, rule: str) -> None:
    with pytest.raises((SourceError, ColumnError), match=rule) as caught:
        read({"kind": "sql", "url": database, "query": query}, "c")
    assert "tell" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("postgresql+psycopg://ann:hunter2@127.0.0.1:9/db?connect_timeout=3", "refused|driver"),
        ("postgresql://ann:hunter2@127.0.0.1:9/db", "refused|driver"),
        ("nodatabase://ann:hunter2@127.0.0.1/db", "malformed, or its driver"),
        ("hunter2", "malformed"),
        ("", "holds no database URL"),
    ],
)
def test_a_wrong_password_does_not_show(
    monkeypatch: pytest.MonkeyPatch, url: str, rule: str
) -> None:
    monkeypatch.setenv("TEST_DB_URL", url)
    source = parse(Source, {"kind": "sql", "url_env": "TEST_DB_URL", "query": "select 1"})
    with pytest.raises(SourceError, match=rule) as caught:
        load_party(source, schema_of("c"), "shop")
    assert "hunter2" not in str(caught.value) + repr(source)
    assert "TEST_DB_URL" in str(caught.value)
    assert caught.value.__context__ is None


def test_a_password_in_the_configuration_is_refused() -> None:
    for url in (
        "mysql://ann:hunter2@host/db",
        "mysql://ann:hunt/er:hunter2@host/db",
        "mssql://host/db?user=a&password=hunter2",
    ):
        with pytest.raises(ConfigError, match="url_env") as caught:
            parse(Source, {"kind": "sql", "url": url, "query": "select 1"})
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        {"kind": "csv"},
        {"kind": "sql", "query": "select 1"},
        {"kind": "sql", "url": "sqlite://"},
        {"kind": "campaign"},
        {"kind": "csv", "path": "x", "present": {"fraction": 0, "salt": "s"}},
        {"kind": "csv", "path": "x", "present": {"fraction": 0.6, "salt": "s", "start": 0.5}},
        {"kind": "csv", "path": "x", "derive": {"c": {"source": "c"}}},
        {"kind": "csv", "path": "x", "seperator": ";"},
        {"kind": "excel", "path": "x"},
        {"kind": "csv", "path": "x", "encoding": "utf-9"},
        {"kind": "csv", "path": "x", "separator": ""},
        {"kind": "csv", "path": "x", "escape": "e"},
        {"kind": "csv", "path": "x", "date_format": "%d.%m."},
    ],
)
def test_sources_that_cannot_work_are_refused(source: Any) -> None:
    with pytest.raises(ConfigError):
        parse(Source, source)


@pytest.mark.parametrize(
    ("code", "chapter"),
    [
        ("250.83", "diabetes"),
        ("428", "circulatory"),
        ("785.5", "circulatory"),
        ("38", "other"),
        ("V27", "other"),
        ("E909", "other"),
        ("996", "injury"),
        ("140", "neoplasms"),
        ("239.9", "neoplasms"),
        ("1e3", "other"),
        ("25000", "other"),
    ],
)
def test_icd9_chapters(code: str, chapter: str) -> None:
    assert icd9_chapter(code) == chapter


def test_derived_from_numbers_of_any_dtype() -> None:
    cells = pd.Series([9.5, 10, np.nan])
    made = Derived(source="g", at_least=10).apply(cells)
    assert made.tolist() == ["0", "1", None]


def test_reading_is_fast(csv: Callable[..., Any]) -> None:
    """A guard against a row loop slipping in, not a benchmark: 60,000 rows take about 0.2 s."""
    source = parse(Source, csv("id,c\n" + "".join(f"u{i},a\n" for i in range(60_000))))
    start = time.process_time()
    load_party(source, schema_of("c"), "shop")
    assert time.process_time() - start < 5
