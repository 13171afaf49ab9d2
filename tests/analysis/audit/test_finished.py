"""The audit of a finished run reads the synthetic table back as the codes that it was made from."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tests.analysis.synthetic_world import rows, schema
from twinweave.analysis.audit.finished import coded
from twinweave.synthesis.decode import decode_rows
from twinweave.tables.column import Column, Rule
from twinweave.tables.schema import JointSchema


def by_invalid_cells(joint: JointSchema) -> JointSchema:
    """The same levels MISSING, of invalid cells: one that is missing would be an error."""

    def by_rule(column: Column) -> Column:
        if column.missing is not Rule.LEVEL:
            return column
        return replace(column, missing=Rule.ERROR, invalid=Rule.LEVEL)

    return JointSchema(
        schemas=tuple(
            replace(own, columns=tuple(by_rule(c) for c in own.columns)) for own in joint.schemas
        )
    )


@pytest.mark.parametrize(
    "joint", [schema(), by_invalid_cells(schema())], ids=["missing", "invalid"]
)
def test_the_level_of_a_missing_cell_comes_back(joint: JointSchema) -> None:
    made = rows(joint, 300)
    spec = cast("Any", SimpleNamespace(schema=joint))
    back = coded(spec, decode_rows(joint, made, 7).joint)
    np.testing.assert_array_equal(back.presence, made.presence)
    np.testing.assert_array_equal(back.codes, made.codes)
