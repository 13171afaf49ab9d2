"""Coarse sides: a public grouping of codes that every party and the server derive alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinweave.errors import ConfigError
from twinweave.tables.column import MISSING, Column, Kind, Role, Rule
from twinweave.tables.contingency import group_of, grouped_labels
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.queries import Query, Side, check, side_positions


def column(name: str, size: int, missing: bool = False) -> Column:
    rule = Rule.LEVEL if missing else Rule.ERROR
    return Column(name=name, kind=Kind.INTEGER, bounds=(0, size - 1), bins=size, missing=rule)


@given(size=st.integers(2, 60), groups=st.integers(2, 12), missing=st.booleans())
def test_groups_are_even_runs_of_neighbours(size: int, groups: int, missing: bool) -> None:
    own = column("x", size, missing)
    of = group_of(own, groups)
    assert len(of) == own.size
    counts = np.bincount(of)[: min(size, groups)]
    assert (np.diff(of) >= 0).all()
    assert of[-1] + 1 == min(size, groups) + missing
    assert counts.max() - counts.min() <= 1
    labels = grouped_labels(own, of.tolist())
    assert len(set(labels)) == len(labels) == of[-1] + 1
    assert (labels[-1] == MISSING) == missing  # never mixed with another level
    assert group_of(own, 0).tolist() == list(range(own.size))


def test_a_clip_is_in_the_name_and_lies_within_the_bounds() -> None:
    key = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
    spend = Column(name="spend", kind=Kind.CONTINUOUS, role=Role.VALUE, bounds=(-10, 500))
    schema = JointSchema(schemas=(Schema(party="shop", columns=(key, column("x", 3), spend)),))

    def clipped(clip: float | None) -> Query:
        return Query(sides=(Side(party="shop", columns=("x",), weight="spend", clip=clip),))

    names = ["sum spend by shop.x", *(f"sum spend up to {c} by shop.x" for c in ("120", "0.25"))]
    assert [clipped(c).name for c in (None, 120.0, 0.25)] == names
    for clip in (None, -9.9, 500.0):
        check(schema, clipped(clip))
    for wrong in (-10.0, -10 + 1e-9, 500.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="clipped outside"):
            check(schema, clipped(wrong))
    with pytest.raises(ConfigError, match="only a sum"):
        Query(sides=(Side(party="shop", columns=("x",), clip=3.0),))


@given(st.data())
def test_a_coarse_sides_codes_index_its_block(data: Any) -> None:
    key = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
    schema = Schema(party="a", columns=(column("x", 7, True), key, column("y", 5)))
    each = [
        data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n).map(_dense)) for n in (5, 8)
    ]
    coarse = data.draw(st.booleans())
    codes = np.array(
        data.draw(
            st.lists(st.tuples(st.integers(0, 7), st.integers(0, 4)), min_size=1, max_size=20)
        ),
        dtype=np.int32,
    )
    side = Side(party="a", columns=("y", "x"), groups=tuple(each) if coarse else ())
    y, x = each if coarse else (range(5), range(8))
    expected = [y[b] * (max(x) + 1) + x[a] for a, b in codes]
    assert side_positions(schema, side, codes).tolist() == expected


def _dense(groups: list[int]) -> tuple[int, ...]:
    """The same groups, numbered from 0 without a gap."""
    return tuple(np.unique(groups, return_inverse=True)[1].tolist())


@pytest.mark.parametrize(
    "groups", [((0, 2, 2),), ((1, 1, 1),), ((0, -1, 1),), ((),), ((0, 1, 1), (0, 0, 0))]
)
def test_groups_that_leave_one_empty_or_a_column_out_are_refused(
    groups: tuple[tuple[int, ...], ...],
) -> None:
    with pytest.raises(ConfigError, match="group"):
        Query(sides=(Side(party="shop", columns=("x",), groups=groups),))


@pytest.mark.parametrize("groups", [(0, 1), (0, 1, 1, 0)])
def test_groups_of_other_levels_than_the_columns_own_are_refused(groups: tuple[int, ...]) -> None:
    key = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
    schema = JointSchema(schemas=(Schema(party="shop", columns=(key, column("x", 3))),))
    check(schema, Query(sides=(Side(party="shop", columns=("x",), groups=((1, 0, 1),)),)))
    with pytest.raises(ConfigError, match="not of all of a column's levels"):
        check(schema, Query(sides=(Side(party="shop", columns=("x",), groups=(groups,)),)))


def test_groups_need_not_be_neighbours() -> None:
    assert grouped_labels(column("x", 5), (0, 1, 0, 0, 2)) == (
        f"{column('x', 5).labels[0]} and 2 more",
        column("x", 5).labels[1],
        column("x", 5).labels[4],
    )
