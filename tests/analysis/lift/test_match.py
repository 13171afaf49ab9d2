"""Users whom the outcome's party lacks: they count as 0, and the arms must lack them alike."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.analysis.lift.lift_world import (
    CONF,
    SCHEMA,
    WORKLOAD,
    a,
    b,
    cross,
    exact,
    noisy,
    people,
)
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.estimate import estimate_counts
from twinweave.analysis.lift.match import match_rates
from twinweave.analysis.lift.results import LiftReport, MatchState, Verdict
from twinweave.errors import ConfigError
from twinweave.parsing import to_plain
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf, check_lift
from twinweave.workload.queries import cells_of

Users = dict[str, NDArray[Any]]


def report_of(
    users: Users,
    *,
    sd: float = 1e-3,
    seed: int = 0,
    schema: JointSchema = SCHEMA,
    conf: LiftConf = CONF,
) -> LiftReport:
    rng = np.random.default_rng(seed)
    return analyse(schema, [noisy(q, exact(users, q), sd, rng) for q in WORKLOAD], conf)


def arms(users: Users) -> list[NDArray[np.bool_]]:
    return [users["at_a"] & np.isin(users["arm"], arm) for arm in ((0, 2), (1,))]


def with_bounds(low: float, high: float) -> JointSchema:
    first, second = SCHEMA.schemas
    spend = replace(second.column("spend"), bounds=(low, high))
    columns = tuple(spend if c.name == "spend" else c for c in second.columns)
    return replace(SCHEMA, schemas=(first, replace(second, columns=columns)))


@pytest.mark.parametrize("bounds", [(-50.0, 150.0), (10.0, 210.0), (0.0, 200.0), (-90.0, -10.0)])
def test_an_absent_user_has_0_whatever_the_bounds(bounds: tuple[float, float]) -> None:
    users = people(3000, np.random.default_rng(5))
    low, high = bounds
    found = report_of(users, schema=with_bounds(*bounds)).values[0]
    held = low + users["spend"] * (high - low) / VALUE_UNITS
    amounts = np.where(users["at_b"], held, 0.0)
    means = [amounts[arm].mean() for arm in arms(users)]
    assert found.overall is not None
    assert found.overall.test.rate == pytest.approx(means[0], abs=1e-3)
    assert found.overall.absolute.value == pytest.approx(means[0] - means[1], abs=1e-3)
    error = np.sqrt(sum(amounts[arm].var() / arm.sum() for arm in arms(users)))
    # Amounts are taken for uniform within a bin, and dithered by up to half a unit.
    assert found.overall.sampling_error == pytest.approx(error, rel=0.025)
    assert found.matched is not None
    both = [held[arm & users["at_b"]].mean() for arm in arms(users)]
    assert found.matched.absolute.value == pytest.approx(both[0] - both[1], abs=1e-3)


def test_noise_of_a_mean_with_absent_users_is_what_is_said() -> None:
    """400 draws of the noise: its deviation is known to 3.5 %, five times that is chance 1e-6."""
    users = people(3000, np.random.default_rng(5))
    schema, rng = with_bounds(-50.0, 150.0), np.random.default_rng(3)
    clear = [(q, exact(users, q)) for q in WORKLOAD]
    drawn, said = [], 0.0
    for _ in range(400):
        found = analyse(schema, [noisy(q, t, 5.0, rng) for q, t in clear], CONF).values[0].overall
        assert found is not None
        drawn.append(found.absolute.value)
        said = found.noise_sd
    assert np.std(drawn) == pytest.approx(said, rel=0.18)


def test_the_share_matched_by_arm_and_the_lift_among_matched() -> None:
    users = people(3000, np.random.default_rng(5))
    report = report_of(users, sd=3.0)
    (match,) = report.match_rates
    assert match.party == "b"
    for arm, found in zip(arms(users), match.arms.values(), strict=True):
        assert found.covers(users["at_b"][arm].mean())
    assert match.state is MatchState.BALANCED
    matched = report.conversions[0].matched
    assert matched is not None
    rates = [users["bought"][arm & users["at_b"]].mean() for arm in arms(users)]
    assert matched.absolute.value == pytest.approx(rates[0] - rates[1], abs=0.02)
    assert report.conversions[0].doubts == ()


def test_arms_that_are_not_matched_alike_get_no_verdict() -> None:
    """The other party holds 75 % of control and 55 % of test: a harm that is none."""
    rng = np.random.default_rng(6)
    users = people(6000, rng)
    test = np.isin(users["arm"], (0, 2))
    users["at_a"] = np.ones(6000, dtype=bool)
    users["at_b"] = rng.random(6000) < np.where(test, 0.55, 0.75)
    report = report_of(users, sd=3.0)
    assert report.match_rates[0].state is MatchState.UNBALANCED
    (outcome,), (value,) = report.conversions, report.values
    assert outcome.overall is not None
    assert value.overall is not None
    assert outcome.overall.verdict is value.overall.verdict is Verdict.REFUSED
    assert {c.verdict for c in outcome.breakdowns[0].cells} == {Verdict.REFUSED}
    assert outcome.doubts == value.doubts == ("b does not hold both arms alike",)
    json.dumps(to_plain(report), allow_nan=False)


def test_an_arm_that_is_not_shown_takes_no_doubt_off_the_others() -> None:
    """A third arm of three users, and the others matched unequally: still no verdict."""
    rng = np.random.default_rng(6)
    users = people(6000, rng)
    users["arm"] = np.where(users["arm"] == 2, 0, users["arm"])
    users["arm"][:3] = 2
    users["at_a"] = np.ones(6000, dtype=bool)
    users["at_b"] = rng.random(6000) < np.where(users["arm"] == 0, 0.55, 0.75)
    conf = replace(CONF, test=(), arms={"mail": ("t1",), "tiny": ("t2",)})
    tables = [noisy(q, exact(users, q), 1.0, rng) for q in WORKLOAD]
    report = analyse(SCHEMA, tables, conf)
    assert report.hidden == ("tiny",)
    assert report.match_rates[0].state is MatchState.UNBALANCED
    overall = report.conversions[0].overall
    assert overall is not None
    assert overall.verdict is Verdict.REFUSED


def test_ids_that_never_match_are_said() -> None:
    users = people(3000, np.random.default_rng(7))
    users["at_b"] = ~users["at_a"]
    report = report_of(users, sd=3.0)
    assert report.match_rates[0].arms["test"].interval[1] < 0.02
    assert report.match_rates[0].state is MatchState.HARDLY_ANY
    (outcome,) = report.conversions
    assert outcome.overall is not None
    assert outcome.overall.verdict is Verdict.REFUSED
    assert outcome.matched is None


HELD = cross(a("arm"), b())


def test_a_balanced_match_is_seldom_called_unbalanced() -> None:
    """1000 experiments at p < 0.001: more than 6 have probability 1e-4."""
    rng = np.random.default_rng(8)
    conf, called = replace(CONF, test=("t1",)), 0
    for _ in range(1000):
        n = rng.binomial(2000, 0.5)
        held = rng.binomial([n, 2000 - n], 0.6)
        table = np.zeros(cells_of(SCHEMA, HELD).shape)
        table[0], table[1] = [held[0], n - held[0]], [held[1], 2000 - n - held[1]]
        counts = estimate_counts(SCHEMA, conf, [noisy(HELD, table, 5.0, rng)])
        assert counts is not None
        called += match_rates(SCHEMA, conf, counts)[0].state is not MatchState.BALANCED
    assert called <= 6


def buyers_alone(users: Users) -> Users:
    """The other party's table without whoever did not buy."""
    return users | {"at_b": users["at_b"] & (users["bought"] == 1)}


def test_buyers_alone_get_a_verdict_where_that_is_declared() -> None:
    """Their share matched is their conversion rate, so that a lift unbalances it."""
    users = buyers_alone(people(6000, np.random.default_rng(9)))
    silent = report_of(users, sd=3.0)
    told = report_of(users, sd=3.0, conf=replace(CONF, holds={"b": "converters"}))
    assert told.match_rates[0].state is MatchState.CONVERTERS
    assert silent.match_rates[0].state is MatchState.UNDECLARED
    (declared,), (undeclared,) = told.conversions, silent.conversions
    assert declared.overall is not None
    assert undeclared.overall is not None
    assert declared.overall.verdict is told.values[0].overall.verdict is Verdict.LIFT
    assert undeclared.overall.verdict is silent.values[0].overall.verdict is Verdict.REFUSED
    assert "`lift.holds`" in undeclared.doubts[0]
    assert declared.overall.absolute == undeclared.overall.absolute
    assert declared.matched is told.values[0].matched is None


def test_a_wrong_declaration_is_said_and_not_followed() -> None:
    rng = np.random.default_rng(6)
    users = people(6000, rng)
    test = np.isin(users["arm"], (0, 2))
    users["at_b"] = rng.random(6000) < np.where(test, 0.55, 0.75)
    report = report_of(users, sd=3.0, conf=replace(CONF, holds={"b": "converters"}))
    assert report.match_rates[0].state is MatchState.UNBALANCED
    assert any("Correct the declaration" in note for note in report.notes)


def test_everyone_may_have_converted_where_that_is_declared() -> None:
    """All of the matched visited, in a table of everyone."""
    users = people(6000, np.random.default_rng(9))
    users["bought"] = np.ones(6000, dtype=int)
    silent = report_of(users, sd=3.0)
    told = report_of(users, sd=3.0, conf=replace(CONF, holds={"b": "everyone"}))
    assert silent.match_rates[0].state is MatchState.UNDECLARED
    assert told.match_rates[0].state is MatchState.BALANCED


@pytest.mark.parametrize("holds", [{"a": "everyone"}, {"nobody": "converters"}])
def test_a_declaration_of_no_outcomes_party_is_refused(holds: Any) -> None:
    with pytest.raises(ConfigError, match="Name one of: b"):
        check_lift(SCHEMA, replace(CONF, holds=holds))
