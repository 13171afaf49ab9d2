"""Fidelity to noisy tables: rows that are the truth differ by the noise, others by more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.analysis.lift.lift_world import (
    SCHEMA,
    WORKLOAD,
    a,
    b,
    cross,
    exact,
    noisy,
    people,
    union,
)
from twinweave.analysis.fidelity.tables import fidelity
from twinweave.generators.union import Rows, UnionLayout
from twinweave.workload.measurement import Measurement

QUERIES = (*WORKLOAD, cross(b("channel")), cross(a("age", "region")), cross(a("age"), b("visited")))
LAYOUT = UnionLayout.of(SCHEMA)
COUNTED = [q for q in QUERIES if q.weight is None]


@pytest.fixture(scope="module")
def users() -> dict[str, NDArray[Any]]:
    return people(3000, np.random.default_rng(4))


def test_without_noise_the_truth_is_at_no_distance(users: dict[str, NDArray[Any]]) -> None:
    measured = [Measurement(query=q, values=exact(users, q), variance=0.0) for q in QUERIES]
    found = fidelity(LAYOUT, union(users), measured, 3000)
    assert [t.name for t in found.tables] == [q.name for q in COUNTED]  # sums are left aside
    assert max(t.tvd for t in found.tables) == 0
    assert [w.ways for w in found.by_ways] == [1, 2, 3]
    assert all(0 <= w.mse < 1 and w.cosine <= 1 + 1e-12 for w in found.by_ways)
    assert [w.tables for w in found.by_ways] == [3, 3, 1]


def test_distance_is_that_of_the_definition(users: dict[str, NDArray[Any]]) -> None:
    rng = np.random.default_rng(5)
    other = people(2000, rng)  # 2,000 rows stand for 3,000 users
    for query in COUNTED:
        m = noisy(query, exact(users, query), 4.0, rng)
        found = fidelity(LAYOUT, union(other), [m], 3000).tables[0]
        table, told = exact(other, query) * 1.5, m.values.copy()
        if query.is_cross:
            told[-1, -1] = 0  # nobody is absent at both
        cells = told.size - query.is_cross
        assert found.cells == cells
        assert found.tvd == pytest.approx(np.abs(table - told).sum() / 2 / table.sum())
        assert found.chi2 == pytest.approx(((table - told) ** 2).sum() / 16 / cells)


def test_at_the_truth_distance_and_misfit_are_those_of_the_noise(
    users: dict[str, NDArray[Any]],
) -> None:
    """Two-sided at z = 6 (false alarm 2e-9): means over 400 noisy copies."""
    rng = np.random.default_rng(6)
    query, copies = COUNTED[-2], 400
    table, rows = exact(users, query), union(users)
    found = fidelity(LAYOUT, rows, [noisy(query, table, 5.0, rng) for _ in range(copies)], 3000)
    one = found.tables[0]
    tvd = np.array([t.tvd for t in found.tables])
    sd = np.sqrt((1 - 2 / np.pi) / one.cells) * np.sqrt(np.pi / 2) * one.noise_tvd
    assert abs(tvd.mean() - one.noise_tvd) < 6 * sd / np.sqrt(copies)
    assert abs(found.chi2 - 1) < 6 * np.sqrt(2 / one.cells / copies)


def test_rows_that_lost_a_dependence_are_found_out(users: dict[str, NDArray[Any]]) -> None:
    rng = np.random.default_rng(7)
    measured = [noisy(q, exact(users, q), 4.0, rng) for q in COUNTED]
    rows = union(users)
    flat = rows.codes.copy()
    held = np.flatnonzero(rows.presence[:, 1])
    column = SCHEMA.names.index("visited")
    flat[held, column] = 0
    found = fidelity(LAYOUT, Rows(codes=flat, presence=rows.presence), measured, 3000)
    assert found.worst[0] == "a.age x b.visited"
    assert found.table(found.worst[0]).chi2 > 20
    assert found.table("b.channel").chi2 < 6
    assert found.chi2 > 1.5


def test_one_priority_table_that_is_not_met_ends_the_agreement(
    users: dict[str, NDArray[Any]],
) -> None:
    """All others are met without noise: the mean over all cells would hide it."""
    query = next(q for q in COUNTED if q.is_cross)
    rows, others = union(users), [q for q in COUNTED if q != query] * 20
    calm = [Measurement(query=q, values=exact(users, q), variance=9.0) for q in others]
    off = exact(users, query) + 6.0
    for priority in (True, False):
        m = Measurement(query=replace(query, priority=priority), values=off, variance=9.0)
        found = fidelity(LAYOUT, rows, [*calm, m], 3000)
        assert found.chi2 < 1
        assert found.unmet == ((query.name,) if priority else ())
        assert found.agrees is not priority
