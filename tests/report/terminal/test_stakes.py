"""Money, decisions and what would decide the rest, in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.lift.lift_world import CONF, SCHEMA, WORKLOAD, counted, noisy, people
from tests.report.facts import FACTS
from twinweave.analysis.lift.conclusions import conclude
from twinweave.analysis.lift.results import CostPerConversion, LiftReport, Needed
from twinweave.report.contents import Contents
from twinweave.report.record import report_record
from twinweave.report.terminal.needed import needed_text
from twinweave.report.terminal.stakes import cost_text
from twinweave.report.terminal.summary import summary
from twinweave.report.terminal.text import WIDTH
from twinweave.workload.decisions import DecisionConf, MoneyConf

STAKES = replace(
    CONF,
    money=MoneyConf(cost=4_000.0, value=30.0, currency="EUR"),
    decisions=(
        DecisionConf(metric="lift", outcome="bought", at=0.01),
        DecisionConf(metric="relative", outcome="spend", at=5.0),
        DecisionConf(metric="icpa", at=70.0),
        DecisionConf(metric="iroas", at=0.5),
    ),
)


@pytest.fixture(scope="module")
def report() -> LiftReport:
    rng = np.random.default_rng(2)
    users = people(3000, rng)
    tables = [noisy(q, counted(users, q), 3.0, rng) for q in WORKLOAD]
    return conclude(SCHEMA, tables, STAKES, epsilon=1.0, delta=1e-5)


def test_money_and_decisions_are_in_the_summary_and_the_record(report: LiftReport) -> None:
    text = summary(Contents(facts=FACTS, lift=report))
    flat = " ".join(text.split())
    for part in (
        "money (test)",
        "cost of one more bought",
        "incremental return on cost",
        "incremental profit",
        "Cost 4,000 EUR; revenue by value per conversion.",
        "bought: lift ≥ +1.0 pp (test): ",
        "spend: relative lift ≥ +500.0 % (test): REJECTED",
        "cost of one more bought ≤ 70.00 (test): ",
        "incremental return on cost ≥ 0.50 (test): ",
        "98.75% interval",
        "of all 4 decisions hold together with 95% (Bonferroni)",
    ):
        assert part in flat, part
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    plain = report_record(Contents(facts=FACTS, lift=report))["lift"]
    assert [d["metric"] for d in plain["decisions"]] == ["lift", "relative", "icpa", "iroas"]
    assert plain["money"][0]["icpa"]["value"] == report.money[0].icpa.value


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (CostPerConversion(value=20, low=12, high=40, none_possible=False), "12.00 to 40.00"),
        (
            CostPerConversion(value=75, low=30, high=None, none_possible=True),
            "30.00 or more, or no effect",
        ),
        (CostPerConversion(value=None, low=None, high=None, none_possible=True), "no effect"),
    ],
)
def test_a_cost_in_words(found: CostPerConversion, text: str) -> None:
    assert cost_text(found) == text


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            Needed(size=0.1, epsilon=2.31, users=27_400, times=1.83, sampling_alone=False),
            "about epsilon 2.3 would with these users; at this epsilon about 27,000 users in the "
            "two arms would, 1.8 times as many.",
        ),
        (
            Needed(size=0.1, epsilon=None, users=27_400, times=1.83, sampling_alone=True),
            "no epsilon would, sampling alone hides it; at this epsilon about 27,000 users in "
            "the two arms would, 1.8 times as many.",
        ),
        (
            Needed(size=0.1, epsilon=None, users=None, times=None, sampling_alone=False),
            "no epsilon up to 20 would with these users; at this epsilon not even a thousand "
            "times the users would.",
        ),
    ],
)
def test_what_would_decide_it_in_a_sentence(found: Needed, text: str) -> None:
    assert needed_text(found) == text
