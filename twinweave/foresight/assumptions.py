"""What a plan takes for granted: sizes that are public, and what the user states or leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from twinweave.analysis.lift.design import Assumed
from twinweave.config import RunConf
from twinweave.errors import ConfigError
from twinweave.parsing import Parsed, check_positive
from twinweave.tables.schema import JointSchema
from twinweave.tables.sizes import count_rows
from twinweave.workload.analyses import CONTROL, LiftConf

RATES = (0.001, 0.01, 0.05, 0.1, 0.2)
"""Base rates that are planned for where none is stated."""


@dataclass(frozen=True, kw_only=True)
class Amount(Parsed):
    """Mean and standard deviation of each user's value, those without one (0) included.

    mean: of all users. sd: the standard deviation, of all users.
    """

    mean: float
    sd: float

    def __post_init__(self) -> None:
        check_positive("plan.values", self, "sd")
        if not isfinite(self.mean):
            raise ConfigError("plan.values", "has no finite mean", "Give a number, 1.2 say.")


@dataclass(frozen=True, kw_only=True)
class PlanConf(Parsed):
    """What is public, or assumed, before a run.

    rows: of each party's table; counted from its source where none is stated.
    arms: share of the membership's users in each arm, "control" one of them.
    rates: base rate of each conversion, one or several, and values, each value column's: of all
        users, whether the outcome's party holds them or not.
    matched: share of users whom the outcome's party holds; the others count as not converted.
    lifts: of an outcome, the absolute lift to find.
    design_effect: of clusters; None for what `lift` declares, or for independent users.
    """

    rows: dict[str, int] = field(default_factory=dict)
    arms: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float | tuple[float, ...]] = field(default_factory=dict)
    values: dict[str, Amount] = field(default_factory=dict)
    matched: float = 1.0
    lifts: dict[str, float] = field(default_factory=dict)
    design_effect: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.matched <= 1:
            raise ConfigError("plan.matched", "not in (0, 1]", "Give a share, .6 say.")
        if any(n < 1 for n in self.rows.values()):
            raise ConfigError("plan.rows", "must be 1 or more", "Give the size of the table.")
        if not all(0 < s < 1 for s in self.arms.values()) or sum(self.arms.values()) > 1 + 1e-9:
            raise ConfigError("plan.arms", "are no shares of one whole", "Give e.g. .5 and .5.")
        if not all(map(self.rates_of, self.rates)):
            raise ConfigError("plan.rates", "has none", "Give a rate or several, [.01,.05] say.")
        if not all(0 < rate < 1 for name in self.rates for rate in self.rates_of(name)):
            raise ConfigError("plan.rates", "not in (0, 1)", "Give a rate, .05 say.")
        if self.design_effect is not None:
            check_positive("plan", self, "design_effect", least=1.0)
        if not all(lift and isfinite(lift) for lift in self.lifts.values()):
            raise ConfigError(
                "plan.lifts", "is 0, or not finite", "Give the absolute lift to find, .01 say."
            )

    def rates_of(self, conversion: str) -> tuple[float, ...]:
        """Base rates to plan for."""
        stated = self.rates.get(conversion, RATES)
        return stated if isinstance(stated, tuple) else (stated,)

    def check(self, schema: JointSchema, lift: LiftConf | None) -> None:
        """Raise ConfigError for a name that the run does not have."""
        known: dict[str, tuple[str, ...]] = {
            "rows": schema.parties,
            "arms": tuple(lift.all_arms) if lift else (),
            "rates": lift.conversions if lift else (),
            "values": lift.values if lift else (),
            "lifts": (*lift.conversions, *lift.values) if lift else (),
        }
        for name, allowed in known.items():
            for given in getattr(self, name):
                if given not in allowed:
                    raise ConfigError(
                        f"plan.{name}",
                        f"the run has no {given!r} there",
                        f"Names: {', '.join(allowed) or 'none'}.",
                    )


def rows_of(conf: RunConf, asked: PlanConf) -> dict[str, int]:
    """Rows of each party's table. Raises ConfigError where nobody knows, SourceError."""
    found = {}
    for party in conf.data.parties:
        if party.name in asked.rows:
            found[party.name] = asked.rows[party.name]
        elif party.source is not None:
            found[party.name] = count_rows(party.source, party.schema)
        else:
            raise ConfigError(
                f"plan.rows.{party.name}",
                "is missing, and the party's table is not here to be counted",
                f"Give the public size of the table: plan.rows.{party.name}=64000, say.",
            )
    return found


def assumed_of(
    conf: RunConf, lift: LiftConf, asked: PlanConf, rows: Mapping[str, int]
) -> tuple[Assumed, list[str]]:
    """What is assumed of the experiment, and the same in sentences."""
    schema, share = conf.data.schema, asked.matched
    home = schema.unit(schema.holders(lift.membership)[0])
    shares, why = _shares(schema, lift, asked)
    users = {arm: part * sum(rows[p] for p in home) for arm, part in shares.items()}
    arms = ", ".join(f"{arm} {part:.1%}" for arm, part in shares.items())
    said = [f"arms, of the users of {' + '.join(home)}: {arms} ({why})"]
    matched = "state plan.matched where it is less" if share == 1 else "by plan.matched"
    said.append(f"users of the arms whom the outcomes' parties hold: {share:.0%} ({matched})")
    for name in lift.conversions:
        if name not in asked.rates:
            said.append(f"base rate of {name}: not stated, so several (plan.rates.{name}=.1)")
    amounts = {}
    for name in lift.values:
        if (stated := asked.values.get(name)) is None:
            said.append(
                f"{name}: not stated, so noise alone (plan.values.{name}={{mean: 1, sd: 9}})"
            )
        else:
            square = share * (stated.sd**2 + stated.mean**2)
            mean = share * stated.mean
            amounts[name] = (mean, (square - mean**2) ** 0.5)
    effect = asked.design_effect or lift.design_effect
    if effect is not None:
        said.append(f"design effect of clusters: {effect:g}")
    elif lift.cluster is not None:
        said.append("clusters: not stated, so as if users were independent (plan.design_effect=2)")
    rates = {c: tuple(share * rate for rate in asked.rates_of(c)) for c in lift.conversions}
    return Assumed(users=users, rates=rates, amounts=amounts, design_effect=effect or 1.0), said


def _shares(schema: JointSchema, lift: LiftConf, asked: PlanConf) -> tuple[dict[str, float], str]:
    """Of each arm among all users of the membership's party; and where it is from."""
    levels = lift.all_arms
    if asked.arms:
        if set(asked.arms) != set(levels):
            raise ConfigError(
                "plan.arms", "are not all stated", f"Give a share for: {', '.join(levels)}."
            )
        return {arm: asked.arms[arm] for arm in levels}, "by plan.arms"
    every = schema.column(lift.membership).size
    shares = {arm: len(own) / every for arm, own in levels.items()}
    if lift.ratios is None:
        return shares, "every level alike; state plan.arms where they are not"
    whole = sum(shares.values())
    weights = {**lift.ratios, CONTROL: 1.0}
    total = sum(weights.values())
    by_ratio = {arm: whole * weights[arm] / total for arm in levels}
    return by_ratio, "every level alike, and by lift.ratio; state plan.arms where they are not"
