"""Weights tilted by potentials of cells, and the potentials under which they meet tables.

Weights proportional to base * exp(sum of the potentials of a row's cells) have the greatest
entropy, relative to the base, of all that have their tables (Csiszar 1975, "I-divergence
geometry of probability distributions"). The dual that is minimised here is
log sum base exp(potentials) - potentials . target + 1/2 slack . potentials^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave import progress
from twinweave.synthesis.population import NOWHERE

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Vector = NDArray[np.float64]

MOST_STEPS = 200
"""Of Newton's method; a handful are usual."""

LEAST_GAIN = 1e-12
"""Of a step, in the dual, below which the optimum is found."""

DAMPING = 1e-12
"""Added to the curvature: margins that several exact tables share leave it singular."""

LEAST_LENGTH = 1e-6
"""Of a halved step, below which rounding leaves nothing to gain."""


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
        place = np.empty(self.n, dtype=np.intp)  # one array for all tables: see `tilt`
        for c, cells in zip(self.wanted, self.cells, strict=True):
            amount = weights if c.amount is None else weights * c.amount**power
            place[:] = cells
            out.append(np.bincount(place, amount, len(c.target) + 1)[:-1])
        return np.concatenate(out)

    def incidence(self) -> csr_array:
        """(targets, rows): what each row adds to each cell."""
        from scipy.sparse import csr_array

        places, amounts = self.of(np.arange(self.n))
        columns = np.broadcast_to(np.arange(self.n), places.shape)
        shape = (self.parts[-1].stop, self.n)
        return csr_array((amounts.ravel(), (places.ravel(), columns.ravel())), shape=shape)

    def tilt(self, potential: Vector) -> tuple[Vector, float]:
        """Weights proportional to base * exp(potentials of a row's cells), and their log sum."""
        exponent = np.zeros(self.n)
        # A fresh array for each table would be fetched from the system and given back each time,
        # which takes longer than what is done with it. Cells are in range: nothing is clipped.
        term = np.empty(self.n)
        for c, cells, part in zip(self.wanted, self.cells, self.parts, strict=True):
            np.append(potential[part], 0.0).take(cells, out=term, mode="clip")
            if c.amount is not None:
                term *= c.amount
            exponent += term
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

    done = count(1)
    progress.report("rake", 0, steps)
    found = minimize(
        dual,
        start / scale,
        jac=True,
        method="L-BFGS-B",
        callback=lambda _: progress.report("rake", next(done), steps),
        options={"maxiter": steps, "maxcor": 20},
    )
    return np.asarray(found.x * scale)


def optimum(tables: Tables, target: Vector, slack: Vector, start: Vector) -> Vector:
    """The dual's optimum by Newton's method with halved steps: (targets,).

    For few rows: a step takes time as targets cubed, and as rows times tables squared.
    """
    from scipy.linalg import cho_factor, cho_solve

    at = tables.incidence()
    weighted, row = at.copy(), at.tocoo().col
    potential, value = start.copy(), _dual(tables, target, slack, start)
    for _ in range(MOST_STEPS):
        weights, _ = tables.tilt(potential)
        sums = at @ weights
        slope = sums - target + slack * potential
        weighted.data = at.data * weights[row]
        curvature = (weighted @ at.T).toarray() - np.outer(sums, sums) + np.diag(slack + DAMPING)
        step = -cho_solve(cho_factor(curvature), slope)
        gain = float(-slope @ step)
        if gain < LEAST_GAIN:
            break
        length = 1.0
        while (after := _dual(tables, target, slack, potential + length * step)) > (
            value - 0.1 * length * gain
        ):
            length /= 2
            if length < LEAST_LENGTH:
                return potential
        potential, value = potential + length * step, after
    return potential


def _dual(tables: Tables, target: Vector, slack: Vector, potential: Vector) -> float:
    return float(tables.tilt(potential)[1] - potential @ target + 0.5 * slack @ potential**2)


def _compact(cells: NDArray[np.int32]) -> NDArray[np.uint16] | NDArray[np.int32]:
    return cells.astype(np.uint16) if cells.max(initial=0) < 2**16 else cells
