"""How strongly columns depend on each other, from one noisy table, corrected for the noise.

Of two columns: `associate` (association.py). Of three: what their pairs do not say. With the
table y = mu + sampling error + noise of variance v, mu as the three pair tables have it
without a three-way interaction (iterative proportional fitting), and K the contrasts that are
zero under every log-linear model of pairs,

    q = K' ((y - mu) / mu)        covariance V = K' diag((v + mu) / mu^2) K

so that q' V^-1 q is chi-square under "no interaction", whatever the pairs: the score test of a
log-linear model (Agresti, Categorical Data Analysis, section 9.2), with the noise in its
variance. With V0, which is V without the noise, (q' V0^-1 q - tr V0^-1 V) / n estimates what the
interaction adds to Pearson's phi^2. Post-processing of measurements: no privacy cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from twinweave.workload.association import associate, evidence

Table = NDArray[np.float64]

_ROUNDS = 30
"""Of proportional fitting: a start for a test that corrects it to first order."""

_LEAST = 0.2
"""Standard deviations of the noise that every expected cell has at least: in those with less
nothing is seen, and what is divided by them must not decide."""


@dataclass(frozen=True, kw_only=True)
class Dependence:
    """phi: deviation from what lower tables say, as a share of the users (root of Pearson's
    phi^2), 0 where the noise explains it all. z: standard normal under no dependence."""

    phi: float
    z: float


def between_two(table: Table, variance: float) -> Dependence:
    """table: (r, c) noisy counts, noise of `variance` in each cell."""
    found = associate("", table, variance)
    return Dependence(phi=sqrt(2 * max(found.information, 0.0)), z=found.z)


def beyond_pairs(table: Table, variance: float) -> Dependence:
    """Of three columns, what their pairs do not say. table: (r, c, k) noisy counts."""
    contrasts = reduce(np.kron, map(_contrasts, table.shape))
    users = float(table.sum())
    if contrasts.shape[1] == 0 or users <= 0:
        return Dependence(phi=0.0, z=0.0)
    expected = _without_interaction(np.maximum(table, 0.0))
    expected = np.maximum(expected, max(1.0, _LEAST * sqrt(variance)))
    mu = expected.ravel()
    q = contrasts.T @ ((table.ravel() - mu) / mu)
    sampling = (contrasts / mu[:, None]).T @ contrasts
    noisy = (contrasts * ((variance + mu) / mu**2)[:, None]).T @ contrasts
    z, _ = evidence(float(q @ np.linalg.solve(noisy, q)), len(q))
    expectation = float(np.trace(np.linalg.solve(sampling, noisy)))
    phi_square = (float(q @ np.linalg.solve(sampling, q)) - expectation) / users
    return Dependence(phi=sqrt(max(phi_square, 0.0)), z=z)


def _contrasts(size: int) -> Table:
    """(size, size - 1): every level against the last."""
    return np.vstack([np.eye(size - 1), -np.ones((1, size - 1))])


def _without_interaction(table: Table) -> Table:
    """The table of the same three pair tables whose log has no three-way interaction."""
    fitted = np.full(table.shape, max(table.mean(), 1e-9))
    for _ in range(_ROUNDS):
        for axis in range(3):
            wanted, here = table.sum(axis=axis, keepdims=True), fitted.sum(axis=axis, keepdims=True)
            fitted = fitted * np.divide(wanted, here, out=np.zeros_like(here), where=here > 0)
    return fitted
