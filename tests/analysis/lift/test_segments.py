"""Several arms, and segments at either side, against a count in the clear."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.analysis.lift.lift_world import SCHEMA, counted, noisy, people
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.estimate import estimate_counts, planned_counts
from twinweave.analysis.lift.results import Breakdown, Comparison, LiftReport
from twinweave.errors import ConfigError
from twinweave.privacy.events import Stage
from twinweave.privacy.noise import OwnGaussian
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import Analyses, LiftConf, check_lift
from twinweave.workload.measurement import Measurement
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.priority import priority_tables

USERS = people(20_000, np.random.default_rng(5))
ARMS: dict[str, tuple[str, ...]] = {"first": ("t1",), "second": ("t2",)}
CONF = LiftConf(
    membership="arm",
    arms=ARMS,
    control=("c",),
    conversions=("bought", "visited"),
    values=("spend",),
    breakdowns=("region", "channel"),
    k=20,
    ratio={"first": 25 / 35, "second": 15 / 35},
)
CODES = {"first": 0, "control": 1, "second": 2}
PAIRS = [("first", "control"), ("second", "control"), ("first", "second")]


def report(conf: LiftConf, sd: float = 1e-3) -> LiftReport:
    rng = np.random.default_rng(0)
    queries = priority_tables(Analyses(schema=SCHEMA, lift=conf))
    return analyse(SCHEMA, [noisy(q, counted(USERS, q), sd, rng) for q in queries], conf)


@pytest.fixture(scope="module")
def exact() -> LiftReport:
    return report(CONF)


def test_every_two_arms_are_compared_by_every_outcome(exact: LiftReport) -> None:
    assert [(c.conversion, c.arm, c.against) for c in exact.conversions] == [
        (name, *pair) for name in ("bought", "visited") for pair in PAIRS
    ]
    assert [(v.arm, v.against) for v in exact.values] == PAIRS
    for outcome in exact.conversions:
        one, other = (USERS["at_a"] & (USERS["arm"] == CODES[a]) for a in outcome_arms(outcome))
        has = USERS["at_b"] & (USERS[outcome.conversion] == 1)
        assert outcome.overall is not None
        lift = has[one].mean() - has[other].mean()
        assert outcome.overall.absolute.value == pytest.approx(lift, abs=1e-4)


def outcome_arms(outcome: Any) -> tuple[str, str]:
    return outcome.arm, outcome.against


def cells(found: Breakdown) -> Iterator[tuple[int, Comparison]]:
    for code, cell in enumerate(found.cells):
        if cell.comparison is not None:
            yield code, cell.comparison


@pytest.mark.parametrize(("column", "among"), [("region", None), ("channel", "b")])
def test_levels_at_either_side_are_those_of_the_joined_table(
    exact: LiftReport, column: str, among: str | None
) -> None:
    """Everyone of the arms by the membership's own columns, matched users by the others."""
    amounts = np.where(USERS["at_b"], USERS["spend"], 0) * 200 / VALUE_UNITS
    outcomes: list[tuple[Any, NDArray[Any]]] = [
        (c, USERS["at_b"] & (USERS[c.conversion] == 1)) for c in exact.conversions
    ]
    outcomes += [(v, amounts) for v in exact.values]
    for outcome, has in outcomes:
        found = next(b for b in outcome.breakdowns if b.column == column)
        assert found.among == among
        told = list(cells(found))
        assert len(told) == 2
        for code, comparison in told:
            at = USERS["at_a"] & (USERS[column] == code) & (USERS["at_b"] if among else True)
            means = [has[at & (USERS["arm"] == CODES[a])].mean() for a in outcome_arms(outcome)]
            assert comparison.test.rate == pytest.approx(means[0], abs=1e-3)
            assert comparison.absolute.value == pytest.approx(means[0] - means[1], abs=1e-3)


def test_what_is_planned_has_the_noise_of_the_report() -> None:
    queries = priority_tables(Analyses(schema=SCHEMA, lift=CONF))
    plan = [
        PlannedQuery(
            query=q,
            stage=Stage.MEASUREMENT,
            noise=OwnGaussian(noise_multiplier=3.0 + i, sensitivity=VALUE_UNITS if q.weight else 1),
        )
        for i, q in enumerate(queries)
    ]
    planned = planned_counts(SCHEMA, CONF, plan)
    tables = [
        Measurement(query=p.query, values=counted(USERS, p.query), variance=p.variance)
        for p in plan
    ]
    measured = estimate_counts(SCHEMA, CONF, tables)
    assert planned is not None
    assert measured is not None
    for segment in ({}, {"region": 1}, {"channel": 0}):
        before, after = (c.rate("second", "bought", segment=segment) for c in (planned, measured))
        assert before == replace(after, n=before.n, total=before.total)
        assert before.n == before.total == 0


def test_an_arm_that_is_too_small_hides_its_own_comparisons_alone() -> None:
    found = report(replace(CONF, k=2500))
    assert found.hidden == ("second",)
    shown = [(c.arm, c.against) for c in found.conversions if c.overall is not None]
    assert shown == [("first", "control")] * 2


def test_sizes_of_several_arms_are_held_to_their_ratios() -> None:
    def suspicious(ratio: Any) -> bool:
        found = report(replace(CONF, ratio=ratio), sd=5.0).sample_ratio
        return found is not None and found.suspicious

    assert not suspicious({"first": 25 / 35, "second": 15 / 35})
    assert suspicious({"first": 25 / 35, "second": 25 / 35})
    assert suspicious(1.0)


THIRD = replace(
    SCHEMA,
    schemas=(
        *SCHEMA.schemas,
        replace(
            SCHEMA.schemas[1],
            party="c",
            columns=(
                SCHEMA.schemas[1].key,
                replace(SCHEMA.column("region"), name="plan"),
            ),
        ),
    ),
)


@pytest.mark.parametrize(
    ("schema", "wrong", "says"),
    [
        (SCHEMA, {"breakdowns": ("arm",)}, "the membership or an outcome"),
        (SCHEMA, {"breakdowns": ("spend",)}, "the membership or an outcome"),
        (THIRD, {"breakdowns": ("plan",)}, "no two parties hold"),
        (SCHEMA, {"test": ("t1",)}, "either `test` or `arms`"),
        (SCHEMA, {"arms": {}}, "either `test` or `arms`"),
        (SCHEMA, {"arms": {"control": ("t1",)}}, "that of the control"),
        (SCHEMA, {"arms": {"one": ("t1",), "two": ("t1",)}}, "levels of their own"),
        (SCHEMA, {"arms": {"one": ("t1",), "two": ()}}, "levels of their own"),
        (SCHEMA, {"ratio": {"first": 1.0}}, "names other arms"),
        (SCHEMA, {"ratio": {"first": 1.0, "second": 0.0}}, "positive"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    schema: JointSchema, wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        check_lift(schema, replace(CONF, **wrong))
