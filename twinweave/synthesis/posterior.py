"""What the noisy tables leave open about the people: draws of whole populations.

The model is the maximum-entropy one over some columns alone, given every measured table summed
over the other columns: NAPSU-MQ's (Räisä, Jälkö, Kaski, Honkela 2023, "Noise-aware statistical
inference with differentially private synthetic data", section 3). Differs: no MCMC over the
potentials. A draw fits the tables with their noise drawn once more on top: perturb and
maximise, which for a Gaussian likelihood under a flat prior is a draw of the posterior
(Papandreou, Yuille 2010, "Gaussian sampling by local perturbations"; exact where no count is
held back at zero). No generator takes part: what it learnt has no known error. Post-processing:
no privacy cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.population import Population, population, row_cells
from twinweave.synthesis.rake import sizes
from twinweave.synthesis.tilting import Constraint, Tables, optimum
from twinweave.tables.contingency import ABSENT, Axis
from twinweave.tables.schema import JointSchema
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query

MOST_CELLS = 200_000
"""Combinations of the columns' levels and of presence, at most."""

STRENGTH = 1e-3
"""What the even distribution counts for beside the tables, in multiples of the union's size."""

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """Every kind of person there can be, and what was measured of how many there are.

    kinds: codes of the columns and presence, a row each. n: people of the union. start: the
    potentials that fit the tables as they were measured.
    """

    kinds: Rows = field(repr=False)
    tables: Tables = field(repr=False)
    target: Vector = field(repr=False)
    variance: Vector = field(repr=False)
    n: int
    start: Vector = field(repr=False)

    def shares(self, rng: np.random.Generator) -> Vector:
        """One draw of the kinds' shares of the union, given the noisy tables: (kinds,)."""
        noise = rng.normal(0, np.sqrt(self.variance))
        return _shares(self.tables, self.target + noise, self.variance, self.n, self.start)

    def people(self, counts: NDArray[np.int64]) -> Rows:
        """As many rows of each kind."""
        return self.kinds.take(np.repeat(np.arange(len(counts)), counts))


def posterior(
    schema: JointSchema,
    measurements: Sequence[Measurement],
    party_sizes: Mapping[str, int],
    columns: Sequence[str],
) -> Posterior:
    """Of the joint distribution of some columns and of presence. party_sizes: public.

    Raises ConfigError where the columns have too many levels together.
    """
    whole = UnionLayout.of(schema)
    people = population(whole.parties, party_sizes, measurements, whole.pools)
    at = [whole.names.index(name) for name in columns]
    layout = replace(
        whole,
        names=tuple(columns),
        sizes=tuple(whole.sizes[i] for i in at),
        holders=tuple(whole.holders[i] for i in at),
        roles=(),
    )
    kinds, base = _kinds(layout, people)
    users = float(people.users.sum())
    wanted = _constraints(schema, layout, measurements, kinds, users)
    wanted += sizes(people, layout, kinds)
    tables = Tables(wanted, len(kinds), base)
    target = np.concatenate([c.target for c in wanted])
    variance = np.concatenate([c.variance for c in wanted])
    start = _fitted(tables, target, variance, users, np.zeros(len(target)))
    return Posterior(
        kinds=kinds,
        tables=tables,
        target=target,
        variance=variance,
        n=people.size,
        start=start,
    )


def _fitted(
    tables: Tables, target: Vector, variance: Vector, users: float, start: Vector
) -> Vector:
    return optimum(tables, target, STRENGTH * users * variance, start)


def _shares(
    tables: Tables, target: Vector, variance: Vector, users: float, start: Vector
) -> Vector:
    return tables.tilt(_fitted(tables, target, variance, users, start))[0]


def _kinds(layout: UnionLayout, people: Population) -> tuple[Rows, Vector]:
    """All combinations of codes under each presence that occurs, and an even share of each."""
    real = people.users >= min(1.0, float(people.users.max()))
    codes: list[NDArray[np.int32]] = []
    presence, base = [], []
    for pattern, users in zip(people.patterns[real], people.users[real], strict=True):
        seen = layout.visible(pattern[None, :])[0]
        of = tuple(np.array(layout.sizes)[seen].tolist())
        count = Axis(sizes=of).size
        if count + sum(len(own) for own in codes) > MOST_CELLS:
            raise ConfigError(
                "columns",
                f"have more than {MOST_CELLS:,} combinations of levels together",
                "Name fewer columns, or such with fewer levels.",
            )
        own = np.full((count, len(layout.names)), ABSENT, dtype=np.int32)
        own[:, seen] = Axis(sizes=of).codes()
        own = own[layout.rules.possible(layout.names, own)]
        codes.append(own)
        presence.append(np.repeat(pattern[None, :], len(own), axis=0))
        base.append(np.full(len(own), users / max(len(own), 1)))
    share = np.concatenate(base)
    rows = Rows(codes=np.concatenate(codes), presence=np.concatenate(presence))
    return rows, share / share.sum()


def _constraints(
    schema: JointSchema,
    layout: UnionLayout,
    measurements: Sequence[Measurement],
    kinds: Rows,
    users: float,
) -> list[Constraint]:
    """Every table of counts, summed over the columns that are not asked for.

    Of those that are over the same columns then, the mean weighted by precision.
    """
    sums: dict[Query, tuple[Vector, Vector]] = {}
    for m in measurements:
        if m.query.weight is not None or any(side.groups for side in m.query.sides):
            continue
        query = _over(m.query, layout.names)
        if not query.is_cross and not query.columns:
            continue  # a party's size, which is public
        table = m.table(schema).over(query.columns)
        values, variance = (table.cells.opened(x) for x in (table.values, table.variances))
        weight = 1 / np.maximum(variance, 1e-9)
        top, bottom = sums.get(query, (np.zeros(len(values)), np.zeros(len(values))))
        sums[query] = top + weight * values, bottom + weight
    return [
        Constraint(
            name=query.name,
            cells=row_cells(query, layout, kinds),
            target=top / bottom / users,
            variance=1 / bottom / users**2,
        )
        for query, (top, bottom) in sums.items()
    ]


def _over(query: Query, names: Sequence[str]) -> Query:
    """The query over some of its columns."""
    sides = tuple(
        replace(side, columns=tuple(c for c in side.columns if c in names)) for side in query.sides
    )
    return replace(query, sides=sides, priority=False)
