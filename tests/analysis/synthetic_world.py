"""A small union of three kinds of people, with every kind of column, for the synthetic data."""

from __future__ import annotations

import numpy as np

from twinweave.generators.union import Rows, UnionLayout
from twinweave.tables.column import Column, Kind, Role, Rule
from twinweave.tables.contingency import ABSENT
from twinweave.tables.schema import JointSchema, Schema

REGION = Column(
    name="region", kind=Kind.CATEGORICAL, role=Role.SENSITIVE, shared=True, levels=("n", "s", "w")
)


def schema(
    *, parties: tuple[str, str] = ("shop", "bank"), keys: tuple[str, str] = ("id", "id")
) -> JointSchema:
    """Two parties: a shared column, and one of every other kind."""
    one, two = (Column(name=k, kind=Kind.CATEGORICAL, role=Role.KEY) for k in keys)
    return JointSchema(
        schemas=(
            Schema(
                party=parties[0],
                columns=(
                    Column(
                        name="age",
                        kind=Kind.INTEGER,
                        bounds=(18.0, 90.0),
                        bins=6,
                        missing=Rule.LEVEL,
                    ),
                    one,
                    REGION,
                    Column(
                        name="arm",
                        kind=Kind.CATEGORICAL,
                        role=Role.MEMBERSHIP,
                        levels=("test", "control", "none"),
                    ),
                ),
            ),
            Schema(
                party=parties[1],
                columns=(
                    two,
                    REGION,
                    Column(
                        name="bought", kind=Kind.BOOLEAN, role=Role.CONVERSION, levels=("no", "yes")
                    ),
                    Column(
                        name="since",
                        kind=Kind.DATETIME,
                        bounds=("2020-01-01", "2024-01-01"),
                        bins=4,
                        missing=Rule.LEVEL,
                    ),
                    Column(
                        name="spend",
                        kind=Kind.CONTINUOUS,
                        role=Role.VALUE,
                        bounds=(0.0, 200.0),
                        bins=(0.01, 50.0),
                        missing=Rule.LEVEL,
                    ),
                ),
            ),
        )
    )


def rows(joint: JointSchema, n: int, seed: int = 3) -> Rows:
    """Independent uniform codes, every presence; absent where no holder is present."""
    rng = np.random.default_rng(seed)
    layout = UnionLayout.of(joint)
    patterns = np.array([[True, True], [True, False], [False, True]])
    presence = patterns[rng.integers(0, 3, n)]
    codes = np.stack([rng.integers(0, s, n) for s in layout.sizes], axis=1).astype(np.int32)
    codes[~layout.visible(presence)] = ABSENT
    return Rows(codes=codes, presence=presence)
