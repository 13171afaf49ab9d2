"""Every fault of a table at once, and what cleaning changes, for the party alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from scripts.check import main
from tests.tables.conftest import COLUMNS
from twinweave.errors import ColumnError
from twinweave.parsing import parse
from twinweave.tables.cleaning import clean
from twinweave.tables.schema import Schema


def config(folder: Path, **facts: dict[str, Any]) -> Path:
    columns = [{**c, **facts.get(c["name"], {})} for c in COLUMNS]
    party = {"name": "shop", "source": {"kind": "csv", "path": "elsewhere"}, "columns": columns}
    (folder / "draft.yaml").write_text(yaml.safe_dump(party))
    other = {"name": "mill", "columns": [COLUMNS[0], {"name": "grain", "kind": "boolean"}]}
    (folder / "data.yaml").write_text(json.dumps({"name": "d", "parties": [party, other]}))
    return folder / "draft.yaml"


def test_all_faults_at_once(
    good: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = good.astype(object)
    bad.loc[:2, "colour"] = "mauve"
    bad.loc[5, "visits"] = None
    bad.loc[[7, 8], "score"] = 1e9
    bad.loc[3, "user"] = str(bad["user"].iloc[4])
    bad.drop(columns="member").to_csv(tmp_path / "t.csv", index=False)
    assert main([str(tmp_path / "t.csv"), str(config(tmp_path))]) == ColumnError.exit_code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert "'member': not in the table" in lines[0]
    assert "2 rows share an id" in lines[1]
    assert "'colour'" in lines[2]
    assert "(3 of 40 cells)" in lines[2]
    assert "(1 of 40 cells)" in lines[3]
    assert "(2 of 40 cells)" in lines[4]
    assert "5 to correct" in lines[5]


def test_a_good_table_and_what_cleaning_changes(
    good: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good["spend"] *= 100
    good.to_csv(tmp_path / "t.csv", index=False)
    config(tmp_path, spend={"invalid": "clip"})
    arguments = [str(tmp_path / "t.csv"), str(tmp_path / "data.yaml"), "--party", "shop"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "spend: invalid: clip x" in said
    assert "would take" in said
    assert main([*arguments[:3], "nobody"]) != 0


def test_much_cleaning_is_a_warning(good: pd.DataFrame, schema: Schema) -> None:
    assert clean(good, schema).report.warnings() == ()
    rules = {"member": {"invalid": "drop"}, "spend": {"missing": "level"}}
    columns = [{**c, **rules.get(c["name"], {})} for c in COLUMNS]
    lenient = parse(Schema, {"party": "shop", "columns": columns})
    good.loc[:1, "member"] = "perhaps"  # 5 % of 40 rows
    good.loc[:9, "spend"] = np.nan  # has a level of its own: not changed
    report = clean(good, lenient).report
    assert "member: invalid: drop x 2" in report.lines()
    assert report.warnings() == ()
    good.loc[2, "member"] = "perhaps"
    rows, column = clean(good, lenient).report.warnings()
    assert rows.startswith("8% of the rows were dropped")
    assert column.startswith("member: 8% of the cells")


def test_the_configuration_is_checked_with_the_table(
    good: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A party that no run would take stands beside a table that has a fault of its own."""
    good.loc[0, "colour"] = "mauve"
    good.to_csv(tmp_path / "elsewhere", index=False)
    config(tmp_path)
    data = json.loads((tmp_path / "data.yaml").read_text())
    data["parties"][1]["columns"][0]["numbered"] = True
    (tmp_path / "data.yaml").write_text(json.dumps(data))
    # Without --party: the configuration says whose file it is.
    assert main([str(tmp_path / "elsewhere"), str(tmp_path / "data.yaml")]) == ColumnError.exit_code
    lines = capsys.readouterr().out.splitlines()
    assert "strangers would be paired" in lines[0]
    assert "'colour'" in lines[1]
    assert "2 to correct" in lines[2]


def test_a_site_file_is_checked_with_the_table(
    good: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good.to_csv(tmp_path / "t.csv", index=False)
    party = yaml.safe_load(config(tmp_path).read_text())
    site = {"party": "shop", "source": party["source"], "columns": COLUMNS, "pins": {}}
    site |= {"identity": str(tmp_path / "none.pem"), "guard": {"mode": "off"}, "dataset": "d"}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    assert main([str(tmp_path / "t.csv"), str(tmp_path / "site.yaml")]) == ColumnError.exit_code
    assert "identity" in capsys.readouterr().out.splitlines()[0]


def test_a_site_file_whose_table_is_in_a_database(
    good: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a file: what the source's query gives, before and after a fault."""
    url = f"sqlite:///{tmp_path / 't.sqlite'}"
    good.to_sql("t", url, index=False)
    party: dict[str, Any] = {"name": "shop", "columns": COLUMNS}
    party["source"] = {"kind": "sql", "url": url, "query": "SELECT * FROM t"}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(party))
    assert main([str(tmp_path / "site.yaml")]) == 0
    party["source"] |= {"query": "SELECT *, 'mauve' AS colour FROM (SELECT user, visits FROM t)"}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(party))
    assert main([str(tmp_path / "site.yaml")]) == 12
    said = capsys.readouterr().out
    assert "'score'" in said
    assert "(40 of 40 cells)" in said
