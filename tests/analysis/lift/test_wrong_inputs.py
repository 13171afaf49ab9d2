"""Inputs that are wrong give no verdict, whatever the lift; the same experiment, right, gives one.

Each wrong input is tried on held-out experiments with a true lift of some eight points, 20 of
them. What is said to be refused has a verdict with probability below 1e-3 in one experiment, so
that a false alarm of this file is below .02 for one verdict, and two are not allowed. Without
conversions nothing is wrong but that noise alone is compared: 5 % of verdicts by construction,
and more than 6 of 20 have probability 3e-4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.analysis.lift.lift_world import (
    CONF,
    SCHEMA,
    SPREAD,
    WORKLOAD,
    counted,
    exact,
    noisy,
    people,
)
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.results import LiftReport, MatchState, Verdict
from twinweave.tables.column import VALUE_UNITS
from twinweave.workload.analyses import LiftConf

Users = dict[str, NDArray[Any]]
Wrong = Callable[[Users, np.random.Generator], Users]

N, SD, REPLICATES = 20_000, 6.0, 20


def ids_never_match(users: Users, rng: np.random.Generator) -> Users:
    return users | {"at_b": ~users["at_a"]}


def hardly_any_id_matches(users: Users, rng: np.random.Generator) -> Users:
    return users | {"at_b": ~users["at_a"] | (rng.random(N) < 0.004)}


def arms_matched_unequally(users: Users, rng: np.random.Generator) -> Users:
    test = np.isin(users["arm"], (0, 2))
    return users | {"at_b": rng.random(N) < np.where(test, 0.70, 0.75)}


def buyers_alone_undeclared(users: Users, rng: np.random.Generator) -> Users:
    return users | {"at_b": users["at_b"] & (users["bought"] == 1)}


def one_arm_empty(users: Users, rng: np.random.Generator) -> Users:
    return users | {"arm": np.where(users["arm"] == 1, 3, users["arm"])}


def no_conversion(users: Users, rng: np.random.Generator) -> Users:
    return users | {"bought": np.zeros(N, int), "spend": np.zeros(N, int)}


def cents_for_euros(users: Users, rng: np.random.Generator) -> Users:
    """A hundred times the amount, clipped to the bound."""
    return users | {"spend": np.minimum(users["spend"] * 100, VALUE_UNITS)}


def as_they_are(users: Users, rng: np.random.Generator) -> Users:
    return users


def reports(wrong: Wrong, conf: LiftConf = CONF, amounts: float = SD) -> list[LiftReport]:
    """amounts: deviation of the noise on users by amount."""
    rng = np.random.default_rng(2024)
    found = []
    for _ in range(REPLICATES):
        users = wrong(people(N, rng), rng)
        tables = [
            noisy(q, counted(users, q), amounts if q == SPREAD else SD, rng) for q in WORKLOAD
        ]
        found.append(analyse(SCHEMA, tables, conf))
    return found


def verdicts(found: list[LiftReport], *, values: bool = True) -> int:
    """How many experiments have one, of any outcome, matched users and breakdowns included."""

    def says(verdict: Verdict) -> bool:
        return verdict in (Verdict.LIFT, Verdict.HARM)

    def any_of(report: LiftReport) -> bool:
        conversions = report.conversions if values else ()
        cells = (cell for c in conversions for b in c.breakdowns for cell in b.cells)
        compared = [
            *(found for c in conversions for found in (c.overall, c.matched)),
            *(found for v in report.values for found in (v.overall, v.matched)),
        ]
        found = [*(c.verdict for c in cells), *(c.verdict for c in compared if c is not None)]
        return any(map(says, found))

    return sum(map(any_of, found))


@pytest.mark.parametrize(
    "wrong",
    [
        ids_never_match,
        hardly_any_id_matches,
        arms_matched_unequally,
        buyers_alone_undeclared,
        one_arm_empty,
    ],
    ids=lambda w: str(w.__name__),
)
def test_what_is_wrong_gives_no_verdict(wrong: Wrong) -> None:
    assert verdicts(reports(wrong)) <= 1


def test_a_sample_ratio_that_is_not_the_declared_one_gives_no_verdict() -> None:
    found = reports(as_they_are, replace(CONF, ratio=1.0))
    assert verdicts(found) == 0
    assert all("`lift.ratio`" in r.conversions[0].doubts[0] for r in found)


def test_few_who_match_are_taken_as_they_are_where_that_is_declared() -> None:
    """Or a small shop could never be measured with a large publisher."""
    found = reports(hardly_any_id_matches, replace(CONF, holds={"b": "everyone"}))
    taken = [r for r in found if r.match_rates[0].state is MatchState.BALANCED]
    assert len(taken) > REPLICATES / 2  # the noise hides them in the others
    assert all(r.conversions[0].doubts == () for r in taken)


def test_amounts_in_another_unit_give_no_verdict_of_the_amounts() -> None:
    found = reports(cents_for_euros)
    assert verdicts(found, values=False) <= 1
    assert all("cents for euros" in r.values[0].doubts[0] for r in found)
    assert all(r.conversions[0].overall.verdict is Verdict.LIFT for r in found)


def test_sums_that_noise_leaves_unclear_are_not_called_another_unit() -> None:
    """Right amounts, of two thirds of the bound by weight, under noise that is up to as large as
    the bins: a false alarm has probability .0013 in each of 40."""
    for noise in (60.0, 300.0):
        found = reports(as_they_are, amounts=noise)
        assert not any(r.values[0].at_bound == "surely" for r in found)


def test_amounts_in_another_unit_are_noted_where_noise_leaves_it_open() -> None:
    """Small tables: the verdict stands, and the reader is told what to check."""
    (said, spurious) = (
        sum("seem to lie at the upper bound" in " ".join(r.notes) for r in found)
        for found in (
            reports(cents_for_euros, amounts=300.0),
            reports(as_they_are, amounts=300.0),
        )
    )
    assert said > REPLICATES / 2
    assert spurious < REPLICATES / 4


def test_an_arm_that_is_not_shown_is_named() -> None:
    assert {r.hidden for r in reports(one_arm_empty)} == {("control",)}
    assert {r.hidden for r in reports(as_they_are)} == {()}
    nobody = reports(as_they_are, replace(CONF, k=10**6, ratio=1.0))
    assert {r.hidden for r in nobody} == {("test", "control")}
    assert all(r.sample_ratio is None for r in nobody)


def test_no_conversion_at_all_is_seldom_more_than_noise() -> None:
    outcomes = [r.conversions[0] for r in reports(no_conversion)]
    assert sum(o.overall.verdict is not Verdict.INCONCLUSIVE for o in outcomes) <= 6


def test_the_same_experiments_with_right_inputs_have_their_verdicts() -> None:
    """Or the tests above would hold of an analysis that never says anything."""
    found = reports(as_they_are)
    assert all(r.conversions[0].overall.verdict is Verdict.LIFT for r in found)
    assert all(r.values[0].overall.verdict is Verdict.LIFT for r in found)


def test_the_fast_tables_are_those_in_the_clear() -> None:
    users = people(400, np.random.default_rng(1))
    for query in WORKLOAD:
        np.testing.assert_array_equal(counted(users, query), exact(users, query))
