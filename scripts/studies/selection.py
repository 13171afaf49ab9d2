"""Does feature selection find planted features? `python -m scripts.studies.selection`

Two parties hold 60 features each, A also a randomised membership, B the conversion; 80,000
users each, 60,000 of them at both. Five features drive conversion, three at A and two at B, by
`effect` (log-odds for one standard deviation of a feature's score): numeric ones along the
scale and against it, one U-shaped, categorical ones level by level. The other 115 drive
nothing. All columns have 2 to 16 skewed levels.

What is simulated: exact tables of the real queries, with noise of the real plan's variance (from
numpy: this measures quality, it protects nobody). What is real: the queries, their noise at
(epsilon, delta) for selection alone, scores and choice. "own party" scores only features that
the conversion's own party holds, at the same epsilon: what a party could do by itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from twinweave.config import compose
from twinweave.parsing import parse
from twinweave.privacy.allocation import WorkItem, calibrate
from twinweave.privacy.events import Stage
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.analyses import Analyses, LiftConf
from twinweave.workload.choice import choose
from twinweave.workload.measurement import Measurement
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query, cells_of
from twinweave.workload.selection import FeatureScore, SelectionConf, plan_selection, score

Array = NDArray[np.float64]

FEATURES = 60
BOTH, ALONE = 60_000, 20_000  # users at both parties, and at each one alone
RATE = 0.08
LIFT = LiftConf(
    membership="arm", test=("test",), control=("control",), conversions=("bought",), k=10
)
ARMS = np.array([0.4, 0.4, 0.2])  # test, control, neither
DRIVERS = {"a1": "up", "a2": "u", "a41": "levels", "b1": "down", "b42": "levels"}


def levels_of(number: int) -> int:
    """40 binned numbers of 16 bins, 15 categories of 3 to 8 levels, 5 booleans."""
    return 16 if number <= 40 else 3 + (number - 41) % 6 if number <= 55 else 2


def schema() -> JointSchema:
    """Arm and 60 features at a, conversion and 60 features at b."""
    key = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
    arm = Column(
        name="arm",
        kind=Kind.CATEGORICAL,
        role=Role.MEMBERSHIP,
        levels=("test", "control", "neither"),
    )
    bought = Column(name="bought", kind=Kind.BOOLEAN, role=Role.CONVERSION)
    schemas = []
    for party, own in (("a", arm), ("b", bought)):
        names = [f"{party}{i}" for i in range(1, FEATURES + 1)]
        features = tuple(
            Column(name=n, kind=Kind.CATEGORICAL, levels=tuple(map(str, range(levels_of(i)))))
            for i, n in enumerate(names, 1)
        )
        schemas.append(Schema(party=party, columns=(key, own, *features)))
    return JointSchema(schemas=tuple(schemas))


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """One draw of the population: who holds what, and the drivers' codes.

    codes: arm, bought and the drivers, each (users,); at: party -> bool (users,).
    masses: feature -> probabilities of its levels.
    """

    schema: JointSchema
    codes: Mapping[str, NDArray[np.int64]] = field(repr=False)
    at: Mapping[str, NDArray[np.bool_]] = field(repr=False)
    masses: Mapping[str, Array] = field(repr=False)

    def table(self, query: Query, rng: np.random.Generator) -> Array:
        """Exact table of a feature by a target, drawn for features that drive nothing.

        Those are independent of all else, so given the target's counts their table is
        multinomial: no need to draw a code for every user.
        """
        feature, target = query.columns
        groups = [np.array(g) for side in query.sides for g in side.groups]
        sizes = [int(g[-1]) + 1 for g in groups]
        parties = query.parties if query.is_cross else query.parties * 2
        presence = np.stack([self.at[p] for p in parties])
        column = np.where(presence[1], groups[1][self.codes[target]], sizes[1])
        out = np.zeros((sizes[0] + 1, sizes[1] + 1))
        if feature in self.codes:
            row = np.where(presence[0], groups[0][self.codes[feature]], sizes[0])
            np.add.at(out, (row, column), presence.any(axis=0))
        else:
            mass = np.bincount(groups[0], weights=self.masses[feature])
            known = np.bincount(column[presence[0]], minlength=sizes[1] + 1)
            out[:-1] = rng.multinomial(known, mass).T
            out[-1] = np.bincount(column[presence[1] & ~presence[0]], minlength=sizes[1] + 1)
        return out if query.is_cross else out[:-1, :-1]


def draw(joint: JointSchema, effect: float, rng: np.random.Generator) -> World:
    n = BOTH + 2 * ALONE
    masses = {}
    for column in joint.with_role(Role.FEATURE):
        spread = rng.dirichlet(np.full(column.size, 3.0))
        masses[column.name] = np.maximum(spread, 0.01) / np.maximum(spread, 0.01).sum()
    codes = {"arm": rng.choice(3, size=n, p=ARMS)}
    logit = np.log(RATE / (1 - RATE)) + 0.2 * (codes["arm"] == 0)
    for name, shape in DRIVERS.items():
        codes[name] = rng.choice(len(masses[name]), size=n, p=masses[name])
        logit = logit + effect * driver_score(masses[name], shape, rng)[codes[name]]
    codes["bought"] = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    where = np.arange(n)
    at = {"a": where < BOTH + ALONE, "b": (where < BOTH) | (where >= BOTH + ALONE)}
    return World(schema=joint, codes=codes, at=at, masses=masses)


def driver_score(mass: Array, shape: str, rng: np.random.Generator) -> Array:
    """A level's push on the log-odds, mean 0 and variance 1 under the feature's own masses."""
    from scipy.stats import norm

    middle = norm.ppf(np.cumsum(mass) - mass / 2)
    push = {"up": middle, "down": -middle, "u": middle**2, "levels": rng.normal(size=len(mass))}
    centred = push[shape] - mass @ push[shape]
    return np.asarray(centred / sqrt(mass @ centred**2))


def planned(
    joint: JointSchema, queries: Sequence[Query], epsilon: float, delta: float, coin_limit: int
) -> list[PlannedQuery]:
    """The queries with the noise of a run that spends (epsilon, delta) on them alone."""
    items = [
        WorkItem(
            name=q.name,
            cells=cells_of(joint, q).size,
            parties=q.parties,
            stage=Stage.SELECTION,
            coins=q.is_cross,
        )
        for q in queries
    ]
    plan = calibrate(
        epsilon=epsilon,
        delta=delta,
        shares={Stage.SELECTION: 1.0},
        priority_share=0.25,
        items=items,
        coin_limit=coin_limit,
    )
    return [
        PlannedQuery(query=query, stage=Stage.SELECTION, noise=noise)
        for query, noise in zip(queries, plan.noise, strict=True)
    ]


def measured(
    world: World, plan: Sequence[PlannedQuery], rng: np.random.Generator
) -> Iterator[Measurement]:
    for p in plan:
        exact = world.table(p.query, rng)
        noisy = exact + np.rint(rng.normal(0, sqrt(p.variance), exact.shape))
        if p.query.is_cross:
            noisy[-1, -1] = 0
        yield Measurement(query=p.query, values=noisy, variance=p.variance)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One seed: drivers kept at each party, other features kept, interval widths of ranks."""

    here: int
    there: int
    false: int
    worst: int
    width: float

    @classmethod
    def of(cls, scores: Sequence[FeatureScore], kept: Sequence[str]) -> Outcome:
        """there: at a, which does not hold the conversion. worst: lowest rank of a driver."""
        found = [n for n in kept if n in DRIVERS]
        mine = [s for s in scores if s.column in DRIVERS and s.associations]
        widths = [s.ranks[1] - s.ranks[0] + 1 for s in mine]
        return cls(
            here=sum(n.startswith("b") for n in found),
            there=sum(n.startswith("a") for n in found),
            false=len(kept) - len(found),
            worst=max(s.rank for s in mine),
            width=float(np.mean(widths)),
        )


def study(
    arguments: argparse.Namespace, conf: SelectionConf, effect: float, *, cross: bool
) -> list[Outcome]:
    joint = schema()
    analyses = Analyses(schema=joint, lift=LIFT)
    queries = plan_selection(analyses, conf)
    if not cross:
        queries = tuple(q for q in queries if q.parties == ("b",))
    plan = planned(joint, queries, arguments.epsilon, arguments.delta, arguments.coin_limit)
    outcomes = []
    for seed in range(arguments.seeds):
        rng = np.random.default_rng(seed)
        world = draw(joint, effect, rng)
        scores = score(measured(world, plan, rng), analyses, conf)
        kept = choose(scores, analyses, conf).kept
        outcomes.append(Outcome.of(scores, kept))
    return outcomes


def line(what: str, effect: float, outcomes: Sequence[Outcome], seconds: float) -> str:
    total = np.array([o.here + o.there for o in outcomes])
    enough = 100 * (total >= 4).mean()
    here, there, false, worst, width = (
        float(np.mean([getattr(o, name) for o in outcomes]))
        for name in ("here", "there", "false", "worst", "width")
    )
    return (
        f"{what:<24}{effect:>7.2f}{enough:>9.0f}%{total.mean():>8.2f}{there:>8.2f}"
        f"{here:>8.2f}{false:>8.2f}{worst:>8.1f}{width:>8.1f}{seconds:>8.1f}"
    )


HEADER = (
    f"{'':<24}{'effect':>7}{'4 of 5':>10}{'found':>8}{'at A':>8}{'at B':>8}{'false':>8}"
    f"{'worst':>8}{'+-rank':>8}{'CPU s':>8}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--epsilon", type=float, default=0.3)
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--effects", type=float, nargs="+", default=[0.35])
    parser.add_argument("--groups", type=int, nargs="+", default=None)
    parser.add_argument("--coin-limit", type=int, default=10**12)
    arguments = parser.parse_args()
    conf = parse(SelectionConf, compose([])["selection"])
    print(__doc__)
    print(f"epsilon {arguments.epsilon:g}, delta {arguments.delta:g}, {arguments.seeds} seeds\n")
    print(HEADER)
    for effect in arguments.effects:
        for groups in arguments.groups or [conf.groups]:
            for cross in (True, False):
                start = time.process_time()
                found = study(arguments, replace(conf, groups=groups), effect, cross=cross)
                what = f"{groups} groups, " + ("all parties" if cross else "own party")
                print(line(what, effect, found, time.process_time() - start), flush=True)
    print(
        "\n4 of 5: seeds in which at least four drivers were kept. found, at A, at B, false: mean"
        "\nfeatures kept. worst: mean of the lowest rank of a scored driver. +-rank: mean width of"
        "\ntheir 90% intervals of ranks."
    )


if __name__ == "__main__":
    main()
