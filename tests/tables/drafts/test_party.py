"""The draft of a schema parses, fits the file it came from, and marks what to confirm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from scripts.describe import main
from twinweave.errors import ColumnError, SourceError
from twinweave.parsing import parse
from twinweave.tables.drafts.party import draft_schema
from twinweave.tables.loading import load_cleaned, load_party
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
        "boolean",
        "continuous",
    ]
    assert schema.column("member").levels == ("no", "yes")
    assert len(load_party(parse(Source, draft["source"]), schema, "shop")) == 40
    told = [line for line in text.splitlines() if "bounds" in line or "levels" in line]
    assert all("CONFIRM" in line for line in told if line.startswith("  -"))
    assert '# left out: "note"' in text


def test_a_file_without_ids(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("c,x\na,1\nb,2\na,2\nb,3\n")
    draft = yaml.safe_load(draft_schema(tmp_path / "t.csv"))
    assert draft["columns"][0] == {
        "name": "row",
        "kind": "categorical",
        "role": "key",
        "numbered": True,
    }
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


def columns_of(path: Path, **options: str) -> dict[str, dict[str, Any]]:
    draft = yaml.safe_load(draft_schema(path, **options))
    return {c["name"]: c for c in draft["columns"]} | {"source": draft["source"]}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found(good: pd.DataFrame, tmp_path: Path, separator: str) -> None:
    good.to_csv(tmp_path / "t.csv", index=False, sep=separator)
    found = columns_of(tmp_path / "t.csv")
    assert len(found) == 1 + len(good.columns)
    assert found["source"].get("separator", ",") == separator


def test_a_line_that_tells_spreadsheets_the_separator_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sep=;\nuser;n\nu1;5\nu2;6\nu3;7\n")
    found = columns_of(tmp_path / "t.csv")
    assert found["source"] | {"separator": ";", "skip_rows": 1} == found["source"]
    assert found["n"]["bounds"] == [5, 7]


def test_a_backslash_before_a_quote_is_said_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('user,size\nu1,"5\\" x"\nu2,6\nu3,7\nu4,6\n')
    with pytest.raises(SourceError, match="escape"):
        draft_schema(tmp_path / "t.csv")
    found = columns_of(tmp_path / "t.csv", escape="\\")
    assert found["source"]["escape"] == "\\"
    assert '5" x' in found["size"]["levels"]


@pytest.mark.parametrize("name", ["t.pq", "T.PARQUET"])
def test_any_name_of_a_parquet_file(good: pd.DataFrame, tmp_path: Path, name: str) -> None:
    good.set_index("user").to_parquet(tmp_path / name)
    assert columns_of(tmp_path / name)["user"]["role"] == "key"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_the_encoding_is_found(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("user,town\na,Köln\nb,Ulm\n".encode(encoding))
    found = columns_of(path)
    assert found["town"]["levels"] == ["Köln", "Ulm"]
    assert found["user"]["role"] == "key"
    known = {} if encoding.startswith("utf-8") else {"encoding": encoding}
    assert {k: v for k, v in found["source"].items() if k == "encoding"} == known
    assert ("CONFIRM: cp1252" in draft_schema(path)) == (encoding == "cp1252")


def test_a_mark_of_utf_8_is_not_read_as_letters(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("user,town\na,Köln\nb,Ulm\n".encode("utf-8-sig"))
    for wrong in ("cp1252", "latin-1"):
        with pytest.raises(SourceError, match="Set `encoding: utf-8`"):
            draft_schema(tmp_path / "t.csv", encoding=wrong)


@pytest.mark.parametrize(
    ("form", "found"),
    [
        ("%d.%m.%Y", True),
        ("%m/%d/%Y", True),
        ("%d/%m/%Y %H:%M", True),
        ("%Y/%m/%d", True),
        ("%d/%m/%y", False),
    ],
)
def test_dates_that_are_not_iso(tmp_path: Path, form: str, found: bool) -> None:
    days = pd.date_range("2019-01-03 10:20", periods=90, freq="9D")
    frame = pd.DataFrame({"user": [f"u{i}" for i in range(90)], "day": days.strftime(form)})
    frame.loc[3, "day"] = "?"
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    draft = yaml.safe_load(draft_schema(path))
    assert draft["source"].get("date_format") == (form if found else None)
    if found:
        schema = parse(Schema, {"party": "p", "columns": draft["columns"]})
        cleaned = load_cleaned(parse(Source, draft["source"]), schema, "p").frame
        read = pd.to_datetime(cleaned["day"].drop(3), unit="s")
        assert (read.dt.normalize() == days.delete(3).normalize()).all()


@pytest.mark.parametrize("other", ["%Y-%m-%d", "%d.%m.%Y"])
def test_dates_of_two_forms_or_that_may_mean_two_days_are_left_out(
    tmp_path: Path, other: str
) -> None:
    days = [f"{1 + i % 12:02d}/{1 + i % 11:02d}/{1990 + i % 30}" for i in range(99)]
    rows = {"user": [f"u{i}" for i in range(99)], "day": days}
    path = tmp_path / "t.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    assert 'left out: "day", more than 60 levels (dates that are not ISO: set' in draft_schema(path)
    rows["other"] = pd.date_range("2020-01-01", periods=99).strftime(other).to_list()
    pd.DataFrame(rows).to_csv(path, index=False)
    assert "date_format" not in yaml.safe_load(draft_schema(path))["source"]


def test_a_key_that_repeats_is_kept_and_counted(good: pd.DataFrame, tmp_path: Path) -> None:
    good.loc[:1, "user"] = str(good["user"].iloc[2])
    good.loc[5, "user"] = None
    good.to_csv(tmp_path / "t.csv", index=False)
    text = draft_schema(tmp_path / "t.csv")
    assert "numbered" not in text
    assert "2 rows repeat an id" in text
    assert "keep_first_by: user" in text
    assert "1 rows have none" in text


def test_few_repeated_keys_are_kept_out_by_the_draft(good: pd.DataFrame, tmp_path: Path) -> None:
    table = pd.concat([good, good.iloc[[0]].assign(user=good["user"].iloc[0].upper())])
    table.to_csv(tmp_path / "t.csv", index=False)
    text = draft_schema(tmp_path / "t.csv")
    assert "1 rows repeat an id, `keep_first_by: user`" in text
    draft = yaml.safe_load(text)
    schema = parse(Schema, {"party": "shop", "columns": draft["columns"]})
    # An e-mail in capitals is the same id, whoever removes repeats.
    assert len(load_party(parse(Source, draft["source"]), schema, "shop")) == 40


def test_a_relative_path_is_drafted_in_full(
    good: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good.to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.chdir(tmp_path)
    assert columns_of(Path("t.csv"))["source"]["path"] == str(tmp_path / "t.csv")


def test_words_for_nothing_and_flags_of_any_case(tmp_path: Path) -> None:
    """One column each: levels with a "?", flags in mixed case with an "n/a", -999 for no number."""
    n = 60
    table = pd.DataFrame(
        {
            "user": [f"u{i}" for i in range(n)],
            "town": (["Ulm", "Bonn"] * n)[:n],
            "optin": (["Yes", "no", "NO", "y"] * n)[:n],
            "visits": [i % 9 for i in range(n)],
        }
    )
    table.loc[3, ["town", "optin"]] = ["?", "n/a"]
    table.loc[4, "visits"] = -999
    table.to_csv(tmp_path / "t.csv", index=False)
    found = columns_of(tmp_path / "t.csv")
    assert found["town"]["levels"] == ["Bonn", "Ulm"]
    assert found["optin"]["kind"] == "boolean"
    assert found["visits"]["bounds"] == [0, 8]
    assert all(found[name]["invalid"] == "level" for name in ("town", "optin", "visits"))
    draft = yaml.safe_load(draft_schema(tmp_path / "t.csv"))
    schema = parse(Schema, {"party": "p", "columns": draft["columns"]})
    frame = load_cleaned(parse(Source, draft["source"]), schema, "p").frame
    assert frame[["town", "optin", "visits"]].isna().sum().tolist() == [1, 1, 1]


def test_one_odd_cell_does_not_spoil_a_column(good: pd.DataFrame, tmp_path: Path) -> None:
    odd = good.astype(object)
    odd.loc[3, "visits"] = "?"
    odd.loc[4, "spend"] = 999
    odd.loc[4, "seen"] = "9999-12-31"
    odd.to_csv(tmp_path / "t.csv", index=False)
    found = columns_of(tmp_path / "t.csv")
    assert found["visits"] | {"bounds": None} == {
        "name": "visits",
        "kind": "integer",
        "bounds": None,
        "invalid": "level",
    }
    assert found["spend"]["bounds"] == [0, 100]
    assert found["seen"]["kind"] == "datetime"
    assert found["seen"]["bounds"][1] < "2025"
    assert found["seen"]["invalid"] == "level"


def test_years_postcodes_and_flags(tmp_path: Path) -> None:
    n = 200
    table = pd.DataFrame(
        {
            "user_id": [f"u{i}" for i in range(n)],
            "born": [1940 + i % 66 for i in range(n)],
            "postcode": [f"{i:05d}" for i in range(n)],
            "bought": [1.0, 0.0, None, 0.0] * (n // 4),
        }
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    found = columns_of(tmp_path / "t.csv")
    assert found["born"]["bounds"] == [1940, 2010]
    assert found["bought"] == {"name": "bought", "kind": "boolean", "missing": "level"}
    assert "postcode" not in found
    table.columns = pd.Index(["user_id", "x", "x", "bought"])
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(SourceError, match="two columns"):
        draft_schema(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("rows", "signs"),
    [
        (["a;1.234,5;7", "b;0,25;8", "c;12,5;9"], {"decimal": ",", "thousands": "."}),
        (["a;1234,5;7", "b;0,25;8", "c;12,5;9"], {"decimal": ","}),
        (["a;1,234;7", "b;1,500,000;8", "c;12;9"], {"thousands": ","}),
        (["a;1234.5;7", "b;0.25;8", "c;12.5;9"], {}),
    ],
)
def test_decimal_commas_and_thousands(
    tmp_path: Path, rows: list[str], signs: dict[str, str]
) -> None:
    path = tmp_path / "t.csv"
    turned = [";".join([*r.split(";")[1:], r.split(";")[0], ""]) for r in rows]
    path.write_text("paid;n;user;empty\n" + "\n".join(turned) + "\n")
    draft = yaml.safe_load(draft_schema(path))
    assert {
        k: draft["source"][k] for k in ("decimal", "thousands") if k in draft["source"]
    } == signs
    schema = parse(Schema, {"party": "p", "columns": draft["columns"]})
    assert [c.is_numeric for c in schema.data_columns] == [True, True]
    paid = load_cleaned(parse(Source, draft["source"]), schema, "p").frame["paid"].tolist()
    assert paid in ([1234.5, 0.25, 12.5], [1234, 1_500_000, 12])
    if signs:
        plain = {k: v for k, v in draft["source"].items() if k not in signs}
        with pytest.raises(ColumnError, match="comma in its number"):
            load_cleaned(parse(Source, plain), schema, "p")


def test_a_point_is_no_decimal_comma(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user;paid\na;1.5\nb;2,5\n")
    facts = {"name": "paid", "kind": "continuous", "bounds": [0, 99]}
    key = {"name": "user", "kind": "categorical", "role": "key"}
    schema = parse(Schema, {"party": "p", "columns": [key, facts]})
    source = {"kind": "csv", "path": str(tmp_path / "t.csv"), "separator": ";", "decimal": ","}
    with pytest.raises(ColumnError, match="finite number"):
        load_cleaned(parse(Source, source), schema, "p")


def test_a_file_with_both_decimal_signs_is_told(tmp_path: Path) -> None:
    rows = "".join(f"u{i};{i},{i}5;{i}.25\n" for i in range(99))
    (tmp_path / "t.csv").write_text("user;paid;share\n" + rows)
    text = draft_schema(tmp_path / "t.csv")
    assert '# left out: "paid"' in text
    assert "numbers with commas among others with points" in text
    draft = yaml.safe_load(text)
    assert draft["columns"][1] == {"name": "share", "kind": "continuous", "bounds": [0, 100]}
    assert "decimal" not in draft["source"]


def test_levels_are_spelled_as_in_the_file_and_amounts_are_no_ids(tmp_path: Path) -> None:
    """Two prices are levels; a nearly unique amount is no id, whatever its signs."""
    rows = "".join(f"{i},{i:03d}9;{('1,50', '2,75')[i % 2]};u{i}\n" for i in range(50))
    (tmp_path / "t.csv").write_text("paid;price;who\n" + rows)
    found = columns_of(tmp_path / "t.csv")
    assert found["who"]["role"] == "key"
    assert found["price"]["levels"] == ["1,50", "2,75"]
    assert found["paid"]["kind"] == "continuous"
