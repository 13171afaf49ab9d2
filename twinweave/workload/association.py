"""How strongly two columns are associated, from one noisy table, corrected for the noise.

The table is N = n * pi + sampling error + noise, the noise of known variance. Its deviations
from independence, D_ij = N_ij - R_i C_j / N with the noisy margins R and C, are to first order
linear in both errors: D = A E B', where A = I - p 1', B = I - q 1', p = R / N, q = C / N. So
under independence the covariance of D is known:

    S = v (A diag(a) A') x (B diag(b) B') + N (diag(p) - p p') x (diag(q) - q q')

(x: Kronecker product; v: variance of a cell's noise; a, b: cells that were pooled into a row or
a column, see `_pooled`). Two numbers follow.

Information. Pearson's X2 = sum D_ij^2 / (N p_i q_j) = D' W D estimates N phi^2, and mutual
information is phi^2 / 2 nats to second order. But X2 is biased upward by tr(W S), of which the
noise's part grows with the number of small cells: without the correction a column of many rare
levels looks informative. (D' W D - tr(W S)) / 2N is unbiased to first order; it is negative half
of the time when there is nothing.

Evidence. D' S^-1 D (each axis's last row left out, as rows and columns of D add up to zero) is
chi-square with (r-1)(c-1) degrees of freedom under independence: the best weighting of the cells
for a test, and where noise dwarfs sampling, unlike X2, not led by the rarest cell.

Sources: Pearson's X2 and phi^2, e.g. Agresti, Categorical Data Analysis, section 3.2; its
distribution under noise, Gaboardi, Lim, Rogers, Vadhan 2016 (arXiv 1602.03090), section 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

CLEAR = 5.0
"""A level is looked at by itself if its noisy total is so many standard deviations above zero."""


@dataclass(frozen=True, kw_only=True)
class Association:
    """Of a column with a target, among the users whose both cells are known.

    information: mutual information in nats, to second order, unbiased, so possibly negative.
    standard_error: its own, of noise and sampling together.
    z, p_value: evidence against independence; z is standard normal under independence.
    df: degrees of freedom; 0 where the noise hides all but one level, and nothing can be said
        (then information, standard_error and z are 0, p_value 1).
    users: noisy number of users the table counts.
    """

    target: str
    information: float
    standard_error: float
    z: float
    p_value: float
    df: int
    users: float


def associate(target: str, values: Matrix, variance: float) -> Association:
    """Association of a table's two axes. values: (r, c) noisy counts, noise of `variance` each."""
    t, a, b = _pooled(np.asarray(values, dtype=np.float64), variance)
    df = (t.shape[0] - 1) * (t.shape[1] - 1)
    n = float(t.sum())
    if df == 0:
        return Association(
            target=target, information=0.0, standard_error=0.0, z=0.0, p_value=1.0, df=0, users=n
        )
    rows, columns = t.sum(axis=1), t.sum(axis=0)
    p, q = rows / n, columns / n
    deviation = (t - np.outer(rows, columns) / n).ravel()
    cov = _covariance(n, p, q, variance, a, b)
    weight = 1 / (n * np.outer(p, q).ravel())
    weighted = weight[:, None] * cov
    pull = weight * deviation
    spread = float(np.einsum("ij,ji->", weighted, weighted))
    # Var(D'WD) = 2 tr(WSWS) + 4 d'WSWd for true deviations d; D'WSWD overshoots by tr(WSWS).
    total = max(2 * spread, 4 * float(pull @ cov @ pull) - 2 * spread)
    z, p_value = evidence(_wald(deviation, cov, t.shape), df)
    return Association(
        target=target,
        information=(float(pull @ deviation) - float(np.trace(weighted))) / (2 * n),
        standard_error=math.sqrt(total) / (2 * n),
        z=z,
        p_value=p_value,
        df=df,
        users=n,
    )


def any_of(zs: Sequence[float]) -> tuple[float, float]:
    """(z, p) against "no association with any target": Sidak's correction of the largest z."""
    from scipy.special import log_ndtr

    log_p = float(log_ndtr(-max(zs)))
    if log_p > -30:
        p = -math.expm1(len(zs) * math.log1p(-math.exp(log_p)))
        return _z_of_log(math.log(p)), p
    log_p += math.log(len(zs))
    return _z_of_log(log_p), math.exp(log_p)


def _pooled(t: Matrix, variance: float) -> tuple[Matrix, Matrix, Matrix]:
    """The table with lost levels merged, and how many cells each row and column is made of.

    A level whose noisy total is within CLEAR standard deviations of zero has no proportion to
    divide by: it joins the next least clear one, until all are clear or one is left.
    """
    a, b = np.ones(t.shape[0]), np.ones(t.shape[1])
    t, a = _merged(t, a, variance * b.sum())
    columns, b = _merged(t.T, b, variance * a.sum())
    return columns.T, a, b


def _merged(t: Matrix, made_of: Matrix, variance: float) -> tuple[Matrix, Matrix]:
    """variance: of the total of a row made of one. The + 1: no row of no users, without noise."""
    while len(t) > 1:
        clear = t.sum(axis=1) / np.sqrt(variance * made_of + 1)
        least, next_ = np.argsort(clear, kind="stable")[:2]
        if clear[least] >= CLEAR:
            break
        t, made_of = t.copy(), made_of.copy()
        t[next_] += t[least]
        made_of[next_] += made_of[least]
        t, made_of = np.delete(t, least, axis=0), np.delete(made_of, least)
    return t, made_of


def _covariance(n: float, p: Matrix, q: Matrix, variance: float, a: Matrix, b: Matrix) -> Matrix:
    """S of the module's text: (r c, r c)."""
    centre_p = np.eye(len(p)) - p[:, None]
    centre_q = np.eye(len(q)) - q[:, None]
    noise = np.kron((centre_p * a) @ centre_p.T, (centre_q * b) @ centre_q.T)
    sampling = np.kron(np.diag(p) - np.outer(p, p), np.diag(q) - np.outer(q, q))
    return np.asarray(variance * noise + n * sampling)


def _wald(deviation: Matrix, cov: Matrix, shape: tuple[int, ...]) -> float:
    free = np.zeros(shape, dtype=bool)
    free[:-1, :-1] = True
    at = np.flatnonzero(free.ravel())
    d = deviation[at]
    return float(d @ np.linalg.solve(cov[np.ix_(at, at)], d))


def evidence(statistic: float, df: int) -> tuple[float, float]:
    """(z, p) of a chi-square statistic; z stays finite and ordered where p underflows."""
    from scipy.special import gammaincc

    half = max(statistic, 0.0) / 2
    p = float(gammaincc(df / 2, half))
    if p > 1e-290:
        return _z_of_log(math.log(p)), p
    # The leading term of the incomplete gamma function, its asymptotic series cut after one.
    return _z_of_log((df / 2 - 1) * math.log(half) - half - math.lgamma(df / 2)), p


def _z_of_log(log_p: float) -> float:
    """The standard normal's upper quantile; p = 1 is as far below zero as doubles reach."""
    from scipy.special import ndtri_exp

    return float(-ndtri_exp(min(log_p, -1e-16)))
