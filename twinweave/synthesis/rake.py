"""Maximum-entropy weights on candidate rows so that they meet the measurements.

Minimises strength * N * KL(w || prior) + 1/2 sum (N A w - m)^2 / variance over weights w that
sum to 1: the measurements are met as closely as their noise deserves. Convex; solved in the
dual, one potential a cell (Deville and Saerndal 1992, "Calibration estimators in survey
sampling", the exponential tilting case; soft constraints as in Dudik et al. 2007, section 4).
No privacy cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import RakeConf
from twinweave.synthesis.population import NOWHERE, Population, row_cells
from twinweave.synthesis.tilting import Constraint, Tables, Vector, optimum, potentials, strata
from twinweave.workload.measurement import Measurement


@dataclass(frozen=True, kw_only=True, eq=False)
class Raked:
    """Weights of the candidates: float64 (rows,), sum 1. effective: 1 / sum(weights**2).

    misfit: for each constraint, chi-square over its cells (about 1: met up to the noise).
    """

    weights: NDArray[np.float64] = field(repr=False)
    effective: float
    misfit: dict[str, float]


def constraints(
    measurements: Sequence[Measurement], layout: UnionLayout, rows: Rows, users: float
) -> list[Constraint]:
    """The opened cells of count measurements as constraints; weighted ones are left aside."""
    out = []
    for m in measurements:
        if m.query.weight is not None:
            continue
        table = m.by_sides
        target = table.cells.opened(table.values) / users
        variance = np.full(len(target), m.variance / users**2)
        cells = row_cells(m.query, layout, rows)
        out.append(
            Constraint(
                name=m.query.name,
                cells=cells,
                target=target,
                variance=variance,
                priority=m.query.priority,
            )
        )
    return out


def sizes(people: Population, layout: UnionLayout, rows: Rows) -> list[Constraint]:
    """Every party's public table size as a constraint, met to a person."""
    users = float(people.users.sum())
    return [
        Constraint(
            name=f"rows of {party}",
            cells=np.where(rows.presence[:, i], 0, NOWHERE).astype(np.int32),
            target=np.array([people.users @ people.patterns[:, i] / users]),
            variance=np.array([1 / users**2]),
            priority=True,
        )
        for i, party in enumerate(layout.parties)
    ]


def rake(
    wanted: Sequence[Constraint],
    n: int,
    users: float,
    conf: RakeConf,
    base: Vector | None = None,
) -> Raked:
    """Weights of n candidate rows that meet the constraints as their variances deserve.

    Few steps leave large and precise tables unmet; so the potentials of the priority tables are
    brought to their optimum at the end, given those of the others: over rows that share their
    cells in all priority tables, which are few.
    Where the candidates contradict a table beyond its noise (a combination that hardly occurs,
    say, and that they have), their own distribution is trusted less for it.
    users: size of the union, what `conf.strength` is a multiple of. base: weights that the
    candidates have before, sum 1; all alike where None. Deterministic.
    """
    tables = Tables(wanted, n, base)
    target = np.concatenate([c.target for c in wanted])
    variance = np.concatenate([c.variance for c in wanted])
    slack = conf.strength * users * variance
    potential = potentials(tables, target, slack, np.zeros(len(target)), conf.steps)
    slack, contradicted = _doubted(tables, target, variance, slack, potential)
    if contradicted:
        # Half as many: it starts where the first ended. As many again met the tables no better.
        potential = potentials(tables, target, slack, potential, conf.steps // 2)
    first = [i for i, c in enumerate(wanted) if c.priority]
    if first:
        own = np.concatenate(
            [np.arange(tables.parts[i].start, tables.parts[i].stop) for i in first]
        )
        others = potential.copy()
        others[own] = 0.0
        few = strata([wanted[i] for i in first], tables.tilt(others)[0])
        potential[own] = optimum(few, target[own], slack[own], potential[own])
        less, _ = _doubted(tables, target, variance, slack, potential)
        if (less[own] < slack[own]).any():
            potential[own] = optimum(few, target[own], less[own], potential[own])
    weights, _ = tables.tilt(potential)
    found = _misfit(tables, target, variance, weights)
    misfit = {c.name: own for c, own in zip(wanted, found, strict=True)}
    return Raked(weights=weights, effective=float(1 / (weights**2).sum()), misfit=misfit)


CONTRADICTED = 2.0
"""Chi-square over a table's cells beyond which it is not by its noise that it is not met."""

MOST_DOUBT = 10.0
"""How many times less the candidates are trusted, at most."""


def _doubted(
    tables: Tables, target: Vector, variance: Vector, slack: Vector, potential: Vector
) -> tuple[Vector, bool]:
    """The slack, less by their misfit for tables that these weights contradict; whether any are."""
    found = _misfit(tables, target, variance, tables.tilt(potential)[0])
    out = slack.copy()
    for part, misfit in zip(tables.parts, found, strict=True):
        if misfit > CONTRADICTED:
            out[part] /= min(misfit, MOST_DOUBT)
    return out, max(found) > CONTRADICTED


def _misfit(tables: Tables, target: Vector, variance: Vector, weights: Vector) -> list[float]:
    """Chi-square over its cells, of each table of the weighted rows."""
    error = (tables.sums(weights) - target) ** 2 / variance
    return [float(error[part].mean()) for part in tables.parts]
