"""Cost of an incremental conversion and return on cost: known figures, and coverage by brute force.

300 replicates; accepted as in test_coverage.py: a right build fails below 1e-6 a scenario.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import inf
from typing import Any

import numpy as np
import pytest

from tests.analysis.lift.two_parties import (
    CONF,
    SCENARIOS,
    SCHEMA,
    Scenario,
    priority_sigma,
    replicate,
    truth,
)
from tests.statistics import p_between, plausible
from twinweave.analysis.finding import Finding
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.money import money_of
from twinweave.analysis.lift.results import CostPerConversion, LiftReport
from twinweave.workload.decisions import MoneyConf

REPLICATES, LEVEL = 300, 1e-6
SPEND = next(s for s in SCENARIOS if s.spend)
COST, EACH = 3_000.0, 20.0
PAID = replace(CONF, money=MoneyConf(cost=COST, value=EACH))
EARNED = replace(CONF, money=MoneyConf(cost=COST, value="spend"))
NULL = Scenario(name="no effect", n=(7_000, 7_000), rates=(0.06, 0.06))


def acceptable(hits: int) -> bool:
    return plausible(p_between(hits, REPLICATES, 0.94, 0.965), LEVEL)


@cache
def earned(scenario: Scenario, noise: float = 1.0) -> list[tuple[LiftReport, Any, Any]]:
    """Reports at epsilon 1, with money by a value of each conversion, and by the value column.

    noise: factor on the variance that the analysis is told.
    """
    rng, sigma = np.random.default_rng(31), priority_sigma(1.0)
    found = []
    for _ in range(REPLICATES):
        tables = replicate(scenario, sigma, rng)
        told = [replace(m, variance=m.variance * noise) for m in tables]
        report = analyse(SCHEMA, told, CONF)
        (paid,), (by_column,) = (money_of(report, conf) for conf in (PAID, EARNED))
        found.append((report, paid, by_column))
    return found


def holds(found: CostPerConversion, cost: float) -> bool:
    """Whether the set has this cost in it; an infinite one is no effect."""
    if cost == inf:
        return found.none_possible
    return found.low is not None and found.low <= cost <= (found.high or inf)


@pytest.mark.parametrize("scenario", [SPEND, NULL], ids=lambda s: s.name)
def test_costs_and_returns_cover_the_truth(scenario: Scenario) -> None:
    """All are images of one interval, whether or not it holds 0."""
    gained = (scenario.rates[1] - scenario.rates[0]) * scenario.n[1]
    cost = COST / gained if gained > 0 else inf
    paid = [money for _, money, _ in earned(scenario)]
    assert acceptable(sum(holds(m.icpa, cost) for m in paid))
    assert acceptable(sum(m.iroas.covers(EACH * gained / COST) for m in paid))
    assert acceptable(sum(m.profit.covers(EACH * gained - COST) for m in paid))


def test_a_return_by_a_value_column_covers_the_truth() -> None:
    returned = truth(SPEND) * SPEND.n[1] / COST
    assert acceptable(sum(money.iroas.covers(returned) for _, _, money in earned(SPEND)))


def test_without_the_noise_or_with_a_symmetric_interval_the_test_sees_it() -> None:
    """Noise left out of the variance; and cost / incremental -+ z errors, as is often done, which
    says little where the incremental may be 0."""
    gained = (SPEND.rates[1] - SPEND.rates[0]) * SPEND.n[1]
    told = [money for _, money, _ in earned(SPEND, noise=1e-6)]
    assert not acceptable(sum(m.iroas.covers(EACH * gained / COST) for m in told))
    hits = 0
    for report, *_ in earned(NULL):
        found: Any = report.conversions[0].overall
        cost = COST / found.incremental.value
        half = abs(cost) * 1.96 * found.standard_error / abs(found.absolute.value)
        hits += inf in (cost - half, cost + half)
    assert not acceptable(hits)


def one(incremental: Finding) -> Any:
    """Money of a report whose only comparison has these incremental conversions."""
    report = analyse(SCHEMA, replicate(NULL, 1.0, np.random.default_rng(1)), PAID)
    (entry, *_) = report.conversions
    overall: Any = entry.overall
    changed = replace(entry, overall=replace(overall, incremental=incremental))
    return money_of(replace(report, conversions=(changed,)), PAID)[0]


def test_known_figures() -> None:
    found = one(Finding(value=120, interval=(75, 250)))
    icpa = found.icpa
    assert (icpa.value, icpa.low, icpa.high, icpa.none_possible) == (25, 12, 40, False)
    assert (found.iroas.value, *found.iroas.interval) == pytest.approx((0.8, 0.5, 5 / 3))
    assert (found.profit.value, *found.profit.interval) == pytest.approx((-600, -1500, 2000))


def test_a_cost_has_no_upper_end_where_there_may_be_no_effect() -> None:
    icpa = one(Finding(value=40, interval=(-20, 100))).icpa
    assert (icpa.value, icpa.low, icpa.high, icpa.none_possible) == (75, 30, None, True)
    icpa = one(Finding(value=-40, interval=(-70, -10))).icpa
    assert (icpa.value, icpa.low, icpa.high, icpa.none_possible) == (None, None, None, True)


def test_what_is_not_shown_earns_nothing() -> None:
    tables = replicate(NULL, 1.0, np.random.default_rng(1))
    hidden = replace(PAID, k=10**6)
    assert money_of(analyse(SCHEMA, tables, hidden), hidden) == ()
    assert money_of(analyse(SCHEMA, tables, CONF), CONF) == ()
