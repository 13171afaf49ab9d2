"""The synthetic tables' own lift: everyone in an arm counts, and the measured interval judges."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.analysis.lift.lift_world import CONF, SCHEMA, WORKLOAD, exact, noisy, people, union
from twinweave.analysis.lift.agreement import SyntheticLift, synthetic_lift
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.results import LiftReport
from twinweave.generators.union import Rows
from twinweave.parsing import to_plain
from twinweave.synthesis.decode import decode_rows


@pytest.fixture(scope="module")
def world() -> tuple[dict[str, NDArray[Any]], Rows, LiftReport]:
    rng = np.random.default_rng(2)
    users = people(3000, rng)
    report = analyse(SCHEMA, [noisy(q, exact(users, q), 3.0, rng) for q in WORKLOAD], CONF)
    return users, union(users), report


def tell(rows: Rows, report: LiftReport) -> SyntheticLift:
    return synthetic_lift(SCHEMA, CONF, rows, decode_rows(SCHEMA, rows, 1).joint, report)


def test_the_lift_is_that_of_everyone_in_an_arm(
    world: tuple[dict[str, NDArray[Any]], Rows, LiftReport],
) -> None:
    users, rows, report = world
    found = tell(rows, report).outcomes[0]
    rates, sizes = [], []
    for arm in ((0, 2), (1,)):
        inside = users["at_a"] & np.isin(users["arm"], arm)
        converted = inside & users["at_b"] & (users["bought"] == 1)
        rates.append(converted.sum() / inside.sum())
        sizes.append(int(inside.sum()))
    assert found.overall.n == tuple(sizes)
    assert found.overall.rates == pytest.approx(tuple(rates))
    assert found.overall.lift == pytest.approx(rates[0] - rates[1])
    assert found.overall.inside
    # Only those whom both parties hold (an inner join) would be another figure altogether.
    both = rows.take(np.flatnonzero(rows.presence.all(axis=1)))
    assert tell(both, report).outcomes[0].overall.rates[0] > rates[0] * 1.2


def test_a_breakdown_covers_its_levels_and_hides_what_the_report_hides(
    world: tuple[dict[str, NDArray[Any]], Rows, LiftReport],
) -> None:
    users, rows, report = world
    levels = tell(rows, report).outcomes[0].levels
    assert [level.level for level in levels] == ["n", "s", "w"]
    inside = users["at_a"] & (users["arm"] == 1) & (users["region"] == 1)
    assert levels[1].effect.n[1] == inside.sum()
    assert levels[0].effect.inside
    assert levels[2].effect.lift is None  # too few users: the report shows none either


def test_values_count_everyone_at_their_decoded_amount(
    world: tuple[dict[str, NDArray[Any]], Rows, LiftReport],
) -> None:
    users, rows, report = world
    joint = decode_rows(SCHEMA, rows, 1).joint
    found = tell(rows, report).outcomes[1].overall
    arm = users["at_a"] & (users["arm"] == 1)
    amounts = joint["spend"].fillna(0.0).to_numpy()[arm]
    assert found.rates[1] == pytest.approx(amounts.mean())
    assert found.inside


def test_rows_that_lost_the_lift_lie_outside(
    world: tuple[dict[str, NDArray[Any]], Rows, LiftReport],
) -> None:
    _, rows, report = world
    shuffled = rows.codes.copy()
    i = SCHEMA.names.index("arm")
    held = np.flatnonzero(rows.presence[:, 0])
    shuffled[held, i] = np.random.default_rng(1).permutation(shuffled[held, i])
    flat = tell(Rows(codes=shuffled, presence=rows.presence), report)
    assert flat.outcomes[0].overall.inside is False
    assert all(o.overall.inside for o in tell(rows, report).outcomes)


def test_what_was_not_measured_is_not_told(
    world: tuple[dict[str, NDArray[Any]], Rows, LiftReport],
) -> None:
    _, rows, report = world
    hidden = replace(report, conversions=(replace(report.conversions[0], overall=None),))
    found = tell(rows, hidden)
    assert found.outcomes[0].overall.lift is None
    empty = tell(rows.take(np.flatnonzero(~rows.presence[:, 0])), report)
    assert empty.outcomes[0].overall.n == (0, 0)
    assert empty.outcomes[0].overall.inside is None
    json.dumps(to_plain([found, empty]), allow_nan=False)
