"""Synthetic tables have the types of the tables they stand for, in Parquet and in CSV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from twinweave import rundir
from twinweave.generators.union import Rows
from twinweave.parsing import parse
from twinweave.synthesis.decode import decode_rows
from twinweave.tables.cleaning import clean
from twinweave.tables.encoding import encode
from twinweave.tables.schema import JointSchema

N = 500
DAYS = ["2020-01-01", "2024-01-01"]
COLUMNS: dict[str, dict[str, Any]] = {
    "flag": {"kind": "boolean"},
    "known": {"kind": "boolean", "missing": "level"},
    "member": {"kind": "boolean", "levels": ["no", "yes"]},
    "plan": {"kind": "categorical", "levels": ["1", "2", "3"]},
    "rate": {"kind": "categorical", "levels": ["0.5", "1.0", "1.5"]},
    "grade": {"kind": "categorical", "levels": ["1", "2"], "missing": "level"},
    "code": {"kind": "categorical", "levels": ["01", "02"], "missing": "level"},
    "visits": {"kind": "integer", "bounds": [0, 20], "bins": 20},
    "since": {"kind": "integer", "bounds": [0, 9], "bins": 10, "missing": "level"},
    "score": {"kind": "continuous", "bounds": [0, 1], "bins": 20},
    "depth": {"kind": "continuous", "bounds": [0, 1], "bins": 20, "missing": "level"},
    "seen": {"kind": "datetime", "bounds": DAYS},
    "left": {"kind": "datetime", "bounds": DAYS, "missing": "level"},
}


def users_own() -> pd.DataFrame:
    """A table as pandas holds it, gaps in nullable types where there are any."""
    rng = np.random.default_rng(3)
    gap = rng.random(N) < 0.2
    day = pd.Series(pd.Timestamp(DAYS[0]) + pd.to_timedelta(rng.integers(0, 1400, N), "D"))
    some = pd.Series(rng.integers(0, 10, N)).astype("Int64").mask(pd.Series(gap))
    return pd.DataFrame(
        {
            "id": [f"u{i}" for i in range(N)],
            "flag": rng.random(N) < 0.3,
            "known": pd.Series(rng.random(N) < 0.6).astype("boolean").mask(pd.Series(gap)),
            "member": rng.choice(["no", "yes"], N),
            "plan": rng.choice([1, 2, 3], N, p=[0.6, 0.3, 0.1]),
            "rate": rng.choice([0.5, 1.0, 1.5], N, p=[0.1, 0.2, 0.7]),
            "grade": (some % 2) + 1,
            "code": pd.Series(rng.choice(["01", "02"], N)).mask(pd.Series(gap), None),
            "visits": rng.integers(0, 21, N),
            "since": some,
            "score": rng.random(N),
            "depth": np.where(gap, np.nan, rng.random(N)),
            "seen": day.astype("datetime64[ns]"),
            "left": day.astype("datetime64[ns]").mask(pd.Series(gap)),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic tables of the user's very rows; a second party makes gaps in the joint table."""
    key = {"name": "id", "kind": "categorical", "role": "key"}
    columns = [key, *({"name": name, **facts} for name, facts in COLUMNS.items())]
    other = [key, {"name": "other", "kind": "boolean"}]
    parties = [{"party": "shop", "columns": columns}, {"party": "bank", "columns": other}]
    schema = parse(JointSchema, {"schemas": parties})
    codes = encode(clean(users_own(), schema.schemas[0])).codes
    both = np.vstack([np.hstack([codes, np.ones((N, 1))]), np.full((1, len(columns)), -1)])
    both[-1, -1] = 0
    presence = np.ones((N + 1, 2), dtype=bool)
    presence[-1, 0] = False
    rows = Rows(codes=both.astype(np.int32), presence=presence)
    path = tmp_path_factory.mktemp("synthetic")
    rundir.write_synthetic(path, decode_rows(schema, rows, 5), csv=True)
    return path


def test_types_are_those_of_the_users_own_table(folder: Path) -> None:
    own, made = users_own(), pd.read_parquet(folder / "shop.parquet")
    assert made.dtypes.to_dict() == own.dtypes.to_dict()
    joint = pd.read_parquet(folder / "joint.parquet")
    assert joint["plan"].dtype == "Int64"
    assert joint["flag"].dtype == "boolean"


def test_as_csv_both_read_alike(folder: Path, tmp_path: Path) -> None:
    users_own().to_csv(tmp_path / "own.csv", index=False)
    own, made = (pd.read_csv(p) for p in (tmp_path / "own.csv", folder / "shop.csv"))
    assert made.dtypes.to_dict() == own.dtypes.to_dict()


def test_levels_are_the_users_own_cells(folder: Path) -> None:
    own, made = users_own(), pd.read_parquet(folder / "shop.parquet")
    for name in ("flag", "known", "member", "plan", "rate", "grade", "code"):
        pd.testing.assert_series_equal(made[name], own[name])


def quality(own: pd.DataFrame, made: pd.DataFrame, metadata: dict[str, Any]) -> float:
    from sdmetrics.reports.single_table import QualityReport

    report = QualityReport()
    report.generate(own, made, metadata, verbose=False)
    return float(report.get_score())


def test_sdmetrics_finds_the_same_rows_alike(folder: Path) -> None:
    """And not, as a broken variant, where every cell is text."""
    told = json.loads((folder / "shop.metadata.json").read_text())["tables"]["table"]
    own, made = users_own(), pd.read_parquet(folder / "shop.parquet")
    assert quality(own, made, told) > 0.95
    levels = [c for c, facts in COLUMNS.items() if facts["kind"] in ("boolean", "categorical")]
    text = made.assign(**{c: made[c].astype(str) for c in levels})
    assert quality(own, text, told) < 0.7
