"""Each declared rule, every dtype a table may arrive in, and keys."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from twinweave.errors import ColumnError, SchemaError, SourceError
from twinweave.parsing import parse
from twinweave.tables.cleaning import clean
from twinweave.tables.column import Column
from twinweave.tables.encoding import encode
from twinweave.tables.keys import normalise_key
from twinweave.tables.schema import Schema


def one_column(cells: Any, **facts: Any) -> tuple[pd.DataFrame, Schema]:
    series = cells if isinstance(cells, pd.Series) else pd.Series(cells, dtype=object)
    key = {"name": "user", "kind": "categorical", "role": "key"}
    schema = parse(Schema, {"party": "a", "columns": [key, {"name": "x", **facts}]})
    return pd.DataFrame({"user": [f"u{i}" for i in range(len(series))], "x": series}), schema


def codes(cells: Any, **facts: Any) -> list[int]:
    return encode(clean(*one_column(cells, **facts))).column("x").tolist()


def test_a_good_table_is_unchanged(good: pd.DataFrame, schema: Schema) -> None:
    cleaned = clean(good, schema)
    assert cleaned.report.changed == {}
    assert cleaned.report.rows_kept == len(good)
    pd.testing.assert_series_equal(cleaned.frame["score"], good["score"])
    assert "tell-tale" not in repr(cleaned)


LEVELS = {"kind": "categorical", "levels": ["a", "b"]}
NUMBER = {"kind": "integer", "bounds": [0, 3]}
DAY = {"kind": "datetime", "bounds": ["2020-01-01", "2020-01-05"], "bins": 4}


@pytest.mark.parametrize(
    ("facts", "cells", "wanted"),
    [
        ({**LEVELS, "missing": "level"}, ["a", None, "", "b"], [0, 2, 2, 1]),
        ({**LEVELS, "invalid": "level"}, ["a", "c", "b", " b "], [0, 2, 1, 1]),
        ({**LEVELS, "missing": "drop"}, ["a", np.nan, "b"], [0, 1]),
        ({**LEVELS, "invalid": "drop"}, ["c", "b"], [1]),
        ({**NUMBER, "invalid": "clip"}, [-5, 2, 99, np.inf], [0, 2, 3, 3]),
        ({**NUMBER, "invalid": "level"}, ["1.5", "x", "2", -1], [4, 4, 2, 4]),
        ({**NUMBER, "missing": "level"}, ["1", "nan", pd.NA, "NULL", " "], [1, 4, 4, 4, 4]),
        ({**DAY, "invalid": "clip"}, ["2019-05-05", "2020-01-02", "2030-01-01"], [0, 1, 3]),
    ],
)
def test_rules(facts: dict[str, Any], cells: Any, wanted: list[int]) -> None:
    assert codes(cells, **facts) == wanted


def test_the_report_counts_what_was_changed() -> None:
    facts = {**NUMBER, "missing": "drop", "invalid": "clip"}
    report = clean(*one_column([1, None, 7, 8], **facts)).report
    assert (report.rows_read, report.rows_kept) == (4, 3)
    assert report.changed == {"x": {"missing: drop": 1, "invalid: clip": 2}}
    assert report.lines()[1] == "x: invalid: clip x 2, missing: drop x 1"


@pytest.mark.parametrize(
    ("facts", "cells"),
    [
        (LEVELS, ["a", None]),
        (LEVELS, ["a", "tell-tale"]),
        (LEVELS, ["a", ["tell-tale"]]),
        (LEVELS, ["a", b"tell-tale"]),
        (NUMBER, [1, np.nan]),
        (NUMBER, [1, np.inf]),
        (NUMBER, [1, "tell-tale"]),
        (NUMBER, [1, 7654321]),
        (NUMBER, [1, 1.5]),
        (NUMBER, [1, 10**400]),
        (NUMBER, [1, 2 + 1j]),
        (NUMBER, ["1", [1]]),
        (DAY, ["2020-01-02", {"a": 1}]),
        (NUMBER, ["1_0", "1"]),
        ({**NUMBER, "invalid": "clip"}, [1, "tell-tale"]),  # text has no nearest bound
        ({**NUMBER, "invalid": "clip"}, [1, 1.5]),
        (DAY, ["2020-01-02", 1577836800]),
        (DAY, ["2020-01-02", "now"]),
        (DAY, ["2020-01-02", "2020-13-45"]),
        (DAY, ["2020-01-02", dt.date(9999, 1, 1)]),
        (DAY, ["2020-01-02", "9999-13-01"]),
        ({"kind": "boolean"}, ["0", "maybe"]),
    ],
)
def test_what_no_rule_allows_is_an_error_that_names_the_column(facts: Any, cells: Any) -> None:
    with pytest.raises(ColumnError, match="'x'") as caught:
        clean(*one_column(cells, **facts))
    assert "tell-tale" not in str(caught.value)


@pytest.mark.parametrize(
    ("facts", "cell", "remedy"),
    [
        (NUMBER, "1,75", "Set `decimal`"),
        (NUMBER, "1.234.567", "Set `thousands: '.'`"),
        (NUMBER, "1.750", "Set `thousands: '.'`"),
        (NUMBER, "2.000", "Set `thousands: '.'`"),
        (NUMBER, "1 500", "Set `thousands`"),
        (NUMBER, "1\u202f500", "Set `thousands`"),
        (NUMBER, "1'500", "Set `thousands`"),
        (NUMBER, "12 EUR", "a unit or sign"),
        (NUMBER, "$12", "a unit or sign"),
        (NUMBER, "12%", "a unit or sign"),
        (NUMBER, "twelve", "not a whole number"),
        (DAY, "02.01.2020", "Set `date_format`"),
        (DAY, "1/2/2020", "Set `date_format`"),
        (DAY, "20200102", "Set `date_format`"),
        (DAY, "2 Jan 2020", "Set `date_format`"),
        (DAY, "2021-01-02", "not an ISO date within"),
    ],
)
def test_an_error_names_the_form_that_was_found(
    facts: dict[str, Any], cell: str, remedy: str
) -> None:
    with pytest.raises(ColumnError, match=remedy) as caught:
        clean(*one_column([cell, cell], **facts))
    assert cell not in str(caught.value)


def test_every_fault_is_told_at_once(good: pd.DataFrame, schema: Schema) -> None:
    bad = good.astype(object)
    bad.loc[0, ["colour", "member"]] = "tell-tale"
    bad.loc[1, ["score", "colour"]] = None
    bad.loc[2, "user"] = bad["user"].iloc[3]
    with pytest.raises(ColumnError) as caught:
        clean(bad.drop(columns="visits"), schema)
    told = str(caught.value)
    for part in ("'user': an id occurs", "'visits': not in", "'member': a cell is none"):
        assert part in told
    assert "columns 'colour', 'score': a cell is missing" in told
    assert "'colour': a cell is none" in told
    assert "tell-tale" not in told
    assert not any(c.isdecimal() for c in told.replace("E+11", "").replace("2**53", ""))


@pytest.mark.parametrize(
    "cells",
    [
        pd.Series([0, 1, 3], dtype="Int8"),
        pd.Series([0, 1, 3], dtype="float32"),
        pd.Series(["0", "1.0", " 3 "], dtype="string"),
        pd.Series(["0", "1", "3"], dtype="category"),
        pd.Series([Decimal("0"), Decimal("1"), 3.0], dtype=object),
        pd.Series([False, True, 3], dtype=object),
        pd.Series([b"0", b"1", b"3"], dtype=object),
    ],
)
def test_numbers_of_any_dtype(cells: pd.Series[Any]) -> None:
    assert codes(cells, **NUMBER) == [0, 1, 3]


@pytest.mark.parametrize(
    "cells",
    [
        pd.Series(["2020-01-02", "2020-01-03 12:00"]),
        pd.Series(["2020-01-02T00:30:00+00:00", "2020-01-04T00:30:00+01:00"]),
        pd.Series(["2020-01-03T00:30:00+02:00", "2020-01-03T00:30:00"]),
        pd.Series(pd.to_datetime(["2020-01-02", "2020-01-03"])),
        pd.Series(pd.to_datetime(["2020-01-02 02:00", "2020-01-03 02:00"])).dt.tz_localize("CET"),
        pd.Series([dt.date(2020, 1, 2), dt.datetime(2020, 1, 3)], dtype=object),
    ],
)
def test_dates_of_any_dtype(cells: pd.Series[Any]) -> None:
    assert codes(cells, **DAY) == [1, 2]


@pytest.mark.parametrize(
    "cells",
    [
        pd.Series([False, True]),
        pd.Series([0, 1]),
        pd.Series([0.0, 1.0]),
        pd.Series(["no", "yes"]),
        pd.Series(["FALSE", "true"]),
        pd.Series([False, True], dtype="boolean"),
        pd.Series(["N", "Y"]),
        pd.Series(["f", "T"]),
        pd.Series(["0.0", "1.0"]),
        pd.Series(["No", "YES"]),
    ],
)
@pytest.mark.parametrize("levels", [["no", "yes"], ["0", "1"], ["False", "True"], ["off", "on"]])
def test_booleans_of_any_spelling(cells: pd.Series[Any], levels: list[str]) -> None:
    assert codes(cells, kind="boolean", levels=levels) == [0, 1]


@pytest.mark.parametrize("levels", [["yes", "no"], ["True", "False"], ["1", "0"], ["y", "rest"]])
def test_a_level_that_is_a_word_for_truth_keeps_its_meaning(levels: list[str]) -> None:
    """Whoever declares "yes" first does not mean that a 1 is the second level."""
    for cells in (["Yes", "No"], [1, 0], ["t", "f"], [True, False]):
        assert codes(cells, kind="boolean", levels=levels) == [0, 1]


def test_a_whole_number_is_spelled_alike_in_every_format() -> None:
    facts = {"kind": "categorical", "levels": ["1", "2.0", "3"], "missing": "level"}
    for cells in (["1.0", "2", "3.00", ""], [1.0, 2.0, 3.0, None], ["1", "2.0", "3", None]):
        assert codes(cells, **facts) == [0, 1, 2, 3]
    sizes = {"kind": "categorical", "levels": ["6", "6.0"]}
    assert codes(["6", "6.0"], **sizes) == [0, 1]  # declared apart, kept apart


def test_floats_that_may_have_been_rounded_are_no_codes() -> None:
    big = 2**53
    facts = {"kind": "categorical", "levels": [str(big), str(big + 1)]}
    assert codes(pd.Series([big, big + 1]), **facts) == [0, 1]
    with pytest.raises(ColumnError, match="levels"):
        codes(pd.Series([float(big), 1.0 + big]), **facts)


def test_a_declared_spelling_wins_over_truth() -> None:
    assert codes(["1", "2"], kind="boolean", levels=["2", "1"]) == [1, 0]


def test_keys_have_one_spelling() -> None:
    cells = pd.Series([" Ann@Mail.Example", "AB", 7, 7.0, np.int64(8), b"x", "Zoe\u0308", None])
    ids, missing = normalise_key(cells)
    assert ids.tolist() == ["ann@mail.example", "AB", "7", "7", "8", "x", "Zo\u00eb", None]
    assert missing.tolist() == [False] * 7 + [True]
    same, _ = normalise_key(pd.Series(["1000.0", "007.00", "1.5", "v1.0", "12e5"]))
    assert same.tolist() == ["1000", "007", "1.5", "v1.0", "12e5"]


@pytest.mark.parametrize(
    ("ids", "rule"),
    [
        (["a", None], "missing"),
        (["a", "  "], "missing"),
        (["a", "a "], "more than once"),
        (["A@b", "a@B"], "more than once"),
        ([["a"], "b"], "neither"),
        (["4.91512E+11", "b"], "Export"),
        ([2.0**53, 1.0], "Export"),
    ],
)
def test_keys_are_complete_and_unique(
    good: pd.DataFrame, schema: Schema, ids: list[Any], rule: str
) -> None:
    table = good.head(2).copy()
    table["user"] = ids
    with pytest.raises(ColumnError, match=f"'user'.*{rule}"):
        clean(table, schema)


def test_dates_to_the_end_of_year_9999() -> None:
    facts = {"kind": "datetime", "bounds": ["2010-01-01", "9999-12-31"], "bins": 2}
    cells = ["9999-12-31", dt.date(2012, 1, 1), dt.datetime(9999, 12, 31), "2012-01-01T01:00Z"]
    assert codes(cells, **facts) == [1, 0, 1, 0]
    clipped = {**DAY, "invalid": "clip"}
    assert codes(["9999-12-31", "0001-01-01"], **clipped) == [3, 0]


def test_no_rows(good: pd.DataFrame, schema: Schema) -> None:
    with pytest.raises(SourceError, match="no rows"):
        clean(good.head(0), schema)
    with pytest.raises(SourceError, match="dropped every row"):
        clean(*one_column(["z"], **LEVELS, invalid="drop"))


@pytest.mark.parametrize(
    "facts",
    [
        {"kind": "categorical", "levels": ["a", "b"], "invalid": "clip"},
        {"kind": "categorical", "levels": ["a", " b"]},
        {"kind": "integer", "bounds": [0, 2.5]},
        {"kind": "integer", "bounds": [0, 5], "bins": [1.5]},
        {"kind": "integer", "bounds": [0, 2**53]},
        {"kind": "integer", "bounds": ["2020-01-01", "2021-01-01"]},
        {"kind": "datetime", "bounds": [0, 1]},
        {"kind": "continuous", "bounds": [0, 1], "bins": [1.0]},
    ],
)
def test_columns_that_could_not_be_cleaned_are_refused(facts: Any) -> None:
    with pytest.raises(SchemaError, match="'x'"):
        parse(Column, {"name": "x", **facts})


def test_the_highest_integer_may_have_its_own_bin() -> None:
    assert codes([4, 5], kind="integer", bounds=[0, 5], bins=[5]) == [0, 1]
