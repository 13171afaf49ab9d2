"""Codes: round trip for any schema, order and bounds of bins, units of amounts, fingerprint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.statistics import p_mean, p_variance, plausible
from twinweave.errors import SchemaError
from twinweave.parsing import parse
from twinweave.tables.cleaning import clean
from twinweave.tables.column import MISSING, VALUE_UNITS, Column, Kind, Role, Rule, value_unit
from twinweave.tables.contingency import ABSENT
from twinweave.tables.encoding import (
    EncodedTable,
    contents,
    decode,
    encode,
    fingerprint,
    value_units,
)
from twinweave.tables.schema import Schema

KEY = Column(name="user", kind=Kind.CATEGORICAL, role=Role.KEY)


@st.composite
def columns(draw: st.DrawFn) -> Column:
    kind = draw(st.sampled_from(list(Kind)))
    rule = draw(st.sampled_from([Rule.ERROR, Rule.LEVEL]))
    if kind is Kind.BOOLEAN:
        return Column(name="x", kind=kind, missing=rule)
    if kind is Kind.CATEGORICAL:
        text = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1)
        levels = draw(st.lists(text, min_size=2, max_size=9, unique=True))
        return Column(name="x", kind=kind, levels=tuple(levels), missing=rule)
    bins = draw(st.integers(1, 40))
    if kind is Kind.DATETIME:
        days = sorted(draw(st.lists(st.dates(), min_size=2, max_size=2, unique=True)))
        bounds: tuple[str, str] = (days[0].isoformat(), days[1].isoformat())
        return Column(name="x", kind=kind, bounds=bounds, bins=bins, missing=rule)
    low = draw(st.integers(-(10**6), 10**6))
    width = draw(st.integers(1, 10**6))
    if kind is Kind.INTEGER:
        return Column(name="x", kind=kind, bounds=(low, low + width), bins=bins, missing=rule)
    scale = draw(st.sampled_from([1e-6, 0.1, 1.0, 1e6]))
    span = (low * scale, (low + width) * scale)
    return Column(name="x", kind=kind, bounds=span, bins=bins, missing=rule)


@settings(max_examples=150)
@given(columns(), st.integers(0, 2**32 - 1))
def test_decoding_then_encoding_gives_the_same_codes(column: Column, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.append(rng.integers(0, column.size, 60), [0, column.size - 1]).astype(np.int32)
    frame = decode([column], codes[:, None], rng)
    frame["user"] = [f"u{i}" for i in range(len(codes))]
    if column.kind is Kind.DATETIME and _before_pandas(column):
        return  # the library that reads dates knows the years 1678 to 2262 only
    table = encode(clean(frame, Schema(party="a", columns=(KEY, column))))
    np.testing.assert_array_equal(table.column("x"), codes)


def _before_pandas(column: Column) -> bool:
    years = [int(str(b)[:4]) for b in column.bounds or ()]
    return min(years) < 1678 or max(years) > 2261


def test_decoded_types(good: pd.DataFrame, schema: Schema) -> None:
    columns = schema.data_columns
    table = encode(clean(good, schema))
    codes = np.vstack([table.codes, np.full(len(columns), ABSENT)]).astype(np.int32)
    frame = decode(columns, codes, np.random.default_rng(1))
    assert frame.iloc[-1].isna().all()
    kept = frame.iloc[:-1]
    assert [str(t) for t in kept.dtypes] == [
        "object",
        "Int64",
        "float64",
        "datetime64[ns]",
        "object",
        "float64",
    ]
    assert kept["colour"].tolist() == good["colour"].tolist()
    assert kept["member"].tolist() == good["member"].tolist()
    assert (kept["score"] - good["score"]).abs().max() <= 2 / 16


def test_integers_are_uniform_over_the_whole_numbers_of_a_bin() -> None:
    column = Column(name="x", kind=Kind.INTEGER, bounds=(0, 9), bins=(3, 9))
    rng = np.random.default_rng(2)
    frame = decode([column], np.ones((6000, 1), dtype=np.int32), rng)
    counts = frame["x"].value_counts()
    assert sorted(counts.index) == [3, 4, 5, 6, 7, 8]
    # Each is Binomial(6000, 1/6), sd 29: 6 sd is a false alarm of 1e-8 over the six.
    assert (counts - 1000).abs().max() < 6 * 29
    last = decode([column], np.full((9, 1), 2, dtype=np.int32), rng)
    assert last["x"].tolist() == [9] * 9


def test_a_value_on_an_edge_belongs_to_the_upper_bin() -> None:
    column = Column(name="x", kind=Kind.CONTINUOUS, bounds=(0, 4), bins=4)
    frame = pd.DataFrame({"user": list("abcde"), "x": [0, 0.999999, 1, 3, 4]})
    table = encode(clean(frame, Schema(party="a", columns=(KEY, column))))
    assert table.column("x").tolist() == [0, 0, 1, 3, 3]
    assert column.labels == ("[0, 1)", "[1, 2)", "[2, 3)", "[3, 4]")


def test_units_of_amounts() -> None:
    column = Column(
        name="x", kind=Kind.CONTINUOUS, role=Role.VALUE, bounds=(0, 100), missing=Rule.LEVEL
    )
    cells = pd.DataFrame({"user": list("abcd"), "x": [0, 50, 100, None]})
    table = encode(clean(cells, Schema(party="a", columns=(KEY, column))))
    assert table.amounts["x"].tolist() == [0, 50, 100, 0]
    for draw in (0, 1 << 63, (1 << 64) - 1):  # whole units are not changed
        units = value_units(column, table.amounts["x"], None, np.full(4, draw, np.uint64))
        assert units.dtype == np.int32
        assert units.tolist() == [0, VALUE_UNITS // 2, VALUE_UNITS, 0]
        clipped = value_units(column, table.amounts["x"], 50.0, np.full(4, draw, np.uint64))
        assert clipped.tolist() == [0, VALUE_UNITS, VALUE_UNITS, 0]
    assert column.labels[-1] == MISSING


SPEND = Column(name="x", kind=Kind.CONTINUOUS, role=Role.VALUE, bounds=(-3, 10))


@settings(max_examples=50)
@given(st.floats(-3, 10), st.one_of(st.none(), st.floats(-2.9, 10)), st.integers(0, (1 << 64) - 1))
def test_a_user_adds_one_of_the_two_whole_units_beside_the_amount(
    amount: float, clip: float | None, draw: int
) -> None:
    """So no draw makes a user worth more than VALUE_UNITS, which is what a sum is charged for."""
    (found,) = value_units(SPEND, np.array([amount]), clip, np.array([draw], np.uint64))
    exact = (min(amount, 10.0 if clip is None else clip) + 3) / value_unit(SPEND, clip)
    assert 0 <= found <= VALUE_UNITS
    assert abs(found - exact) < 1


@pytest.mark.parametrize("clip", [5e-324, 2e-322, 1e-300])
def test_the_smallest_clips_leave_a_user_worth_no_more(clip: float) -> None:
    """Their thirty-second parts are rounded: to 0, or to fewer than 32 in the clip."""
    column = Column(name="x", kind=Kind.CONTINUOUS, role=Role.VALUE, bounds=(0, 10))
    units = value_units(column, np.array([0.0, clip, 10.0]), clip, np.zeros(3, np.uint64))
    assert units.tolist() == [0, VALUE_UNITS, VALUE_UNITS]


@pytest.mark.parametrize("amount", [0.01, 3.3, 9.99])
def test_rounding_has_no_bias(amount: float) -> None:
    """Sum of 100,000 of one amount; a wrong chance, or rounding to nearest, is noticed."""
    n, exact = 100_000, (amount + 3) / value_unit(SPEND)
    draws = np.random.default_rng(3).integers(0, 1 << 64, n, dtype=np.uint64)
    units = value_units(SPEND, np.full(n, amount), None, draws)
    fraction = exact - np.floor(exact)

    def z(found: NDArray[Any]) -> NDArray[np.float64]:
        return (found - exact) / np.sqrt(fraction * (1 - fraction))

    assert plausible(p_mean(z(units)))
    assert plausible(p_variance(z(units)))
    assert not plausible(p_mean(z(np.rint(np.full(n, exact)))))
    assert not plausible(p_mean(z(value_units(SPEND, np.full(n, amount + 0.02), None, draws))))


def test_an_encoded_table_shows_nothing_and_fits_its_schema(
    good: pd.DataFrame, schema: Schema
) -> None:
    table = encode(clean(good, schema))
    assert "tell-tale" not in repr(table)
    assert len(table) == len(good)
    low, high = schema.column("spend").span
    assert low <= table.amounts["spend"].min() <= table.amounts["spend"].max() <= high
    with pytest.raises(SchemaError):
        EncodedTable(schema=schema, ids=table.ids, codes=table.codes[:, :2], amounts=table.amounts)
    with pytest.raises(SchemaError):
        decode(schema.data_columns, table.codes + 99, np.random.default_rng(0))


def test_the_fingerprint_is_of_the_users_alone(good: pd.DataFrame, schema: Schema) -> None:
    """Other bins, columns or order of rows must not look like a data set with a fresh budget."""
    table = encode(clean(good, schema))
    shuffled = good.sample(frac=1, random_state=1)
    fewer = Schema(party="shop", columns=(schema.key, schema.column("colour")))
    assert fingerprint(table) == fingerprint(encode(clean(shuffled, schema)))
    assert fingerprint(table) == fingerprint(encode(clean(good, fewer)))
    assert fingerprint(table) != fingerprint(encode(clean(good.head(39), schema)))
    changed = good.assign(colour="red")
    assert contents(table) == contents(encode(clean(good, schema)))
    assert contents(table) != contents(encode(clean(changed, schema)))
    assert contents(table) != contents(encode(clean(shuffled, schema)))


def test_a_missing_amount_is_one_of_0() -> None:
    facts: dict[str, Any] = {"name": "x", "kind": "continuous", "role": "value"}
    column = parse(Column, {**facts, "bounds": [-1, 3], "missing": "level"})
    cells = pd.DataFrame({"user": list("abcd"), "x": [-1.0, 0.0, None, 3.0]})
    amounts = encode(clean(cells, Schema(party="a", columns=(KEY, column)))).amounts["x"]
    assert amounts.tolist() == [-1, 0, 0, 3]
    quarter = VALUE_UNITS // 4
    units = value_units(column, amounts, None, np.zeros(4, np.uint64))
    assert units.tolist() == [0, quarter, quarter, VALUE_UNITS]
    with pytest.raises(SchemaError, match="counts as 0"):
        parse(Column, {**facts, "bounds": [1, 3], "missing": "level"})
    parse(Column, {**facts, "bounds": [1, 3], "missing": "drop"})


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ({"kind": "boolean"}, [False, True]),
        ({"kind": "boolean", "levels": ["True", "False"]}, [True, False]),
        ({"kind": "boolean", "levels": ["no", "yes"]}, ["no", "yes"]),
        ({"kind": "categorical", "levels": ["3", "-10"]}, [3, -10]),
        ({"kind": "categorical", "levels": ["007", "1"]}, ["007", "1"]),
        ({"kind": "categorical", "levels": ["0", "a"]}, ["0", "a"]),
        ({"kind": "categorical", "levels": ["0", "1"]}, [0, 1]),
        ({"kind": "categorical", "levels": ["2", "0.5"]}, [2.0, 0.5]),
        ({"kind": "categorical", "levels": ["1.10", "1.2"]}, ["1.10", "1.2"]),
        ({"kind": "categorical", "levels": ["nan", "1.5"]}, ["nan", "1.5"]),
        ({"kind": "categorical", "levels": ["False", "True"]}, [False, True]),
    ],
)
def test_levels_come_back_in_the_type_of_the_source(
    facts: dict[str, Any], wanted: list[Any]
) -> None:
    """And read with the same schema, they are the same levels again."""
    column = parse(Column, {"name": "x", "missing": "level", **facts})
    rng = np.random.default_rng(0)
    whole = decode([column], np.array([[0], [1]]), rng)["x"]
    assert whole.tolist() == wanted
    assert [type(cell) for cell in whole.tolist()] == [type(cell) for cell in wanted]
    codes = np.array([0, 1, 2, ABSENT])
    gaps = decode([column], codes[:, None], rng)["x"]
    assert gaps[:2].tolist() == wanted
    assert gaps[2:].isna().all()
    schema = Schema(party="a", columns=(KEY, column))
    table = clean(pd.DataFrame({"user": list("abcd"), "x": gaps}), schema)
    assert encode(table).column("x").tolist() == [0, 1, 2, 2]
