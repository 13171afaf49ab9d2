"""Decisions: certified and rejected are seldom wrong, and what would resolve them is what does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.analysis.lift.two_parties import CONF, SCENARIOS, SCHEMA, priority_sigma, replicate
from tests.statistics import p_between, plausible
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.conclusions import conclude
from twinweave.analysis.lift.decision import decide, for_decisions
from twinweave.analysis.lift.results import Decision, LiftReport, Ruling, Verdict
from twinweave.report.terminal.stakes import stakes_section
from twinweave.workload.analyses import LiftConf
from twinweave.workload.decisions import DecisionConf, MoneyConf

CAMPAIGN = next(s for s in SCENARIOS if s.name == "campaign")
LIFT = CAMPAIGN.rates[1] - CAMPAIGN.rates[0]
GAINED = LIFT * CAMPAIGN.n[1]
MONEY = MoneyConf(cost=3_000.0, value=20.0)
SIGMA = priority_sigma(1.0)


def conf(*decisions: DecisionConf, **changes: Any) -> LiftConf:
    return replace(CONF, money=MONEY, decisions=decisions, **changes)


def report(conf: LiftConf, rng: np.random.Generator) -> LiftReport:
    return conclude(SCHEMA, replicate(CAMPAIGN, SIGMA, rng), conf, epsilon=1.0, delta=1e-5)


def at(metric: Any, where: float) -> DecisionConf:
    outcome = "converted" if metric in ("lift", "relative") else None
    return DecisionConf(metric=metric, at=where, outcome=outcome)


TRUE = {
    "lift": LIFT,
    "relative": CAMPAIGN.rates[1] / CAMPAIGN.rates[0] - 1,
    "icpa": MONEY.cost_of("test") / GAINED,
    "iroas": 20.0 * GAINED / MONEY.cost_of("test"),
}


@pytest.mark.parametrize("metric", list(TRUE))
def test_thresholds_far_off_are_certified_or_rejected(metric: str) -> None:
    """By each metric, at a third and three times the truth; more of a cost is worse."""
    good, bad = (TRUE[metric] * x for x in ((3, 1 / 3) if metric == "icpa" else (1 / 3, 3)))
    found = report(conf(at(metric, good), at(metric, bad)), np.random.default_rng(5)).decisions
    assert [d.ruling for d in found] == [Ruling.CERTIFIED, Ruling.REJECTED]
    assert {d.level for d in found} == {0.975}
    assert all(d.needed is None for d in found)


def test_rulings_at_the_truth_are_as_seldom_as_the_level_says() -> None:
    """300 replicates: with the threshold at the truth either ruling is an error: each decision's
    share is 5 % alone, and that of all four together, at their joint level, no more."""
    four = conf(*(at(metric, where) for metric, where in TRUE.items()))
    alone = [conf(decision) for decision in four.decisions]
    assert for_decisions(four).level == pytest.approx(0.9875)
    rng, single, joint = np.random.default_rng(41), np.zeros(4), 0
    for _ in range(300):
        tables = replicate(CAMPAIGN, SIGMA, rng)
        at_own, at_joint = (analyse(SCHEMA, tables, for_decisions(one)) for one in (alone[0], four))
        single += [ruled(at_own, one) for one in alone]
        joint += ruled(at_joint, four)
    for wrong in single:
        assert plausible(p_between(300 - int(wrong), 300, 0.94, 0.965), 1e-6)
    assert plausible(p_between(300 - joint, 300, 0.94, 1.0), 1e-6)
    # Decided one by one, the four would be wrong more often than that together.
    assert joint < single.max()


def ruled(report: LiftReport, conf: LiftConf) -> bool:
    """Whether any decision is certified or rejected."""
    found = decide(report, conf, epsilon=1.0, delta=1e-5)
    return any(d.ruling is not Ruling.UNRESOLVED for d in found)


def test_no_ruling_where_the_lift_is_in_doubt() -> None:
    rng = np.random.default_rng(5)
    (found,) = report(conf(at("lift", 0.001), ratio=2.0), rng).decisions
    assert found.ruling is Ruling.UNRESOLVED
    assert found.needed is None
    assert "`lift.ratio`" in found.doubts[0]


@pytest.mark.parametrize("metric", list(TRUE))
def test_a_decision_about_an_arm_that_is_not_shown_says_so(metric: str) -> None:
    found = report(conf(at(metric, 0.001), k=10**6), np.random.default_rng(5))
    (decision,) = found.decisions
    assert (decision.ruling, decision.value, decision.intervals) == (Ruling.UNRESOLVED, None, ())
    assert decision.doubts == ("test and control too small to show, or lost in the noise",)
    assert "no ruling: test and control" in " ".join(" ".join(stakes_section(found)).split())


def test_what_would_resolve_it_counts_from_the_threshold() -> None:
    """Half as far from the estimate: four times the users, or less where noise is part of it."""

    def users(where: float) -> float:
        (found,) = report(conf(at("lift", where)), np.random.default_rng(5)).decisions
        assert isinstance(found, Decision)
        assert found.ruling is Ruling.UNRESOLVED
        assert found.needed.users is not None
        return found.needed.users

    estimate = report(conf(), np.random.default_rng(5)).conversions[0].overall.absolute.value
    assert 3 < users(estimate - 0.001) / users(estimate - 0.002) < 4


def test_an_inconclusive_comparison_says_what_would_decide_it() -> None:
    rng, seen = np.random.default_rng(7), 0
    weak = replace(CAMPAIGN, rates=(0.06, 0.064))
    for _ in range(10):
        tables = replicate(weak, SIGMA, rng)
        found = conclude(SCHEMA, tables, CONF, epsilon=1.0, delta=1e-5).conversions[0].overall
        assert (found.needed is not None) == (found.verdict is Verdict.INCONCLUSIVE)
        if found.needed is not None:
            seen += 1
            assert found.needed.size == abs(found.absolute.value)
    assert seen > 2
