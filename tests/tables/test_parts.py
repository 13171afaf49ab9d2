"""However a table is cut while it is read: the same codes, report and errors as all at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tables.files import Table, tables, write_parquet
from twinweave.errors import AppError
from twinweave.parsing import parse
from twinweave.tables.check import check_table
from twinweave.tables.cleaning import clean
from twinweave.tables.encoding import EncodedTable, encode
from twinweave.tables.loading import load_reported
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source, _Shape, read_table

bounded = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

CELLS = {
    "colour": ("red", " green", "1.0", "", "mauve"),
    "visits": ("3", "4.0", "", "99", "1,5", "45.000", "3 kg"),
    "score": ("0.5", "-7", "", "1'500.5", "nan"),
    "seen": ("2020-02-03", "2020-02-03T04:05:06+02:00", "", "03.02.2020", "0001-01-01"),
    "member": ("no", "T", "1.0", "", "perhaps"),
    "spend": ("1.5", "", "1e9"),
    "home": ("h1", "h2", "", "4E+11"),
}
FACTS: dict[str, dict[str, Any]] = {
    "colour": {"kind": "categorical", "levels": ["red", "green", "1"]},
    "visits": {"kind": "integer", "bounds": [0, 20], "bins": 4, "special": [3]},
    "score": {"kind": "continuous", "bounds": [-1, 1]},
    "seen": {"kind": "datetime", "bounds": ["2020-01-01", "2024-01-01"]},
    "member": {"kind": "boolean", "levels": ["no", "yes"]},
    "spend": {"kind": "continuous", "role": "value", "bounds": [0, 100]},
    "home": {"kind": "categorical", "role": "cluster"},
}


@st.composite
def dirty(draw: st.DrawFn) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(CSV, schema, options of its source): half of all tables have something that no rule allows,
    or ids twice."""
    n = draw(st.integers(1, 9))
    # Mostly good cells, so that what is wrong is often in one part alone.
    pick = {name: st.sampled_from((*cells[:1] * 12, *cells)) for name, cells in CELLS.items()}
    key = {"name": "id", "kind": "categorical", "role": "key", "numbered": draw(st.booleans())}
    rules = st.sampled_from(["error", "level", "drop"])
    columns: list[dict[str, Any]] = [key]
    for name, facts in FACTS.items():
        own: dict[str, Any] = {"name": name, **facts}
        if name not in ("spend", "home"):
            own |= {"missing": draw(rules), "invalid": draw(rules)}
        if name in ("visits", "spend"):
            own["invalid"] = draw(st.sampled_from(["error", "clip"]))
        columns.append(own)
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["keep_first_by"] = draw(st.sampled_from(["id", "home"]))
    if draw(st.booleans()):
        options["present"] = {"fraction": 0.7, "salt": "s"}
    if draw(st.booleans()):
        options["derive"] = {"colour": {"source": "visits", "values": {"3": "red"}}}
    lines = ["id," + ",".join(CELLS)]
    for i in range(n):
        who = draw(st.sampled_from([f"u{i}", f"u{i}", f"u{i}", f"U{max(0, i - 1)}@x", ""]))
        lines.append(",".join([who, *(f'"{draw(pick[name])}"' for name in CELLS)]))
    if draw(st.integers(0, 9)) == 0:
        end = draw(st.sampled_from([",", ",,", ",x", ",,x"]))
        lines.insert(draw(st.integers(1, n + 1)), "u99" + "," * len(CELLS) + end)
    return "\n".join(lines) + "\n", {"party": "shop", "columns": columns}, options


def told(table: EncodedTable) -> Any:
    amounts = {name: own.tolist() for name, own in table.amounts.items()}
    return table.ids.tolist(), table.codes.tolist(), amounts


def at_once(source: Source, schema: Schema) -> Any:
    try:
        cleaned = clean(read_table(source, schema), schema)
    except AppError as error:
        return str(error.at("shop"))
    return told(encode(cleaned)), cleaned.report.lines(), cleaned.report.warnings()


def in_parts(source: Source, schema: Schema, cells: int) -> Any:
    try:
        table, report = load_reported(source, schema, "shop", cells)
    except AppError as error:
        return str(error)
    return told(table), report.lines(), report.warnings()


@bounded
@given(dirty(), st.sampled_from([1, 17, 33]))
def test_csv(tmp_path: Path, drawn: tuple[str, dict[str, Any], dict[str, Any]], cells: int) -> None:
    text, facts, options = drawn
    (tmp_path / "t.csv").write_text(text)
    path = str(tmp_path / "t.csv")
    source = parse(Source, {"kind": "csv", "path": path, **options})
    schema = parse(Schema, facts)
    wanted = at_once(source, schema)
    assert in_parts(source, schema, cells) == wanted
    if not isinstance(wanted, str):
        check = check_table(source, schema)
        assert (check.faults, check.changes, check.warnings) == ((), *wanted[1:])


@bounded
@given(tables())
def test_parquet(tmp_path: Path, table: Table) -> None:
    if "id" in table.columns or not all(name.isprintable() for name in table.columns):
        return
    write_parquet(tmp_path / "t.parquet", table, index=False)
    source = parse(Source, {"kind": "parquet", "path": str(tmp_path / "t.parquet")})
    schema = parse(Schema, table.schema)
    assert in_parts(source, schema, 1) == at_once(source, schema)


def test_the_comparison_sees_a_first_row_kept_of_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deliberately broken reader, which forgets who was in the parts before."""
    (tmp_path / "t.csv").write_text("id,c\nu1,a\nu2,a\nu1,b\n")
    source = parse(Source, {"kind": "csv", "path": str(tmp_path / "t.csv"), "keep_first_by": "id"})
    column = {"name": "c", "kind": "categorical", "levels": ["a", "b"]}
    key = {"name": "id", "kind": "categorical", "role": "key"}
    schema = parse(Schema, json.loads(json.dumps({"party": "shop", "columns": [key, column]})))
    wanted = at_once(source, schema)
    assert in_parts(source, schema, 1) == wanted
    real = _Shape._first

    def forgetful(self: _Shape, cells: Any) -> Any:
        self._seen.clear()
        return real(self, cells)

    monkeypatch.setattr(_Shape, "_first", forgetful)
    assert in_parts(source, schema, 1) != wanted


def test_a_part_without_ids_ends_as_the_whole_does(tmp_path: Path) -> None:
    """Found above: users without a cluster are hashed by their ids."""
    (tmp_path / "t.csv").write_text("id,home,c\nu1,h1,a\n,,a\n")
    source = parse(Source, {"kind": "csv", "path": str(tmp_path / "t.csv")})
    columns = [
        {"name": "id", "kind": "categorical", "role": "key"},
        {"name": "home", "kind": "categorical", "role": "cluster"},
        {"name": "c", "kind": "categorical", "levels": ["a", "b"]},
    ]
    schema = parse(Schema, {"party": "shop", "columns": columns})
    wanted = at_once(source, schema)
    assert "an id is missing" in wanted
    assert in_parts(source, schema, 1) == wanted
