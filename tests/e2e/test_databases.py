"""A whole run whose parties' tables are in PostgreSQL and in DuckDB."""

from __future__ import annotations

from pathlib import Path

import duckdb
import sqlalchemy

from tests.campaigns import mapping
from tests.e2e.clear import Clear, assert_exact
from tests.e2e.plans import silent
from tests.whole_run import run_of, spec_of
from twinweave.config import RunConf
from twinweave.tables.sources import read_table


def test_tables_of_two_databases_are_counted_exactly(tmp_path: Path, postgres_url: str) -> None:
    """Next to no noise: every planned table equals the plaintext of the campaign's own."""
    data = mapping(tmp_path / "out", "protocol.alignment=prf")
    campaign = RunConf.parse(data)
    one, two = (read_table(p.source, p.schema) for p in campaign.data.parties if p.source)
    engine = sqlalchemy.create_engine(postgres_url)
    one.to_sql("customers", engine, index=False)
    engine.dispose()
    with duckdb.connect(str(tmp_path / "mill.duckdb")) as connection:
        connection.register("two", two)
        connection.execute("CREATE TABLE customers AS FROM two")
    query = "SELECT * FROM customers"
    first, second = data["data"]["parties"]
    first["source"] = {"kind": "sql", "url_env": "SHOP_URL", "query": query}
    second["source"] = {
        "kind": "duckdb",
        "path": str(tmp_path / "mill.duckdb"),
        "query": query,
    }
    conf = RunConf.parse(data)
    assert_exact(run_of(conf, silent(spec_of(conf).plan)), Clear(campaign))
