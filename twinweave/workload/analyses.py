"""What a run's tables must answer: an experiment's lift, and how an outcome differs by group.

Both are declared with the data. The workload asks their tables first, and the analyses read them
back from the noisy tables and from the synthetic rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations
from math import inf
from typing import Literal

from twinweave.errors import ConfigError
from twinweave.parsing import Parsed, check_not_negative, check_positive
from twinweave.tables.column import Kind, Role, may_clip
from twinweave.tables.schema import JointSchema
from twinweave.workload.decisions import DecisionConf, MoneyConf, check_decision, check_money
from twinweave.workload.queries import query_over

TEST, CONTROL = "test", "control"
"""Name of the one arm where there is but one, and of what every arm is compared with."""

MOST_LEVELS = 64
"""Of a column that outcomes are broken down by: with more, noise leaves next to nothing of each."""

Clip = Literal["auto", "bounds"] | float
"""Where a value's amounts are clipped in its sums: chosen from its noisy one-way table, at the
column's upper bound, or at a number in the column's own unit."""

Holds = Literal["everyone", "converters"]
"""Whom a party's table lists: all who could have converted, or those alone who did."""


MOST_EFFECT = 10_000.0


@dataclass(frozen=True, kw_only=True)
class LiftConf(Parsed):
    """One experiment to analyse.

    membership: column whose levels say which arm a user is in.
    control: its levels that make up the control; every other level is in no arm.
    test: the levels of the one arm that is compared with it, called "test".
    arms: instead of `test`, several arms by name, each of levels of its own; every one is
        compared with the control, and with every other.
    conversions: boolean columns; a user with the second level has converted, every other
        user (missing, or unknown to the party that holds the column) has not.
    values: `value` columns compared as mean per user; a user without one counts as 0.
    clip: of a value column, at its upper bound where none is given. The mean compared is then
        that of clipped amounts: less of it, against less noise, which is in proportion to the clip.
    breakdowns: columns by whose levels, or bins, each outcome is compared: of the membership's
        party, or of one that holds an outcome, for the users whom that party holds.
    level: of every interval, and 1 - level the error rate of every verdict.
    k: an arm, or an arm's part in a breakdown, whose noisy size is below k is not shown.
    ratio: expected users in an arm for each user in control, for the sample-ratio check: one
        number for every arm, or one by arm; None for no check.
    correction: of p-values and verdicts of several headline comparisons for their number.
    holds: whom the table of an outcome's party lists. `converters`: only users with one of the
        conversions, so that a user it lacks has not converted by definition, and the shares
        matched are not expected to balance. Undeclared is taken for `everyone`, but gives no
        verdict where the tables look like those of converters.
    money, decisions: what the test arm cost and earned, and the thresholds that decide.
    cluster: column of clusters (households, stores) that were randomised as wholes, at the
        membership's party. Each conversion is then counted by arm and random group of clusters
        too, and the variance between groups widens intervals by the design effect.
    design_effect: how many times the variance of independent users an arm's total has, where it
        is known (Kish's deff, 1 or more): it is believed, and nothing is measured for it.
    """

    membership: str
    test: tuple[str, ...] = ()
    arms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    control: tuple[str, ...]
    conversions: tuple[str, ...]
    values: tuple[str, ...] = ()
    clip: dict[str, Clip] = field(default_factory=dict)
    breakdowns: tuple[str, ...] = ()
    level: float = 0.95
    k: int
    ratio: float | dict[str, float] | None = 1.0
    correction: Literal["holm", "none"] = "holm"
    holds: dict[str, Holds] = field(default_factory=dict)
    money: MoneyConf | None = None
    decisions: tuple[DecisionConf, ...] = ()
    cluster: str | None = None
    design_effect: float | None = None

    def __post_init__(self) -> None:
        if bool(self.test) == bool(self.arms):
            raise ConfigError(
                "lift.test",
                "either `test` or `arms` says what is compared with the control",
                "Name the levels of one arm in `test`, or of several in `arms`.",
            )
        if CONTROL in self.arms or not all(self.arms):
            raise ConfigError(
                "lift.arms", "an arm has no name, or that of the control", "Give it another name."
            )
        levels = [level for own in self.all_arms.values() for level in own]
        if not all(self.all_arms.values()) or len(set(levels)) != len(levels):
            raise ConfigError(
                "lift.arms" if self.arms else "lift.test",
                "every arm and the control need levels of their own",
                "Name at least one level for each, and none twice.",
            )
        if not self.conversions and not self.values:
            raise ConfigError(
                "lift.conversions", "nothing to compare", "Name a conversion or value column."
            )
        for columns in ("conversions", "values", "breakdowns"):
            names = getattr(self, columns)
            if len(set(names)) != len(names):
                raise ConfigError(f"lift.{columns}", "columns repeat", "Name each column once.")
        if unknown := [name for name in self.clip if name not in self.values]:
            raise ConfigError(
                "lift.clip",
                f"{unknown[0]!r} is not one of the values that are compared",
                "Name columns of lift.values.",
            )
        if not 0.5 <= self.level < 1:
            raise ConfigError("lift.level", "not in [0.5, 1)", "Give a confidence level, 0.95 say.")
        check_not_negative("lift", self, "k")
        if isinstance(self.ratio, dict):
            if set(self.ratio) != set(self.treated):
                raise ConfigError(
                    "lift.ratio",
                    "names other arms than are compared with the control",
                    f"Give a number for each of: {', '.join(self.treated)}.",
                )
            if not all(0 < r < inf for r in self.ratio.values()):
                raise ConfigError(
                    "lift.ratio", "must be positive and finite", "Give numbers above 0."
                )
        elif self.ratio is not None:
            check_positive("lift", self, "ratio")
        self._check_design_effect()
        self._check_stakes()

    def _check_stakes(self) -> None:
        arms = tuple(self.treated)
        of = {"arms": arms, "conversions": self.conversions, "values": self.values}
        if self.money is not None:
            check_money(self.money, **of)
        if len(set(self.decisions)) != len(self.decisions):
            raise ConfigError("lift.decisions", "repeat", "State each once.")
        for decision in self.decisions:
            check_decision(decision, self.money, **of)

    def _check_design_effect(self) -> None:
        if self.design_effect is not None and not 1 <= self.design_effect <= MOST_EFFECT:
            raise ConfigError(
                "lift.design_effect",
                f"not in 1 to {MOST_EFFECT:,}",
                "Give the variance of an arm's total over that of independent users, 1.4 say.",
            )
        if self.design_effect is not None and self.cluster is not None:
            raise ConfigError(
                "lift.design_effect",
                "is declared, and is to be measured by `lift.cluster` too",
                "Keep one of the two.",
            )

    def of_part(self, part: float) -> LiftConf:
        """The same for a part of the users, whoever is not set aside: what they cost."""
        return replace(self, money=self.money.of_part(part)) if self.money else self

    @property
    def treated(self) -> dict[str, tuple[str, ...]]:
        """The levels of every arm but the control, by its name."""
        return self.arms or {TEST: self.test}

    @property
    def all_arms(self) -> dict[str, tuple[str, ...]]:
        """The levels of every arm by its name, the control last."""
        return {**self.treated, CONTROL: self.control}

    @property
    def ratios(self) -> dict[str, float] | None:
        """Expected users in each arm for each in control; None where nothing is expected."""
        if self.ratio is None or isinstance(self.ratio, dict):
            return self.ratio
        return dict.fromkeys(self.treated, self.ratio)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """What is compared: (arm, against). Every arm against the control, then with each other."""
        names = tuple(self.treated)
        return (*((arm, CONTROL) for arm in names), *combinations(names, 2))

    @property
    def stated_clips(self) -> dict[str, float]:
        """{value column: its clip, where the configuration gives a number}."""
        return {name: clip for name, clip in self.clip.items() if not isinstance(clip, str)}

    @property
    def chosen_clips(self) -> tuple[str, ...]:
        """Value columns whose clip is chosen in the run, in their order."""
        return tuple(name for name in self.values if self.clip.get(name) == "auto")


def check_lift(schema: JointSchema, conf: LiftConf) -> None:
    """Raise ConfigError unless `conf` fits the schema: columns, roles, levels, holders."""
    for own in ("membership", "conversions", "values", "breakdowns"):
        named = getattr(conf, own)
        for name in (named,) if isinstance(named, str) else named:
            if name not in schema.names:
                raise ConfigError(
                    f"lift.{own}",
                    f"{name!r} is no column of any party, or a key",
                    f"Columns: {', '.join(schema.names)}.",
                )
    membership = schema.column(conf.membership)
    if membership.role is not Role.MEMBERSHIP:
        raise ConfigError(
            "lift.membership",
            f"column {conf.membership!r} is no membership column",
            "Give it `role: membership` in its schema.",
        )
    for level in (level for levels in conf.all_arms.values() for level in levels):
        if level not in membership.labels:
            raise ConfigError(
                "lift.test",
                f"{conf.membership!r} has no level {level!r}",
                f"Its levels: {', '.join(membership.labels)}.",
            )
    for name in conf.conversions:
        if schema.column(name).kind is not Kind.BOOLEAN:
            raise ConfigError(
                "lift.conversions", f"{name!r} is not boolean", "Name boolean columns."
            )
    for name in conf.values:
        if schema.column(name).role is not Role.VALUE:
            raise ConfigError(
                "lift.values", f"{name!r} is no value column", "Give it `role: value` and bounds."
            )
    for name, clip in conf.stated_clips.items():
        if not may_clip(schema.column(name), clip):
            raise ConfigError(
                f"lift.clip.{name}",
                "is not clearly above the column's lower bound and up to its upper one",
                "Give a number within the bounds, `auto` or `bounds`.",
            )
    for name in conf.breakdowns:
        _check_breakdown(schema, conf, name)
    if conf.cluster is not None:
        _check_cluster(schema, conf.membership, conf.cluster)
    _check_holds(schema, conf)


def _check_cluster(schema: JointSchema, membership: str, cluster: str) -> None:
    own = [c.name for c in schema.with_role(Role.CLUSTER)]
    if cluster not in own:
        raise ConfigError(
            "lift.cluster",
            f"there is no cluster column {cluster!r}",
            "Give the column of households, stores or the like `role: cluster` in its schema.",
        )
    if schema.holders(cluster) != schema.unit(schema.holders(membership)[0]):
        raise ConfigError(
            "lift.cluster",
            f"column {cluster!r} is not at the party of {membership!r}",
            "Name a cluster column of the membership's party.",
        )


def _check_breakdown(schema: JointSchema, conf: LiftConf, name: str) -> None:
    outcomes = (*conf.conversions, *conf.values)
    if name == conf.membership or name in outcomes:
        raise ConfigError(
            "lift.breakdowns",
            f"column {name!r} is the membership or an outcome",
            "Break down by what was known before the treatment.",
        )
    if schema.column(name).role is Role.CLUSTER:
        raise ConfigError(
            "lift.breakdowns",
            f"{name!r} is a cluster column",
            "Name it in `lift.cluster`: a lift by cluster is never shown.",
        )
    if schema.column(name).size > MOST_LEVELS:
        raise ConfigError(
            "lift.breakdowns",
            f"column {name!r} has more than {MOST_LEVELS} levels",
            "Give it fewer `bins`, or merge levels by `derive`.",
        )
    if not any(query_over(schema, conf.membership, name, outcome) for outcome in outcomes):
        raise ConfigError(
            "lift.breakdowns",
            f"no two parties hold {conf.membership!r}, {name!r} and an outcome between them",
            "Break down by a column of the membership's party, or of an outcome's.",
        )


def _check_holds(schema: JointSchema, conf: LiftConf) -> None:
    home = schema.holders(conf.membership)[0]
    outcomes = (*conf.conversions, *conf.values)
    others = [
        party
        for party in schema.parties
        if party not in schema.unit(home)
        and any(party in schema.holders(column) for column in outcomes)
    ]
    for party, whom in conf.holds.items():
        if party not in others:
            raise ConfigError(
                "lift.holds",
                f"{party!r} is no other party with a conversion or value of the experiment",
                f"Name one of: {', '.join(others) or 'none here'}.",
            )
        if any(conf.holds.get(member) != whom for member in schema.unit(party)):
            raise ConfigError(
                "lift.holds",
                f"the members of the pool of {party!r} are not declared alike",
                "Give every member of a pool the same.",
            )


@dataclass(frozen=True, kw_only=True)
class FairnessConf(Parsed):
    """Which outcome is audited for which groups.

    sensitive: columns whose levels, and intersections of levels, are the groups. label: the
    column with the outcome; positive: its favourable level.
    """

    sensitive: tuple[str, ...]
    label: str
    positive: str

    def __post_init__(self) -> None:
        if not self.sensitive or self.label in self.sensitive:
            raise ConfigError(
                "fairness.sensitive",
                "needs a column that is not the label",
                "Name the sensitive columns.",
            )
        if len(set(self.sensitive)) < len(self.sensitive):
            raise ConfigError("fairness.sensitive", "a column repeats", "Name each once.")


def check_fairness(schema: JointSchema, conf: FairnessConf) -> None:
    """Raise ConfigError unless `conf` fits the schema."""
    for name in (*conf.sensitive, conf.label):
        if name not in schema.names:
            raise ConfigError(
                "fairness",
                f"no party has a column {name!r}",
                f"Columns: {', '.join(schema.names)}.",
            )
    labels = schema.column(conf.label).labels
    if conf.positive not in labels:
        raise ConfigError(
            "fairness.positive",
            f"{conf.label!r} has no such level",
            f"Its levels: {', '.join(labels)}.",
        )


@dataclass(frozen=True, kw_only=True)
class Analyses:
    """What the tables of a run are for, besides synthetic data."""

    schema: JointSchema
    lift: LiftConf | None = None
    fairness: FairnessConf | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """What features are of interest for: membership, conversions, label; by role where
        neither analysis is asked for."""
        named: list[str] = []
        if self.lift is not None:
            named += [self.lift.membership, *self.lift.conversions]
        if self.fairness is not None:
            named.append(self.fairness.label)
        if self.lift is None and self.fairness is None:
            for role in (Role.MEMBERSHIP, Role.CONVERSION, Role.LABEL):
                named += [c.name for c in self.schema.with_role(role)]
        return tuple(dict.fromkeys(named))

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        """Pairs of columns whose relation is analysed, and may differ by a third column:
        membership and a conversion, a sensitive column and the label."""
        pairs: list[tuple[str, str]] = []
        if self.lift is not None:
            pairs += [(self.lift.membership, c) for c in self.lift.conversions]
        if self.fairness is not None:
            pairs += [(s, self.fairness.label) for s in self.fairness.sensitive]
        return tuple(pairs)
