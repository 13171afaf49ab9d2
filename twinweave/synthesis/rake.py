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
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import RakeConf
from twinweave.synthesis.population import NOWHERE, row_cells
from twinweave.workload.measurement import Measurement

Vector = NDArray[np.float64]


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


def rake(wanted: Sequence[Constraint], n: int, users: float, conf: RakeConf) -> Raked:
    """Weights of n candidate rows that meet the constraints as their variances deserve.

    users: size of the union, what `conf.strength` is a multiple of. Deterministic.
    """
    from scipy.optimize import minimize

    tables = Tables(wanted, n)
    target = np.concatenate([c.target for c in wanted])
    variance = np.concatenate([c.variance for c in wanted])
    slack = conf.strength * users * variance
    # One Newton step's diagonal: potentials of about the same curvature.
    scale = 1 / np.sqrt(tables.sums(np.full(n, 1 / n)).clip(1 / n) + slack)

    def dual(scaled: Vector) -> tuple[float, Vector]:
        potential = scaled * scale
        weights, log_mean = tables.tilt(potential)
        value = log_mean - potential @ target + 0.5 * slack @ potential**2
        gradient = tables.sums(weights) - target + slack * potential
        return float(value), gradient * scale

    found = minimize(
        dual,
        np.zeros(len(target)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": conf.steps, "maxcor": 20},
    )
    weights, _ = tables.tilt(found.x * scale)
    error = (tables.sums(weights) - target) ** 2 / variance
    misfit = {
        c.name: float(error[part].mean()) for c, part in zip(wanted, tables.parts, strict=True)
    }
    return Raked(weights=weights, effective=float(1 / (weights**2).sum()), misfit=misfit)


class Tables:
    """The constraints' tables of weighted rows, laid end to end."""

    def __init__(self, wanted: Sequence[Constraint], n: int) -> None:
        edges = np.cumsum([0, *(len(c.target) for c in wanted)])
        self.wanted, self.n = wanted, n
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
        """Weights proportional to exp(potentials of a row's cells), and the log of their mean."""
        exponent = np.zeros(self.n)
        for c, cells, part in zip(self.wanted, self.cells, self.parts, strict=True):
            term = np.append(potential[part], 0.0).take(cells)
            exponent += term if c.amount is None else term * c.amount
        top = float(exponent.max())
        raw = np.exp(exponent - top)
        return raw / raw.sum(), top + float(np.log(raw.mean()))

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
