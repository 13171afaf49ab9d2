"""The draft of a schema parses, fits the file it came from, and marks what to confirm."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from scripts.describe import main
from twinweave.errors import SourceError
from twinweave.parsing import parse
from twinweave.tables.draft import draft_schema
from twinweave.tables.encoding import load_party
from twinweave.tables.schema import Schema
from twinweave.tables.sources import Source


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_draft_fits_its_file(good: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    table = good.assign(note="same")
    table.loc[3, "visits"] = None
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    text = draft_schema(path, party="shop")
    draft = yaml.safe_load(text)
    schema = parse(Schema, {"party": draft["name"], "columns": draft["columns"]})
    assert schema.key.name == "user"
    assert [c.kind.value for c in schema.data_columns] == [
        "categorical",
        "integer",
        "continuous",
        "datetime",
        "categorical",
        "continuous",
    ]
    assert len(load_party(parse(Source, draft["source"]), schema, "shop")) == 40
    told = [line for line in text.splitlines() if "bounds" in line or "levels" in line]
    assert all("CONFIRM" in line for line in told if line.startswith("  -"))
    assert '# left out: "note"' in text


def test_a_file_without_ids(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("c,x\na,1\nb,2\na,2\nb,3\n")
    draft = yaml.safe_load(draft_schema(tmp_path / "t.csv"))
    assert draft["source"]["key_from_row_number"] is True
    with pytest.raises(SourceError, match="--key"):
        draft_schema(tmp_path / "t.csv", key="nope")


def test_the_command(
    good: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good.to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "schema.yaml"
    assert main([str(tmp_path / "t.csv"), "--out", str(out)]) == 0
    assert out.read_text().startswith("# Draft")
    assert main([str(tmp_path / "none.csv")]) == SourceError.exit_code
    assert "does not exist" in capsys.readouterr().err
