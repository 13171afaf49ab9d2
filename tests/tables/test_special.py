"""Special numbers: a code of their own, decoded exactly, suggested to whoever drafts a schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from twinweave.analysis.lift.spread import Spread
from twinweave.errors import SchemaError
from twinweave.parsing import parse
from twinweave.tables.column import MISSING, Column, Kind, Role, Rule
from twinweave.tables.contingency import group_of
from twinweave.tables.drafts.party import draft_schema
from twinweave.tables.encoding import column_codes, decode_column
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.clip import Contrast, choose_clip
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import query_over

LIMIT = Column(
    name="limit",
    kind=Kind.INTEGER,
    bounds=(0, 99_999),
    bins=(2, 4, 20_000),
    special=(30_000, 0, 20_000, 3),
    missing=Rule.LEVEL,
)


def test_each_has_a_code_behind_the_bins() -> None:
    assert LIMIT.labels[LIMIT.bin_count :] == ("30000", "0", "20000", "3", MISSING)
    cells = pd.Series([30_000, 0, 20_000, 3, None, 1, 2, 29_999, 20_001])
    assert column_codes(LIMIT, cells).tolist() == [4, 5, 6, 7, 8, 0, 1, 3, 3]
    assert group_of(LIMIT, 2).tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 6]


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([Kind.INTEGER, Kind.CONTINUOUS]),
    st.lists(st.integers(0, 9), min_size=1, max_size=2, unique=True),
    st.booleans(),
)
def test_they_decode_exactly_and_no_bin_decodes_to_them(
    seed: int, kind: Kind, special: list[int], known: bool
) -> None:
    column = Column(
        name="x", kind=kind, bounds=(0, 9), bins=(3.0, 6.0), special=tuple(map(float, special))
    )
    codes = np.repeat(np.arange(column.size), 40)
    users = np.arange(column.size, dtype=float) if known else None
    drawn = decode_column(column, codes, np.random.default_rng(seed), users)
    np.testing.assert_array_equal(column_codes(column, pd.Series(drawn)), codes)
    if kind is Kind.INTEGER and users is None:
        assert set(drawn) == set(range(10))  # all other numbers occur


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"kind": "categorical", "levels": ["a", "b"], "special": [1]}, "only numbers"),
        ({"kind": "integer", "bounds": [0, 99], "special": [100]}, "outside"),
        ({"kind": "integer", "bounds": [0, 99], "special": [5, 5]}, "repeat"),
        ({"kind": "integer", "bounds": [0, 99], "special": [0.5]}, "whole"),
        ({"kind": "integer", "bounds": [0, 99], "bins": [1], "special": [0]}, "no number but"),
        ({"kind": "integer", "bounds": [0, 9], "bins": [2], "special": [1, 0]}, "no number but"),
    ],
)
def test_what_cannot_be_special_is_refused(facts: dict[str, Any], told: str) -> None:
    with pytest.raises(SchemaError, match=told):
        parse(Column, {"name": "x", **facts})


def test_parties_agree_on_them() -> None:
    key = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
    facts: dict[str, Any] = {"name": "x", "kind": Kind.CONTINUOUS, "bounds": (0, 1), "shared": True}
    with pytest.raises(SchemaError, match="special"):
        JointSchema(
            schemas=(
                Schema(party="a", columns=(key, Column(**facts, special=(0.0,)))),
                Schema(party="b", columns=(key, Column(**facts))),
            )
        )


SPEND = Column(
    name="spend",
    kind=Kind.CONTINUOUS,
    role=Role.VALUE,
    bounds=(0, 1000),
    bins=(100.0, 500.0),
    special=(0.0, 30.0),
)


def test_amounts_at_special_values_count_as_what_they_are() -> None:
    """The second moment of a value, and the clip of its sums."""
    key = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
    schema = JointSchema(schemas=(Schema(party="a", columns=(key, SPEND)),))
    query = query_over(schema, "spend")
    assert query is not None
    counts = np.array([0.0, 0, 0, 900, 100])
    found = Spread.of(schema, [Measurement(query=query, values=counts, variance=1e-6)], "spend")
    assert found is not None
    ratio = found.ratio(1000.0, 0.0)
    assert ratio is not None
    assert ratio[0] == pytest.approx(30.0)
    contrast = Contrast(sampling=1e-3, noise=1e-3)
    assert choose_clip(SPEND, counts, 1e-6, contrast) == 30.0


def test_a_draft_suggests_what_many_rows_share(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    n = 2000
    limit = rng.integers(1000, 90_000, n)
    limit[:300] = 30_000
    history = np.round(29 + rng.exponential(200, n), 2)
    history[:400] = 29.99
    even = rng.integers(0, 10, n)  # a tenth each, and each a bin by itself
    ages = rng.integers(18, 90, n)
    file = tmp_path / "a.csv"
    frame = pd.DataFrame({"limit": limit, "history": history, "even": even, "age": ages})
    frame.to_csv(file, index=False)
    columns = {c["name"]: c for c in yaml.safe_load(draft_schema(file))["columns"]}
    assert columns["limit"]["special"] == [30_000]
    assert columns["history"]["special"] == [29.99]
    assert "special" not in columns["even"]
    assert "special" not in columns["age"]
    assert draft_schema(file).count("CONFIRM special") == 2
    for name in ("limit", "history"):
        parse(Column, columns[name])
