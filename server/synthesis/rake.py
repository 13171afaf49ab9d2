"""Maximum-entropy weights on candidate rows so that they meet the measurements.

Minimises strength * KL(w || prior) + 1/2 sum (N A w - m)^2 / variance over weights w that
sum to 1: the measurements are met as closely as their noise deserves. Convex; solved in the
dual, one potential a cell (Deville and Saerndal 1992, "Calibration estimators in survey
sampling", the exponential tilting case; soft constraints as in Dudik et al. 2007, section 4).
Then n rows are drawn with the weights by systematic resampling. No privacy cost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from server.synthesis.targets import NOWHERE, row_cells
from twinweave.errors import ConfigError
from twinweave.generators.layout import Layout, Rows
from twinweave.parsing import STRICT
from twinweave.privacy.measurement import Measurement


@dataclass(frozen=True, kw_only=True)
class RakeConf:
    """candidates: rows offered for each row wanted. strength: how many users' worth of
    evidence the candidates' own distribution counts. steps: of L-BFGS."""

    __pydantic_config__ = STRICT

    candidates: float = 4.0
    strength: float = 1.0
    steps: int = 60

    def __post_init__(self) -> None:
        if self.candidates < 1 or self.strength <= 0 or self.steps < 0:
            raise ConfigError("rake", "needs candidates >= 1, strength > 0 and steps >= 0",
                              "See conf/.")  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Constraint:
    """Linear functionals of the weights: each row adds `amount` to one cell.

    cells: int32 (rows,), NOWHERE where the row adds nothing; amount: float64 (rows,), None
    for ones. target: (targets,), per user of the union, so that sum_i w_i amount_i over
    cell c should be target[c]; variance: of the target, in its square.
    """

    name: str
    cells: NDArray[np.int32] = field(repr=False)
    target: NDArray[np.float64] = field(repr=False)
    variance: NDArray[np.float64] = field(repr=False)
    amount: NDArray[np.float64] | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Raked:
    """Weights of the candidates: float64 (rows,), sum 1. effective: 1 / sum(weights**2).

    misfit: for each constraint, chi-square over its cells (about 1: met up to the noise).
    """

    weights: NDArray[np.float64] = field(repr=False)
    effective: float
    misfit: dict[str, float]
    cpu_seconds: float


def constraints(
    measurements: Sequence[Measurement], layout: Layout, rows: Rows, users: float
) -> list[Constraint]:
    """The count measurements as constraints on the rows; weighted ones are left aside.

    In a cross table the cell [absent, absent] is no target.
    """
    out = []
    for m in measurements:
        if m.query.weight is not None:
            continue
        values = m.values.reshape(-1) / users
        target = values[:-1] if m.query.is_cross else values
        out.append(Constraint(name=m.query.name, cells=row_cells(m.query, layout, rows),
                              target=target, variance=np.full(len(target), m.variance / users**2)))  # fmt: skip
    return out


def rake(wanted: Sequence[Constraint], n: int, users: float, conf: RakeConf) -> Raked:
    """Weights of n candidate rows that meet the constraints as their variances deserve.

    users: the number that `conf.strength` is relative to. Deterministic.
    """
    from scipy.optimize import minimize
    from scipy.sparse import csc_matrix

    started = time.process_time()
    target = np.concatenate([c.target for c in wanted])
    variance = np.concatenate([c.variance for c in wanted])
    incidence = csc_matrix(_incidence(wanted, n, len(target)))
    start = np.asarray(incidence.mean(axis=1)).ravel()
    slack = conf.strength * variance
    scale = 1 / np.sqrt(start.clip(1 / n) + slack)

    def dual(scaled: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        potential = scaled * scale
        weights, log_mean = _tilt(incidence, potential)
        value = log_mean - potential @ target + 0.5 * slack @ potential**2
        gradient = incidence @ weights - target + slack * potential
        return float(value), np.asarray(gradient * scale, dtype=np.float64)

    found = minimize(dual, np.zeros(len(target)), jac=True, method="L-BFGS-B",
                     options={"maxiter": conf.steps, "maxcor": 20})  # fmt: skip
    weights, _ = _tilt(incidence, found.x * scale)
    error = (incidence @ weights - target) ** 2 / variance
    edges = np.cumsum([0, *(len(c.target) for c in wanted)])
    misfit = {c.name: float(error[a:b].mean())
              for c, a, b in zip(wanted, edges[:-1], edges[1:], strict=True)}  # fmt: skip
    return Raked(weights=weights, effective=float(1 / (weights**2).sum()), misfit=misfit,
                 cpu_seconds=time.process_time() - started)  # fmt: skip


def _incidence(wanted: Sequence[Constraint], n: int, cells: int):  # type: ignore[no-untyped-def]
    """Sparse float32 (cells, n): what each row adds to each cell."""
    from scipy.sparse import coo_matrix

    offset, rows, columns, values = 0, [], [], []
    for c in wanted:
        counted = np.flatnonzero((c.cells != NOWHERE) & (c.cells < len(c.target)))
        rows.append((c.cells[counted] + offset).astype(np.int32))
        columns.append(counted.astype(np.int32))
        amount = np.ones(len(counted)) if c.amount is None else c.amount[counted]
        values.append(amount.astype(np.float32))
        offset += len(c.target)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return coo_matrix(entries, shape=(cells, n))


def _tilt(incidence, potential):  # type: ignore[no-untyped-def]
    """Weights proportional to exp(potentials of a row's cells), and log of their mean."""
    exponent = incidence.T @ potential.astype(np.float32)
    top = float(exponent.max(initial=0))
    raw = np.exp((exponent - top).astype(np.float64))
    return raw / raw.sum(), top + float(np.log(raw.mean()))


def resample(
    weights: NDArray[np.float64], rows: Rows, n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Indices of n rows by systematic resampling in the order of the rows' codes.

    A row of weight w appears floor(n w) or ceil(n w) times (Kitagawa 1996, appendix); in
    sorted order the low-order tables stay closer than by independent draws.
    """
    order = np.lexsort(np.column_stack([rows.codes, rows.presence]).T)
    edges = np.cumsum(weights[order]) * n
    edges[-1] = n
    picks = np.searchsorted(edges, np.arange(n) + rng.random(), side="right")
    return np.asarray(rng.permutation(order[picks.clip(max=len(order) - 1)]))
