"""One small table with a column of every kind, and its schema."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from twinweave.parsing import parse
from twinweave.tables.schema import Schema

COLUMNS: list[dict[str, Any]] = [
    {"name": "user", "kind": "categorical", "role": "key"},
    {"name": "colour", "kind": "categorical", "levels": ["red", "green", "blue"]},
    {"name": "visits", "kind": "integer", "bounds": [0, 20]},
    {"name": "score", "kind": "continuous", "bounds": [-1, 1]},
    {"name": "seen", "kind": "datetime", "bounds": ["2020-01-01", "2024-01-01"], "bins": 8},
    {"name": "member", "kind": "boolean", "levels": ["no", "yes"]},
    {"name": "spend", "kind": "continuous", "role": "value", "bounds": [0, 100]},
]


@pytest.fixture
def schema() -> Schema:
    return parse(Schema, {"party": "shop", "columns": COLUMNS})


@pytest.fixture
def good() -> pd.DataFrame:
    return good_table(40, np.random.default_rng(5))


def good_table(n: int, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user": [f"tell-tale{i}@mail.example" for i in range(n)],
            "colour": rng.choice(["red", "green", "blue"], n),
            "visits": rng.integers(0, 21, n),
            "score": rng.uniform(-1, 1, n),
            "seen": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1400, n), "D"),
            "member": rng.choice(["no", "yes"], n),
            "spend": rng.uniform(0, 100, n).round(2),
        }
    )
