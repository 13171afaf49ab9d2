"""Maximum-entropy weights on candidate rows so that they meet the measurements.

Minimises strength * N * KL(w || prior) + 1/2 sum (N A w - m)^2 / variance over weights w that
sum to 1: the measurements are met as closely as their noise deserves. Convex; solved in the
dual, one potential a cell (Deville and Saerndal 1992, "Calibration estimators in survey
sampling", the exponential tilting case; soft constraints as in Dudik et al. 2007, section 4).
No privacy cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import RakeConf
from twinweave.synthesis.population import NOWHERE, Population, row_cells
from twinweave.workload.measurement import Measurement

Vector = NDArray[np.float64]

MOST_STEPS = 500
"""Of L-BFGS over the priority tables alone: each takes far less than a millisecond."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Constraint:
    """Linear functionals of the weights: each row adds `amount` to one cell.

    cells: int32 (rows,), NOWHERE where the row adds nothing; amount: float64 (rows,), None
    for ones. target: (targets,), per user of the union, so that sum_i w_i amount_i over
    cell c should be target[c]; variance: of the target, in its square. priority: whether the
    rows drawn must meet it to within its noise, and not only as chance would.
    """

    name: str
    cells: NDArray[np.int32] = field(repr=False)
    target: NDArray[np.float64] = field(repr=False)
    variance: NDArray[np.float64] = field(repr=False)
    amount: NDArray[np.float64] | None = field(default=None, repr=False)
    priority: bool = False


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


def rake(wanted: Sequence[Constraint], n: int, users: float, conf: RakeConf) -> Raked:
    """Weights of n candidate rows that meet the constraints as their variances deserve.

    Few steps leave large and precise tables unmet; so the potentials of the priority tables are
    brought to their optimum at the end, given those of the others: over rows that share their
    cells in all priority tables, which are few.
    users: size of the union, what `conf.strength` is a multiple of. Deterministic.
    """
    tables = Tables(wanted, n)
    target = np.concatenate([c.target for c in wanted])
    variance = np.concatenate([c.variance for c in wanted])
    slack = conf.strength * users * variance
    potential = potentials(tables, target, slack, np.zeros(len(target)), conf.steps)
    first = [i for i, c in enumerate(wanted) if c.priority]
    if first:
        own = np.concatenate(
            [np.arange(tables.parts[i].start, tables.parts[i].stop) for i in first]
        )
        others = potential.copy()
        others[own] = 0.0
        few = strata([wanted[i] for i in first], tables.tilt(others)[0])
        potential[own] = potentials(few, target[own], slack[own], potential[own], MOST_STEPS)
    weights, _ = tables.tilt(potential)
    error = (tables.sums(weights) - target) ** 2 / variance
    misfit = {
        c.name: float(error[part].mean()) for c, part in zip(wanted, tables.parts, strict=True)
    }
    return Raked(weights=weights, effective=float(1 / (weights**2).sum()), misfit=misfit)


def potentials(tables: Tables, target: Vector, slack: Vector, start: Vector, steps: int) -> Vector:
    """The dual's optimum, or where `steps` of L-BFGS from `start` end: (targets,).

    slack: of each target, how far its potential lets it be missed.
    """
    from scipy.optimize import minimize

    # One Newton step's diagonal: potentials of about the same curvature.
    scale = 1 / np.sqrt(tables.sums(tables.base).clip(1 / tables.n) + slack)

    def dual(scaled: Vector) -> tuple[float, Vector]:
        potential = scaled * scale
        weights, log_sum = tables.tilt(potential)
        value = log_sum - potential @ target + 0.5 * slack @ potential**2
        gradient = tables.sums(weights) - target + slack * potential
        return float(value), gradient * scale

    found = minimize(
        dual,
        start / scale,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": steps, "maxcor": 20},
    )
    return np.asarray(found.x * scale)


def strata(wanted: Sequence[Constraint], weights: Vector) -> Tables:
    """The same tables over strata: rows in the same cell of each, their weights added up.

    Constraints with amounts are not allowed.
    """
    group = np.zeros(len(weights), dtype=np.int64)
    for c in wanted:
        _, group = np.unique(group * (len(c.target) + 1) + c.cells - NOWHERE, return_inverse=True)
    _, one = np.unique(group, return_index=True)
    return Tables(
        [replace(c, cells=c.cells[one]) for c in wanted],
        len(one),
        np.bincount(group, weights).astype(np.float64),
    )


class Tables:
    """The constraints' tables of weighted rows, laid end to end.

    base: the rows' weights before any constraint, sum 1; all alike where there is none.
    """

    def __init__(self, wanted: Sequence[Constraint], n: int, base: Vector | None = None) -> None:
        edges = np.cumsum([0, *(len(c.target) for c in wanted)])
        self.wanted, self.n = wanted, n
        self.base = np.full(n, 1 / n) if base is None else base
        self.parts = [slice(a, b) for a, b in pairwise(edges.tolist())]
        # One spare cell behind each table takes the rows that it does not count.
        self.cells = [
            _compact(np.where(c.cells == NOWHERE, len(c.target), c.cells)) for c in wanted
        ]

    def sums(self, weights: Vector, power: int = 1) -> Vector:
        """What the rows add to every cell, amounts raised to a power: (targets,)."""
        out = []
        for c, cells in zip(self.wanted, self.cells, strict=True):
            amount = weights if c.amount is None else weights * c.amount**power
            out.append(np.bincount(cells, amount, len(c.target) + 1)[:-1])
        return np.concatenate(out)

    def tilt(self, potential: Vector) -> tuple[Vector, float]:
        """Weights proportional to base * exp(potentials of a row's cells), and their log sum."""
        exponent = np.zeros(self.n)
        for c, cells, part in zip(self.wanted, self.cells, self.parts, strict=True):
            term = np.append(potential[part], 0.0).take(cells)
            exponent += term if c.amount is None else term * c.amount
        top = float(exponent.max())
        raw = self.base * np.exp(exponent - top)
        total = float(raw.sum())
        return raw / total, top + float(np.log(total))

    def of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], Vector]:
        """Position among all cells of what some rows add, and how much: (constraints, rows).

        Rows that a table does not count add 0, somewhere.
        """
        places, amounts = [], []
        for c, cells, part in zip(self.wanted, self.cells, self.parts, strict=True):
            cell = cells.take(rows).astype(np.int64)
            counted = cell < len(c.target)
            amounts.append(counted if c.amount is None else counted * c.amount.take(rows))
            places.append(part.start + np.where(counted, cell, 0))
        return np.stack(places), np.stack(amounts).astype(np.float64)


def _compact(cells: NDArray[np.int32]) -> NDArray[np.uint16] | NDArray[np.int32]:
    return cells.astype(np.uint16) if cells.max(initial=0) < 2**16 else cells
