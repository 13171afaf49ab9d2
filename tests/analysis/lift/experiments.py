"""Experiments whose true lift is known, and how often a report's intervals hold it.

Each scenario is a configuration, planned as a run is: its tables have the noise of that plan,
drawn from a seeded generator. Every replicate draws new users from the true rates, adds up their
tables, and analyses them; so sampling and noise must both be inside an interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.results import Comparison, ConversionLift, LiftReport, ValueLift
from twinweave.config import RunConf, compose
from twinweave.planning import plan
from twinweave.privacy.noise import OwnGaussian
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import CONTROL, LiftConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query, axis_of, cells_of

Users = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]

BOUND = 500.0
REGIONS, CHANNELS = (0.5, 0.35, 0.15), (0.6, 0.4)
"""Shares of users at the levels of a column of the publisher, and of the shop."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """An experiment whose truth is known.

    users: of the publisher. neither, known: share of them who are in no arm, whom the shop holds.
    rates: of each conversion without treatment. lifts: by arm, what it adds to a rate, as a share
    of it, in the first region and channel; a half of it in the others. spend: whether who bought
    has an amount; clip: at which amounts are summed up. broken_down: whether by region and
    channel too.
    """

    name: str
    users: int
    neither: float = 0.2
    known: float = 0.8
    rates: Mapping[str, float]
    lifts: Mapping[str, float]
    spend: bool = False
    clip: float = BOUND
    broken_down: bool = True

    @property
    def arms(self) -> list[str]:
        return [*self.lifts, CONTROL]


SCENARIOS = (
    Scenario(
        name="mailing",
        users=64_000,
        known=1.0,
        rates={"visited": 0.106, "bought": 0.0057},
        neither=0.0,
        lifts={"first": 1.8, "second": 0.9},
        spend=True,
        clip=150.0,
    ),
    Scenario(
        name="campaign",
        users=20_000,
        rates={"bought": 0.06},
        lifts={"test": 0.5},
        spend=True,
        clip=200.0,
    ),
    Scenario(name="small", users=3_000, rates={"bought": 0.05}, lifts={"test": 0.5}),
    Scenario(
        name="no effect",
        users=20_000,
        rates={"visited": 0.1, "bought": 0.03},
        lifts={"first": 0.0, "second": 0.0},
        spend=True,
        clip=200.0,
        broken_down=False,
    ),
)


def configuration(scenario: Scenario, epsilon: float) -> RunConf:
    """The scenario as a run's configuration, measurement only."""
    key = {"name": "id", "kind": "categorical", "role": "key"}
    conversions = [
        {"name": name, "kind": "boolean", "role": "conversion"} for name in scenario.rates
    ]
    spend = {
        "name": "spend",
        "kind": "continuous",
        "role": "value",
        "bounds": [0, BOUND],
        "bins": [0.01, 30, 60, 100, 150, 200, 300],
    }
    levels = [*scenario.arms, "neither"]
    publisher = [
        key,
        {"name": "segment", "kind": "categorical", "role": "membership", "levels": levels},
        {"name": "region", "kind": "categorical", "levels": ["north", "south", "west"]},
    ]
    shop = [
        key,
        {"name": "channel", "kind": "categorical", "levels": ["web", "store"]},
        *conversions,
        *([spend] if scenario.spend else []),
    ]
    unread = {"kind": "csv", "path": "drawn.csv"}
    data = compose(["privacy=public", f"privacy.epsilon={epsilon}", "generator=none", "output=."])
    data["data"] = {
        "name": "study",
        "parties": [
            {"name": "publisher", "columns": publisher, "source": unread},
            {"name": "shop", "columns": shop, "source": unread},
        ],
        "lift": {
            "membership": "segment",
            "arms": {name: [name] for name in scenario.lifts},
            "control": [CONTROL],
            "conversions": list(scenario.rates),
            "values": ["spend"] if scenario.spend else [],
            "breakdowns": ["region", "channel"] if scenario.broken_down else [],
            "k": 20,
        },
    }
    return RunConf.parse(data)


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """A scenario with its plan at some epsilon."""

    scenario: Scenario
    epsilon: float
    schema: JointSchema = field(repr=False)
    conf: LiftConf = field(repr=False)
    tables: tuple[PlannedQuery, ...] = field(repr=False)

    @classmethod
    def of(cls, scenario: Scenario, epsilon: float) -> World:
        conf = configuration(scenario, epsilon)
        spec = plan(conf, "study")
        assert conf.data.lift is not None
        return cls(
            scenario=scenario,
            epsilon=epsilon,
            schema=spec.schema,
            conf=conf.data.lift,
            tables=tuple(_clipped(p, scenario.clip) for p in spec.plan),
        )

    def users(self, rng: Generator) -> Users:
        """Codes of everyone's columns, whom the shop holds, and amounts; all at the publisher."""
        scenario, n = self.scenario, self.scenario.users
        treated = (1 - scenario.neither) / len(scenario.arms)
        arm = rng.choice(
            len(scenario.arms) + 1, n, p=[treated] * len(scenario.arms) + [scenario.neither]
        )
        region, channel = (rng.choice(len(p), n, p=p) for p in (REGIONS, CHANNELS))
        found: Users = {"segment": arm, "region": region, "channel": channel}
        found["held"] = rng.random(n) < scenario.known
        for name in scenario.rates:
            found[name] = (rng.random(n) < self.chances(name)[arm, region, channel]).astype(int)
        found["spend"] = np.where(found["bought"] == 1, amounts(rng, n), 0.0)
        return found

    def chances(self, conversion: str) -> Floats:
        """Of a user whom the shop holds: (arms and neither, regions, channels)."""
        base = self.scenario.rates[conversion]
        first = np.outer(np.arange(len(REGIONS)) == 0, np.arange(len(CHANNELS)) == 0)
        lifts = np.array([*self.scenario.lifts.values(), 0.0, 0.0])
        return np.asarray(base * (1 + lifts[:, None, None] * np.where(first, 1.0, 0.5)))

    def measured(self, rng: Generator) -> list[Measurement]:
        """One experiment's noisy tables."""
        users = self.users(rng)
        return [
            Measurement(
                query=p.query,
                values=_opened(self.schema, p, tabulate(self.schema, users, p.query, rng), rng),
                variance=p.variance,
            )
            for p in self.tables
        ]

    def report(self, rng: Generator) -> LiftReport:
        return analyse(self.schema, self.measured(rng), self.conf)

    def truth(
        self, one: ConversionLift | ValueLift, at: Mapping[str, int], *, matched: bool = False
    ) -> tuple[float, float]:
        """True means of a comparison's arms, over all or at one level. matched: among users whom
        the shop holds, as at a level of its own column."""
        outcome = one.conversion if isinstance(one, ConversionLift) else "bought"
        share = np.outer(REGIONS, CHANNELS)
        where = np.zeros_like(share)
        where[at.get("region", slice(None)), at.get("channel", slice(None))] = 1.0
        weight = share * where / (share * where).sum()
        factor = 1.0 if matched or "channel" in at else self.scenario.known
        factor *= 1.0 if isinstance(one, ConversionLift) else self.mean_amount
        means = factor * (self.chances(outcome) * weight).sum(axis=(1, 2))
        arms = self.scenario.arms
        return float(means[arms.index(one.arm)]), float(means[arms.index(one.against)])

    @cached_property
    def mean_amount(self) -> float:
        drawn = amounts(np.random.default_rng(0), 2_000_000)
        return float(np.minimum(drawn, self.scenario.clip).mean())


def amounts(rng: Generator, n: int) -> Floats:
    """Skewed amounts like Hillstrom's: median about 80, clipped at the bound."""
    return np.asarray(np.minimum(29 + rng.gamma(0.8, 110.0, n), BOUND))


def _clipped(planned: PlannedQuery, clip: float) -> PlannedQuery:
    """The same table with its amounts clipped: units are smaller, the noise in units the same."""
    if clip == BOUND:
        return planned
    sides = tuple(replace(s, clip=clip) if s.weight else s for s in planned.query.sides)
    return replace(planned, query=replace(planned.query, sides=sides))


def tabulate(schema: JointSchema, users: Users, query: Query, rng: Generator) -> Floats:
    """The exact table; a sum's amounts are dithered to whole units."""
    held = {"publisher": np.ones(len(users["segment"]), dtype=bool), "shop": users["held"]}
    cells = cells_of(schema, query)
    inside = np.any([held[s.party] for s in query.sides], axis=0)
    codes = {s: [_codes(schema, users, c) for c in s.columns] for s in query.sides}
    if query.is_cross:
        places = [
            axis_of(schema, s).positions(
                np.array(codes[s]).reshape(len(s.columns), -1).T
                if s.columns
                else np.zeros((len(inside), 0), dtype=np.int64),
                held[s.party] if s.absent is not None else None,
            )
            for s in query.sides
        ]
    else:
        places = codes[query.sides[0]]
    at = cells.of([p[inside] for p in places])
    if query.weight is None:
        return np.asarray(cells.count(at), dtype=np.float64)
    units = np.minimum(users[query.weight], query.clip or BOUND) / (query.clip or BOUND)
    whole = np.floor(units * VALUE_UNITS + rng.random(len(units))) * users["held"]
    return np.asarray(cells.count(at, whole[inside]))


def _codes(schema: JointSchema, users: Users, column: str) -> NDArray[np.int64]:
    if column != "spend":
        return np.asarray(users[column])
    return np.searchsorted(schema.column(column).edges, users[column], side="right")


def _opened(schema: JointSchema, planned: PlannedQuery, exact: Floats, rng: Generator) -> Floats:
    """With the noise that is planned: coins as they are, a discrete Gaussian by rounding."""
    noise, parties = planned.noise, planned.query.parties
    if isinstance(noise, OwnGaussian):
        scale = noise.noise_multiplier * noise.sensitivity
        drawn = np.rint(rng.normal(0, scale, (len(parties), *exact.shape))).sum(axis=0)
    else:
        coins = round(4 * planned.variance)
        drawn = rng.binomial(coins, 0.5, exact.shape) - coins / 2
    cells = cells_of(schema, planned.query)
    return np.asarray(cells.table(cells.opened(exact + drawn)))


# --- what a report says, held against the truth -------------------------------------------------


def hits(world: World, report: LiftReport) -> Iterator[tuple[str, bool]]:
    """(cell, whether all its intervals hold the truth): of everything that holds jointly.

    Levels, and matched users, are those of the first arm against the control.
    """
    together: dict[str, list[bool]] = {}
    every: Sequence[ConversionLift | ValueLift] = (*report.conversions, *report.values)
    for one in every:
        name = one.conversion if isinstance(one, ConversionLift) else one.column
        kind = "against control" if one.against == CONTROL else "between arms"
        if one.overall is None:
            continue
        truth = world.truth(one, {})
        together.setdefault(f"{name} {kind}", []).append(_covers(one.overall, truth))
        if one.overall.relative is not None:
            relative = _relative(one.overall, truth)
            together.setdefault(f"{name} {kind}, relative", []).append(relative)
        if (one.arm, one.against) != world.conf.pairs[0]:
            continue
        if one.matched is not None:
            truth = world.truth(one, {}, matched=True)
            yield f"{name} among matched", _covers(one.matched, truth)
        for b in one.breakdowns:
            cells = [(i, c.comparison) for i, c in enumerate(b.cells) if c.comparison is not None]
            yield (
                f"{name} by {b.column}",
                all(_covers(c, world.truth(one, {b.column: i})) for i, c in cells),
            )
    yield from ((cell, all(held)) for cell, held in together.items())


def wrong_verdicts(world: World, report: LiftReport) -> dict[str, bool]:
    """By family of comparisons: whether a verdict is given anywhere without an effect."""
    found = {"against control": False, "between arms": False}
    every: Sequence[ConversionLift | ValueLift] = (*report.conversions, *report.values)
    for one in every:
        test, control = world.truth(one, {})
        if one.overall is not None and test == control:
            kind = "against control" if one.against == CONTROL else "between arms"
            found[kind] |= one.overall.verdict.value in ("lift", "harm")
    return found


def _covers(found: Comparison, truth: tuple[float, float]) -> bool:
    return found.absolute.covers(truth[0] - truth[1])


def _relative(found: Comparison, truth: tuple[float, float]) -> bool:
    assert found.relative is not None
    ratio = truth[0] / truth[1] - 1
    pieces = found.relative.intervals
    return any(low <= ratio and (high is None or ratio <= high) for low, high in pieces)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """How many replicates hold; of an error rate, how many have a wrong verdict."""

    name: str
    hits: int
    n: int


def study(world: World, replicates: int, rng: Generator) -> tuple[list[Cell], list[Cell]]:
    """Coverage of every cell, nominal at the report's level; error rates, nominal at the rest."""
    held: dict[str, list[bool]] = {}
    wrong: dict[str, list[bool]] = {}
    for _ in range(replicates):
        report = world.report(rng)
        for name, inside in hits(world, report):
            held.setdefault(name, []).append(inside)
        for name, given in wrong_verdicts(world, report).items():
            wrong.setdefault(name, []).append(given)
    return _cells(held), _cells(wrong)


def _cells(found: Mapping[str, Sequence[bool]]) -> list[Cell]:
    return [Cell(name=name, hits=sum(each), n=len(each)) for name, each in found.items()]
