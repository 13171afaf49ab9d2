"""What hangs on an experiment is checked against it: arms, outcomes, thresholds."""

from __future__ import annotations

from typing import Any

import pytest

from twinweave.errors import ConfigError
from twinweave.parsing import parse
from twinweave.workload.analyses import LiftConf

LIFT: dict[str, Any] = {
    "membership": "arm",
    "test": ["t"],
    "control": ["c"],
    "conversions": ["bought", "visited"],
    "values": ["spend"],
    "k": 10,
}
MONEY = {"cost": 4000, "value": 30}


def parsed(**changes: Any) -> LiftConf:
    return parse(LiftConf, LIFT | changes, where="lift")


@pytest.mark.parametrize(
    ("money", "told"),
    [
        ({"cost": 0}, "cost.*must be positive"),
        ({"cost": float("inf")}, "cost.*must be positive"),
        ({"cost": {"other": 5}}, "not that of every test arm"),
        ({"cost": {"test": 5, "other": 5}}, "not that of every test arm"),
        (MONEY | {"outcome": "spend"}, "'spend' is no conversion"),
        (MONEY | {"value": "bought"}, "'bought' is no value column"),
        (MONEY | {"value": -1}, "value.*must be positive"),
        (MONEY | {"currency": "a\nb"}, "currency"),
        (MONEY | {"margin": 0.3}, "unknown key"),
        ({"value": 3}, "cost"),
    ],
)
def test_money_that_does_not_fit_is_refused(money: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parsed(money=money)


def test_money_needs_something_to_be_paid_for() -> None:
    with pytest.raises(ConfigError, match="no conversion to pay for"):
        parsed(conversions=[], money=MONEY)
    assert parsed(conversions=[], money={"cost": 1, "value": "spend"}).money


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        ({"metric": "lift", "at": 0.01}, "outcome.*needs one"),
        ({"metric": "lift", "at": 0.01, "outcome": "clicks"}, "'clicks' is no outcome"),
        ({"metric": "lift", "at": float("nan"), "outcome": "bought"}, "no threshold"),
        ({"metric": "relative", "at": -1, "outcome": "bought"}, "no threshold"),
        ({"metric": "icpa", "at": 0}, "no threshold"),
        ({"metric": "icpa", "at": 9, "outcome": "bought"}, "takes what lift.money names"),
        ({"metric": "lift", "at": 0, "outcome": "bought", "arm": "other"}, "names no test arm"),
        ({"metric": "profit", "at": 0}, "metric"),
    ],
)
def test_a_decision_that_does_not_fit_is_refused(decision: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parsed(money=MONEY, decisions=[decision])


def test_a_decision_needs_the_money_it_is_about() -> None:
    with pytest.raises(ConfigError, match=r"needs lift\.money with cost"):
        parsed(decisions=[{"metric": "icpa", "at": 9}])
    with pytest.raises(ConfigError, match=r"needs lift\.money with cost and value"):
        parsed(money={"cost": 4000}, decisions=[{"metric": "iroas", "at": 1}])
    with pytest.raises(ConfigError, match="repeat"):
        parsed(money=MONEY, decisions=[{"metric": "iroas", "at": 1}] * 2)
    assert parsed(money=MONEY, decisions=[{"metric": "iroas", "at": 1}]).decisions
