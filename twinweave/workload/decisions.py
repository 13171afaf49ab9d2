"""What hangs on an experiment: money spent and earned, and the thresholds of decisions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

from twinweave.errors import ConfigError
from twinweave.parsing import Parsed, check_positive

Metric = Literal["lift", "relative", "icpa", "iroas"]
"""Absolute lift; lift as a share of the control's rate; cost of an incremental conversion;
incremental value for each unit of cost."""


@dataclass(frozen=True, kw_only=True)
class MoneyConf(Parsed):
    """What a campaign cost, and what it may have earned. Public, like all of the configuration.

    cost: of the campaign, for all users of the test arm; one number an arm where there are
        several.
    outcome: the conversion whose incremental ones are paid for; None: the first.
    value: of one such conversion; or a value column, whose incremental sum is the revenue; None:
        no revenue is known, so that no return is computed.
    currency: for the reader alone.
    """

    cost: float | dict[str, float]
    outcome: str | None = None
    value: float | str | None = None
    currency: str = ""

    def __post_init__(self) -> None:
        costs = self.cost.values() if isinstance(self.cost, dict) else (self.cost,)
        if not all(cost > 0 and isfinite(cost) for cost in costs):
            raise ConfigError(
                "lift.money.cost", "must be positive and finite", "Give what the campaign cost."
            )
        if isinstance(self.value, float):
            check_positive("lift.money", self, "value")
        if not self.currency.isprintable() or len(self.currency) > 8:
            raise ConfigError("lift.money.currency", "is no short text", "Write EUR, say.")

    def of_part(self, part: float) -> MoneyConf:
        """The cost of a part of each arm's users: what is compared with what these did."""
        if isinstance(self.cost, dict):
            return replace(self, cost={arm: cost * part for arm, cost in self.cost.items()})
        return replace(self, cost=self.cost * part)

    def cost_of(self, arm: str) -> float:
        """Of the campaign in one arm; `check_money` has seen to it that it is declared."""
        return self.cost[arm] if isinstance(self.cost, dict) else self.cost


@dataclass(frozen=True, kw_only=True)
class DecisionConf(Parsed):
    """A threshold that decides: at or beyond it on the good side, the campaign is worth it.

    metric: `lift` and `relative` of an outcome; `icpa`, cost of an incremental conversion; `iroas`,
        incremental value for each unit of cost.
    at: least absolute lift (in the outcome's own unit, .01 is one point of a rate), least
        relative lift (.1 is ten per cent more), highest cost of an incremental conversion, or
        least incremental value for each unit of cost.
    outcome: of `lift` and `relative`; the others take what `lift.money` names.
    arm: whose lift over control; None where there is one test arm.
    """

    metric: Metric
    at: float
    outcome: str | None = None
    arm: str | None = None

    def __post_init__(self) -> None:
        least = {"lift": -float("inf"), "relative": -1.0, "icpa": 0.0, "iroas": -float("inf")}
        if not isfinite(self.at) or self.at <= least[self.metric]:
            raise ConfigError(
                "lift.decisions.at",
                "is no threshold of this metric",
                "Give a finite number: above -1 for a relative lift, above 0 for a cost.",
            )
        if self.metric in ("lift", "relative") and self.outcome is None:
            raise ConfigError(
                "lift.decisions.outcome",
                f"a decision by {self.metric!r} needs one",
                "Name a conversion or value of the experiment.",
            )
        if self.metric in ("icpa", "iroas") and self.outcome is not None:
            raise ConfigError(
                "lift.decisions.outcome",
                f"a decision by {self.metric!r} takes what lift.money names",
                "Leave it out, and set lift.money.outcome or lift.money.value.",
            )


def check_money(
    money: MoneyConf,
    *,
    arms: Collection[str],
    conversions: Collection[str],
    values: Collection[str],
) -> None:
    """Raise ConfigError unless it speaks of arms and outcomes of the experiment."""
    named = set(money.cost) if isinstance(money.cost, dict) else None
    if (named is None and len(arms) > 1) or (named is not None and named != set(arms)):
        raise ConfigError(
            "lift.money.cost", "is not that of every test arm", f"Give one for: {', '.join(arms)}."
        )
    if money.outcome is not None and money.outcome not in conversions:
        raise ConfigError(
            "lift.money.outcome",
            f"{money.outcome!r} is no conversion of the experiment",
            f"Name one of: {', '.join(conversions) or 'none here'}.",
        )
    if isinstance(money.value, str) and money.value not in values:
        raise ConfigError(
            "lift.money.value",
            f"{money.value!r} is no value column of the experiment",
            f"Give a number, or name one of: {', '.join(values) or 'none here'}.",
        )
    if not conversions and not isinstance(money.value, str):
        raise ConfigError(
            "lift.money",
            "the experiment has no conversion to pay for",
            "Name a value column as lift.money.value.",
        )


def check_decision(
    decision: DecisionConf,
    money: MoneyConf | None,
    *,
    arms: Collection[str],
    conversions: Collection[str],
    values: Collection[str],
) -> None:
    """Raise ConfigError unless the experiment, and what it says of money, can decide it."""
    outcomes = (*conversions, *values)
    if decision.outcome is not None and decision.outcome not in outcomes:
        raise ConfigError(
            "lift.decisions.outcome",
            f"{decision.outcome!r} is no outcome of the experiment",
            f"Name one of: {', '.join(outcomes)}.",
        )
    if decision.arm not in arms and not (decision.arm is None and len(arms) == 1):
        raise ConfigError(
            "lift.decisions.arm", "names no test arm", f"Name one of: {', '.join(arms)}."
        )
    needs = {"icpa": "cost", "iroas": "cost and value"}.get(decision.metric)
    lacks = money is None or (decision.metric == "iroas" and money.value is None)
    if needs is not None and lacks:
        raise ConfigError(
            "lift.decisions.metric",
            f"{decision.metric!r} needs lift.money with {needs}",
            "Add it to the lift's configuration.",
        )
    if decision.metric == "icpa" and not conversions:
        raise ConfigError(
            "lift.decisions.metric", "no conversion has a cost", "Decide by `iroas` instead."
        )
