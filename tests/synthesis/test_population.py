"""Who is present where: overlaps from the cross tables, and the cells of a row."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.synthesis.experiment import LAYOUT, PAIRS, measured, sizes_of, world
from twinweave.errors import ConfigError
from twinweave.generators.union import Rows
from twinweave.synthesis.population import NOWHERE, Population, population, row_cells
from twinweave.tables.contingency import ABSENT
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side


def test_cell_of_a_row_by_hand() -> None:
    codes = np.array([[2, 1, 0, 3], [1, ABSENT, 1, 2], [0, 1, ABSENT, ABSENT]], dtype=np.int32)
    presence = np.array([[True, True], [True, False], [False, True]])
    rows = Rows(codes=codes, presence=presence)
    assert row_cells(PAIRS[2], LAYOUT, rows).tolist() == [3, 6, NOWHERE]
    # ads: region x arm has 6 positions, absent is 6; shop: visit has 2, absent is 2.
    assert row_cells(PAIRS[5], LAYOUT, rows).tolist() == [5 * 3 + 0, 6 * 3 + 1, 1 * 3 + 2]


def test_overlap_is_estimated_without_bias_and_better_than_from_its_cells_alone() -> None:
    """200 noisy repeats of one union; mean within 4 of its standard errors: false alarm 6e-5."""
    rows = world(3000, seed=1)
    truth = rows.presence.all(axis=1).sum()
    found = []
    for seed in range(200):
        people = population(LAYOUT.parties, sizes_of(rows), measured(rows, PAIRS, 30, seed))
        assert people.users.sum() == pytest.approx(sum(sizes_of(rows).values()) - people.users[0])
        found.append(people.users[0])
    assert abs(np.mean(found) - truth) < 4 * np.std(found) / np.sqrt(200)
    assert np.std(found) < 30 * np.sqrt(6)


def test_three_parties_of_whom_two_share_nobody() -> None:
    sizes = {"a": 100, "b": 80, "c": 50}
    disjoint = Query(sides=(Side(party="a", columns=("x",)), Side(party="b", columns=("y",))))
    inside = Query(sides=(Side(party="a", columns=("x",)), Side(party="c", columns=("z",))))
    tables = [
        Measurement(
            query=disjoint, values=np.array([[0, 0, 60], [0, 0, 40], [30, 50, 0.0]]), variance=1e-3
        ),
        Measurement(
            query=inside, values=np.array([[20, 30, 10], [0, 0, 40], [0, 0, 0.0]]), variance=1e-3
        ),
    ]
    people = population(("a", "b", "c"), sizes, tables)
    users = {tuple(p): u for p, u in zip(people.patterns.tolist(), people.users, strict=True)}
    assert users[True, False, True] == pytest.approx(50, abs=0.1)
    assert users[True, False, False] == pytest.approx(50, abs=0.1)
    assert people.size == 180
    drawn = people.presence(18)
    assert len(drawn) == 18
    assert drawn.sum(axis=0).tolist() == [10, 8, 5]


def test_a_small_overlap_gets_components_beyond_its_share() -> None:
    patterns = np.array([[True, True], [True, False], [False, True]])
    people = Population(patterns=patterns, users=np.array([100.0, 9900.0, 0.0]))
    found = people.latents(110)
    both = found.presence.all(axis=1)
    assert len(found) == 110
    assert both.sum() == 11
    assert found.users[both].sum() == pytest.approx(100)
    assert found.users.sum() == pytest.approx(10_000)


def test_a_missing_size_is_named() -> None:
    with pytest.raises(ConfigError, match="ads"):
        population(LAYOUT.parties, {"shop": 5}, [])


def test_whole_users_have_the_public_sizes_however_overlaps_are_rounded() -> None:
    patterns = np.array(list(product((True, False), repeat=3))[:-1])
    rng = np.random.default_rng(4)
    for scale in (1.0, 40.0, 9000.0):
        exact = rng.exponential(scale, (50, 7))
        exact[:, [3, 5, 6]] = np.ceil(exact @ patterns)[:, [0, 1, 2]] - (
            exact[:, [0, 1, 2, 4]] @ patterns[[0, 1, 2, 4]]
        )
        for users in exact:
            people = Population(patterns=patterns, users=users)
            assert np.array_equal(people.counts @ patterns, np.rint(users @ patterns))
            assert (people.counts >= 0).all()
            assert np.abs(people.counts - users).max() < 3
            assert people.presence(people.size).sum(axis=0).tolist() == (
                np.rint(users @ patterns).tolist()
            )
