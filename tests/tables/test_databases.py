"""PostgreSQL and DuckDB, for real: the same codes as from files, and one line for what fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from tests.postgres import PASSWORD, execute
from twinweave.errors import AppError, ColumnError, SourceError
from twinweave.parsing import parse
from twinweave.tables.check import check_table
from twinweave.tables.loading import load_cleaned, load_party, load_reported
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source, read_parts, read_table

KEY = {"name": "id", "kind": "categorical", "role": "key"}
LEVEL = {"missing": "level"}

DDL = (
    "DROP TABLE IF EXISTS everything",
    "DROP TYPE IF EXISTS mood",
    "CREATE TYPE mood AS ENUM ('glad', 'sad')",
    "CREATE TABLE everything (id uuid, small integer, code bigint, long numeric(20, 0), "
    "grade numeric(3, 1), price numeric(12, 2), ratio double precision, word text, "
    "short varchar(4), ok boolean, born date, seen timestamp, zoned timestamp with time zone, "
    "feels mood)",
)
ROWS = (
    "('8F14E45F-0000-4000-8000-000000000001', 3, 9007199254740993, 90071992547409931234, 1.0, "
    "45.00, 0.1, ' red ', 'a', true, '1500-03-01', '2001-02-03 04:05:06', "
    "'2001-02-03 00:30:00+02', 'glad')",
    "('8f14e45f-0000-4000-8000-000000000002', 7, 9007199254740992, 90071992547409931235, 2.5, "
    "19.99, 1e-7, 'blue', 'b', false, '1999-12-31', '2001-02-03', '2001-02-03 00:30:00+00', 'sad')",
    "('8f14e45f-0000-4000-8000-000000000003', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "
    "NULL, NULL, NULL, NULL, NULL)",
)
COLUMNS: list[dict[str, Any]] = [
    {"name": "small", "kind": "integer", "bounds": [0, 10], "bins": 10},
    {"name": "code", "kind": "categorical", "levels": ["9007199254740992", "9007199254740993"]},
    {
        "name": "long",
        "kind": "categorical",
        "levels": ["90071992547409931234", "90071992547409931235"],
    },
    {"name": "grade", "kind": "categorical", "levels": ["1", "2.5"]},
    {"name": "price", "kind": "continuous", "role": "value", "bounds": [0, 100]},
    {"name": "ratio", "kind": "continuous", "bounds": [0, 1], "bins": [0.00000005, 0.1]},
    {"name": "word", "kind": "categorical", "levels": ["red", "blue"]},
    {"name": "short", "kind": "categorical", "levels": ["a", "b"]},
    {"name": "ok", "kind": "boolean", "levels": ["no", "yes"]},
    {"name": "born", "kind": "datetime", "bounds": ["1400-01-01", "2000-01-01"], "bins": 6},
    *(
        {"name": n, "kind": "datetime", "bounds": ["2001-02-02", "2001-02-04"], "bins": 48}
        for n in ("seen", "zoned")
    ),
    {"name": "feels", "kind": "categorical", "levels": ["glad", "sad"]},
]
SCHEMA = parse(Schema, {"party": "shop", "columns": [KEY, *(LEVEL | c for c in COLUMNS)]})

Made = Callable[..., dict[str, Any]]
"""A source, of statements that fill a database and of the query for its rows."""


def in_postgres(*statements: str, query: str = "SELECT * FROM t") -> dict[str, Any]:
    import os

    execute(os.environ["SHOP_URL"], ("DROP TABLE IF EXISTS t", *statements))
    return {"kind": "sql", "url_env": "SHOP_URL", "query": query}


def in_duckdb(folder: Path) -> Made:
    def made(*statements: str, query: str = "SELECT * FROM t") -> dict[str, Any]:
        (folder / "shop.duckdb").unlink(missing_ok=True)
        with duckdb.connect(str(folder / "shop.duckdb")) as connection:
            for statement in statements:
                connection.execute(statement)
        return {"kind": "duckdb", "path": str(folder / "shop.duckdb"), "query": query}

    return made


@pytest.fixture(params=["postgres", "duckdb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    if request.param == "duckdb":
        return in_duckdb(tmp_path)
    request.getfixturevalue("postgres_url")
    return in_postgres


@pytest.fixture(params=["postgres", "duckdb", "csv", "parquet"])
def everything(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The table with a column of every type, wherever it is; files as DuckDB writes them."""
    statements = (*DDL, f"INSERT INTO everything VALUES {', '.join(ROWS)}")
    query = "SELECT * FROM everything"
    if request.param == "postgres":
        request.getfixturevalue("postgres_url")
        return in_postgres(*statements, query=query)
    made = in_duckdb(tmp_path)
    if request.param == "duckdb":
        return made(*statements, query=query)
    path = str(tmp_path / f"t.{request.param}")
    made(*statements, f"COPY everything TO '{path}'")
    return {"kind": request.param, "path": path}


def source_of(facts: dict[str, Any]) -> Source:
    return parse(Source, facts)


def test_every_type_has_the_same_codes_wherever_it_is(everything: dict[str, Any]) -> None:
    table = load_party(source_of(everything), SCHEMA, "shop")
    assert table.ids.tolist() == [f"8f14e45f-0000-4000-8000-00000000000{i}" for i in (1, 2, 3)]
    found = {c.name: table.column(c.name).tolist() for c in SCHEMA.data_columns}
    assert found == {
        "small": [2, 6, 10],
        "code": [1, 0, 2],
        "long": [0, 1, 2],
        "grade": [0, 1, 2],
        "price": found["price"],
        "ratio": [2, 1, 3],
        "word": [0, 1, 2],
        "short": [0, 1, 2],
        "ok": [1, 0, 2],
        "born": [1, 5, 6],
        "seen": [28, 24, 48],
        "zoned": [22, 24, 48],
        "feels": [0, 1, 2],
    }
    assert table.amounts["price"].tolist() == [45.0, 19.99, 0.0]


def test_the_names_of_columns_and_ids_of_whole_numbers(database: Made) -> None:
    source = database(
        'CREATE TABLE t ("user no" bigint, "Größe" text)',
        "INSERT INTO t VALUES (9007199254740993, 'a'), (9007199254740992, 'b')",
    )
    schema = parse(
        Schema,
        {
            "party": "shop",
            "columns": [
                KEY | {"name": "user no"},
                {"name": "Größe", "kind": "categorical", "levels": ["a", "b"]},
            ],
        },
    )
    table = load_party(source_of(source), schema, "shop")
    assert table.ids.tolist() == ["9007199254740993", "9007199254740992"]
    assert table.column("Größe").tolist() == [0, 1]


WORD = {"name": "word", "kind": "categorical", "levels": ["a", "b"]}
WORDS = parse(Schema, {"party": "shop", "columns": [KEY, WORD]})
FILL = ("CREATE TABLE t (id text, word text)", "INSERT INTO t VALUES ('tell-tale', 'a')")


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("SELECT * FROM nowhere", "query"),
        ("SELECT id, tale FROM t", "query"),
        ("SELEC id, word FROM t", "query"),
        ("DELETE FROM t", "query"),
        ("DELETE FROM t RETURNING id, word", "query"),
        ("INSERT INTO t VALUES ('tell-tale', 'b')", "query"),
        ("CREATE TABLE u AS SELECT * FROM t", "query"),
        ("SELECT id, word FROM t; DELETE FROM t", "query"),
        ("SELECT nextval('n') AS id, word FROM t", "query"),
        ("SELECT id FROM t", "column 'word': not in the table"),
        ("SELECT id, word FROM t WHERE id = ''", "no rows"),
        ("SELECT word AS id, CAST(id AS integer) AS word FROM t", "query"),
        ("COMMIT; DELETE FROM t; SELECT id, word FROM t", "query"),
        ("SELECT id, word FROM t WHERE word = :tell", "query"),
    ],
)
def test_queries_that_fail_say_so_in_one_line_and_change_nothing(
    database: Made, query: str, rule: str
) -> None:
    sequence = ("DROP SEQUENCE IF EXISTS n", "CREATE SEQUENCE n")
    source = database(*FILL, *sequence, query=query)
    with pytest.raises(AppError, match=rule) as caught:
        load_party(source_of(source), WORDS, "shop")
    said = str(caught.value)
    assert said.startswith("party 'shop': ")
    assert "\n" not in said
    assert not [word for word in ("tell", "tale", PASSWORD, "psycopg", "SELEC ") if word in said]
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert len(read_table(source_of(source | {"query": "SELECT * FROM t"}), WORDS)) == 1


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("SELECT * FROM nowhere", "names a table that is not there"),
        ("SELECT tale FROM t", "names a column that is not there"),
        ("SELECT nextval('n') AS id, word FROM t", "would write, and may only read"),
        ("SELECT * FROM pg_authid", "may not read"),
        ("SELECT pg_sleep(5)::text AS id, 'a' AS word", "ended `query` at its time limit"),
    ],
)
def test_postgres_says_what_of_a_query_is_wrong(postgres_url: str, query: str, rule: str) -> None:
    roles = ("DROP ROLE IF EXISTS bob", f"CREATE ROLE bob LOGIN PASSWORD '{PASSWORD}'")
    sequence = ("DROP SEQUENCE IF EXISTS n", "CREATE SEQUENCE n", "GRANT ALL ON SEQUENCE n TO bob")
    drop = "DROP OWNED BY bob"
    try:
        source = in_postgres(*FILL, *roles, *sequence, "GRANT ALL ON t TO bob", query=query)
        bob = {"kind": "sql", "url_env": "BOB_URL", "query": query}
        with pytest.MonkeyPatch.context() as patch:
            url = postgres_url.replace("ann:", "bob:")
            patch.setenv("BOB_URL", f"{url}?options=-c%20statement_timeout%3D200")
            with pytest.raises(SourceError, match=rule):
                load_party(source_of(source | bob), WORDS, "shop")
    finally:
        execute(postgres_url, (drop, "DROP ROLE bob"))


def test_wrong_passwords_hosts_and_ports_do_not_show(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = postgres_url.rpartition(":")[2].partition("/")[0]
    for url in (
        postgres_url.replace(PASSWORD, "hunter3"),
        postgres_url.replace("ann", "mallory"),
        postgres_url.replace("/postgres", "/nowhere"),
        postgres_url.replace(f":{port}/", ":9/"),
        postgres_url.replace("127.0.0.1", "nowhere.invalid"),
    ):
        monkeypatch.setenv("SHOP_URL", url)
        source = source_of({"kind": "sql", "url_env": "SHOP_URL", "query": "SELECT 1"})
        with pytest.raises(SourceError, match=r"refused the connection.*SHOP_URL") as caught:
            load_party(source, WORDS, "shop")
        assert not [w for w in ("hunter", "ann", "nowhere", port) if w in str(caught.value)]
    monkeypatch.setenv("SHOP_URL", "postgresql+psycopg2://ann:hunter2@127.0.0.1/db")
    with pytest.raises(SourceError, match=r"driver .* is not installed.*twinweave\[postgres\]"):
        load_party(source, WORDS, "shop")


def test_a_query_runs_as_it_is_written(database: Made) -> None:
    """No part of it is a parameter."""
    query = "SELECT id, word FROM t WHERE word <> ':a' AND id LIKE '%-%' AND 7 % 2 = 1;"
    source = database(*FILL, query=query)
    assert read_table(source_of(source), WORDS)["id"].tolist() == ["tell-tale"]


def test_a_name_in_a_query_is_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({"id": ["u1"], "word": ["a"]})
    monkeypatch.setattr("twinweave.tables.columnar.rows", rows, raising=False)
    with pytest.raises(SourceError, match="could not run `query`"):
        load_party(source_of(in_duckdb(tmp_path)(*FILL, query="SELECT * FROM rows")), WORDS, "shop")


LONG = "CREATE TABLE t AS SELECT 'user' || i AS id, 'a' AS word FROM generate_series(1, 20000) g(i)"


def streamed(source: dict[str, Any]) -> Iterator[pd.DataFrame]:
    return read_parts(source_of(source), WORDS, cells=2000)


def test_a_cursor_at_the_server_holds_what_was_not_yet_read(postgres_url: str) -> None:
    rows = streamed(in_postgres(LONG, query="SELECT * FROM t"))
    assert len(next(rows)) == 1000
    asked = "SELECT query FROM pg_stat_activity WHERE query LIKE 'FETCH FORWARD%'"
    assert len(execute(postgres_url, (asked,))) == 1
    assert sum(map(len, rows)) == 19_000


def test_a_connection_that_is_lost_on_the_way(postgres_url: str) -> None:
    rows = streamed(in_postgres(LONG, query="SELECT * FROM t"))
    next(rows)
    others = "pid <> pg_backend_pid() AND backend_type = 'client backend'"
    execute(
        postgres_url,
        (f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}",),
    )
    with pytest.raises(SourceError, match=r"broke off while rows were read\. Try again") as caught:
        list(rows)
    assert caught.value.__context__ is None


def test_cells_that_cannot_be_computed_or_held(database: Made) -> None:
    late = (
        "SELECT id, CASE WHEN id = 'user19000' THEN CAST(id AS integer) ELSE 0 END AS word FROM t"
    )
    source = database(LONG, query=late)
    with pytest.raises(SourceError, match=r"cannot be computed|in the middle") as caught:
        list(streamed(source))
    assert "user19000" not in str(caught.value)
    endless = "SELECT id, CAST('infinity' AS timestamp) AS word FROM t"
    with pytest.raises((SourceError, ColumnError), match=r"infinity|none of the"):
        load_party(source_of(source | {"query": endless}), WORDS, "shop")


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("categorical", {"levels": ["a", "b"]}),
        ("integer", {"bounds": [0, 10]}),
        ("datetime", {"bounds": ["2000-01-01", "2001-01-01"]}),
    ],
)
def test_lists_and_records_are_refused_by_name(
    database: Made, kind: str, facts: dict[str, Any]
) -> None:
    column = {"name": "tags", "kind": kind, **facts}
    schema = parse(Schema, {"party": "shop", "columns": [KEY, column]})
    for cell in ("'{\"a\": 1}'::json", "ARRAY[1, 2]"):
        if "json" in cell and database is not in_postgres:
            cell = "{'a': 1}"  # DuckDB's JSON is text, its records are structs
        source = database(f"CREATE TABLE t AS SELECT 'u' AS id, {cell} AS tags")
        with pytest.raises(ColumnError, match=r"'tags': a cell is a list or a record\. Unpack"):
            load_party(source_of(source), schema, "shop")


def test_numbers_that_only_duckdb_has(tmp_path: Path) -> None:
    source = in_duckdb(tmp_path)(
        "CREATE TABLE t AS SELECT 'u' AS id, "
        "CAST('170141183460469231731687303715884105727' AS hugeint) AS code, "
        "CAST(3 AS utinyint) AS small, CAST('2001-02-03 04:05:06' AS timestamp_s) AS seen",
    )
    columns = [
        {"name": "code", "kind": "categorical", "levels": ["1", str(2**127 - 1)]},
        next(c for c in COLUMNS if c["name"] == "small"),
        next(c for c in COLUMNS if c["name"] == "seen"),
    ]
    schema = parse(Schema, {"party": "shop", "columns": [KEY, *columns]})
    assert load_party(source_of(source), schema, "shop").codes.tolist() == [[1, 2, 28]]


def test_duckdb_files_that_cannot_be_opened(tmp_path: Path) -> None:
    source = in_duckdb(tmp_path)(*FILL)
    gone = source | {"path": str(tmp_path / "none.duckdb")}
    with pytest.raises(SourceError, match=r"'none.duckdb' does not exist"):
        load_party(source_of(gone), WORDS, "shop")
    assert not (tmp_path / "none.duckdb").exists()
    (tmp_path / "none.duckdb").write_text("tell-tale" * 1000)
    with pytest.raises(SourceError, match=r"'none.duckdb' cannot be opened") as caught:
        load_party(source_of(gone), WORDS, "shop")
    assert "tell" not in str(caught.value)


def test_a_table_of_a_database_is_checked_past_every_fault(database: Made) -> None:
    source = database(
        "CREATE TABLE t (id text, word text)",
        "INSERT INTO t VALUES ('u1', 'a'), ('u1', 'c'), ('u2', NULL)",
    )
    key, missing, invalid = check_table(source_of(source), WORDS).faults
    assert "(0 missing, 2 rows share an id)" in key
    assert "a cell is missing" in missing
    assert "(1 of 3 cells)" in invalid


def test_decimals_are_not_read_as_floats(database: Made) -> None:
    """What a database calls numeric keeps its digits: 2**53 + 1 is a code of its own."""
    source = database(
        "CREATE TABLE t (id text, word numeric(18, 1))",
        "INSERT INTO t VALUES ('u1', 9007199254740993.0), ('u2', 9007199254740992.0)",
    )
    levels = ["9007199254740992", "9007199254740993"]
    schema = parse(Schema, {"party": "shop", "columns": [KEY, WORD | {"levels": levels}]})
    frame = load_cleaned(source_of(source), schema, "shop").frame
    assert frame["word"].tolist() == levels[::-1]
    np.testing.assert_array_equal(
        load_reported(source_of(source), schema, "shop", cells=1)[0].codes[:, 0], [1, 0]
    )
