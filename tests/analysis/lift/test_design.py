"""What a plan foresees is what its run finds: the noise of its report, and the power."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.analysis.lift import lift_world
from tests.analysis.lift.two_parties import (
    CONF,
    CROSS,
    SCHEMA,
    SIZES,
    SPENT,
    Scenario,
    finding,
    priority_sigma,
    replicate,
)
from tests.statistics import p_between, plausible
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.design import Assumed, Foreseen, foresee
from twinweave.analysis.lift.intervals import quantile
from twinweave.analysis.lift.results import Verdict
from twinweave.privacy.events import Stage
from twinweave.privacy.noise import SPARE_COINS, DealtCoins, OwnGaussian
from twinweave.tables.column import VALUE_UNITS
from twinweave.workload.measurement import Measurement
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query

SIGMA = priority_sigma(1.0)
COINS = round(4 * SIGMA**2)
TABLES = (
    PlannedQuery(query=CROSS, stage=Stage.MEASUREMENT, noise=DealtCoins(coins=COINS - SPARE_COINS)),
    PlannedQuery(query=SIZES, stage=Stage.MEASUREMENT, noise=OwnGaussian(noise_multiplier=SIGMA)),
)
N, BASE, RUNS = 7_000, 0.06, 300


def foreseen(*tables: PlannedQuery) -> Foreseen:
    assumed = Assumed(
        users={"test": N, "control": N},
        rates={"converted": (BASE,)},
        amounts={"spend": (2.0, 15.0)},
    )
    return foresee(SCHEMA, CONF, tables, assumed)[-1]


def test_the_smallest_lift_is_found_in_four_runs_of_five() -> None:
    """300 experiments with just that lift; accepted: hits that a power between .76 and .83 makes
    1e-6 likely. At two thirds of it the power is below .5, and the test sees it."""
    size = foreseen(*TABLES).smallest
    assert plausible(p_between(found_of(size), RUNS, 0.76, 0.83), 1e-6)
    assert not plausible(p_between(found_of(size * 2 / 3), RUNS, 0.76, 0.83), 1e-6)


def found_of(lift: float) -> int:
    scenario, rng = (
        Scenario(name="x", n=(N, N), rates=(BASE, BASE + lift)),
        np.random.default_rng(3),
    )
    found = (finding(scenario, replicate(scenario, SIGMA, rng)) for _ in range(RUNS))
    return sum(f is not None and f.verdict is Verdict.LIFT for f in found)


def test_users_and_lift_of_a_plan_agree() -> None:
    now: Any = foreseen(*TABLES)
    times = now.times_for_ratio(now.noise_ratio / 2)
    assert times == pytest.approx(4)
    assert now.times_for_lift(now.smallest) == pytest.approx(1)
    assert now.smallest_without_noise < now.smallest


def test_the_noise_is_that_of_the_report() -> None:
    """Of conversions, over all users and by level, and of a value: from the same tables, drawn
    without noise, but said to have the planned one."""
    queries = (*lift_world.WORKLOAD[:3], lift_world.WORKLOAD[4])
    tables = [planned(q, 5.0 + i) for i, q in enumerate(queries)]
    users = lift_world.people(30_000, np.random.default_rng(5))
    conf = replace(lift_world.CONF, level=0.9)
    report = analyse(
        lift_world.SCHEMA,
        [
            Measurement(
                query=t.query, values=lift_world.counted(users, t.query), variance=t.variance
            )
            for t in tables
        ],
        conf,
    )
    overall, value = report.conversions[0].overall, report.values[0].overall
    base = (overall.test.rate + overall.control.rate) / 2
    assumed = Assumed(
        users={"test": overall.test.n, "control": overall.control.n},
        rates={"bought": (base,)},
        amounts={"spend": (value.control.rate, 15.0)},
    )
    found, spent, level = foresee(lift_world.SCHEMA, conf, tables, assumed)
    assert found.noise_sd == pytest.approx(overall.noise_sd, rel=0.01)
    assert found.sampling_error == pytest.approx(overall.sampling_error, rel=0.05)
    # Two outcomes are corrected for, in the plan and in the report.
    assert found.quantiles == pytest.approx(overall.mde / overall.standard_error)
    assert found.quantiles > quantile(conf.level) + 0.8416
    assert spent.noise_sd == pytest.approx(value.noise_sd, rel=0.01)
    # Of three levels one is nearly empty, so that the two have half of the users, not a third.
    cell = report.conversions[0].breakdowns[0].cells[0].comparison
    share = cell.test.n / (overall.test.n / 3)
    assert (level.column, level.levels) == ("region", 3)
    assert level.noise_sd / share == pytest.approx(cell.noise_sd, rel=0.02)


def planned(query: Query, sigma: float) -> PlannedQuery:
    sensitivity = VALUE_UNITS if query.weight else 1
    noise = OwnGaussian(noise_multiplier=sigma, sensitivity=sensitivity)
    return PlannedQuery(query=query, stage=Stage.MEASUREMENT, noise=noise)


def test_of_a_value_of_which_nothing_is_stated_the_noise_alone_is_told() -> None:
    assumed = Assumed(users={"test": N, "control": N}, rates={"converted": (BASE,)}, amounts={})
    found = foresee(SCHEMA, CONF, (*TABLES, planned(SPENT, SIGMA)), assumed)[-1]
    assert found.outcome == "spend"
    assert found.noise_ratio is found.sampling_error is found.smallest_without_noise is None
    assert found.smallest == pytest.approx(found.quantiles * found.noise_sd)
    assert found.times_for_ratio(0.5) is found.times_for_lift(1.0) is None
