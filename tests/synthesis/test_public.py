"""Rows of a public file are coded as the parties' own are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from twinweave.errors import AppError, ConfigError
from twinweave.synthesis.public import public_rows
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema

KEY = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)


def categorical(name: str) -> Column:
    return Column(name=name, kind=Kind.CATEGORICAL, levels=("p", "q", "r"))


JOINT = JointSchema(
    schemas=(
        Schema(party="a", columns=(KEY, categorical("x"))),
        Schema(party="b", columns=(KEY, categorical("y"))),
    )
)


def test_rows_have_all_parties_columns_side_by_side(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["u1", "u2", "u3"], "x": ["p", "q", "r"], "y": ["r", "r", "p"]})
    frame.to_csv(tmp_path / "public.csv", index=False)
    rows = public_rows(JOINT, str(tmp_path / "public.csv"))
    assert rows.presence.all()
    found = rows.codes[:, [JOINT.names.index("x"), JOINT.names.index("y")]]
    assert np.array_equal(found, [[0, 2], [1, 2], [2, 0]])


def test_a_file_that_lacks_a_column_or_rows_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "public.csv"
    pd.DataFrame({"id": ["u1"], "x": ["p"]}).to_csv(file, index=False)
    with pytest.raises(AppError, match="'y'"):
        public_rows(JOINT, str(file))
    with pytest.raises((ConfigError, AppError)):
        public_rows(JOINT, str(tmp_path / "none.csv"))
