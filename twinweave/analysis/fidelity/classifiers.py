"""What a model makes of synthetic rows: told from real ones, and trained on in their place."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.audit.results import LEVEL, UtilityFinding
from twinweave.analysis.finding import Interval
from twinweave.tables.column import Column, Role

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

MOST_ROWS = 10_000
"""That a model is trained on or told apart; more are sampled."""
LEAST_ROWS = 30
LEAST_OF_A_KIND = 5

Codes = NDArray[np.integer[Any]]


def told_apart(used: Codes, synthetic: Codes, rng: np.random.Generator) -> UtilityFinding | None:
    """Classifier two-sample test (Lopez-Paz, Oquab 2017): the AUC with which boosted trees, fitted
    on one half, tell synthetic from real rows in the other. 0.5: not at all. None: too few."""
    n = min(len(used), len(synthetic), MOST_ROWS)
    if n < 2 * LEAST_ROWS:
        return None
    rows = np.concatenate([_sample(used, n, rng), _sample(synthetic, n, rng)])
    is_real = np.repeat([1, 0], n)
    fitted = rng.permutation(2 * n) < n
    model = _trees(rng).fit(rows[fitted], is_real[fitted])
    score = model.predict_proba(rows[~fitted])[:, 1]
    return _auc_finding(
        "told from real rows",
        is_real[~fitted],
        score,
        against=0.5,
        detail="AUC of a classifier two-sample test; 0.5: not told apart",
    )


def trained_on(
    columns: tuple[Column, ...],
    used: Codes,
    aside: Codes,
    synthetic: Codes,
    rng: np.random.Generator,
) -> list[UtilityFinding]:
    """Train on synthetic, test on the rows set aside, for every label and conversion of two
    levels; `against`: the same model trained on the rows used."""
    found = []
    for at, column in enumerate(columns):
        if column.role in (Role.LABEL, Role.CONVERSION) and len(column.levels) == 2:
            one = _trained_on(at, column.name, used, aside, synthetic, rng)
            found += [one] if one is not None else []
    return found


def _trained_on(
    at: int, name: str, used: Codes, aside: Codes, synthetic: Codes, rng: np.random.Generator
) -> UtilityFinding | None:
    known = [part[part[:, at] < 2] for part in (used, aside, synthetic)]
    if len(known[1]) < LEAST_ROWS or any(
        min(np.bincount(part[:, at], minlength=2)[:2]) < LEAST_OF_A_KIND for part in known
    ):
        return None
    truth, features = known[1][:, at], np.delete(known[1], at, axis=1)

    def scores(rows: Codes) -> NDArray[np.float64]:
        own = _sample(rows, min(len(rows), MOST_ROWS), rng)
        model = _trees(rng).fit(np.delete(own, at, axis=1), own[:, at])
        return np.asarray(model.predict_proba(features)[:, 1])

    real, made = scores(known[0]), scores(known[2])
    return _auc_finding(
        f"model of {name}, trained on synthetic rows",
        truth,
        made,
        against=auc(truth, real),
        detail="AUC on rows set aside; against: trained on the rows used",
    )


def auc(truth: NDArray[np.integer[Any]], score: NDArray[np.float64]) -> float:
    """Area under the ROC curve of a score for truth in {0, 1}: Mann and Whitney's, ties halved."""
    from scipy.stats import rankdata

    positive = truth == 1
    n, m = int(positive.sum()), int((~positive).sum())
    ranks = float(rankdata(score)[positive].sum())
    return (ranks - n * (n + 1) / 2) / (n * m)


def auc_interval(value: float, positives: int, negatives: int) -> Interval:
    """At LEVEL, by the variance of Hanley and McNeil (1982, Radiology 143)."""
    from scipy.stats import norm

    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value)
    variance += (positives - 1) * (q1 - value**2) + (negatives - 1) * (q2 - value**2)
    half = float(norm.ppf((1 + LEVEL) / 2)) * sqrt(max(variance, 0.0) / (positives * negatives))
    return max(value - half, 0.0), min(value + half, 1.0)


def _auc_finding(
    name: str,
    truth: NDArray[np.integer[Any]],
    score: NDArray[np.float64],
    *,
    against: float,
    detail: str,
) -> UtilityFinding:
    value = auc(truth, score)
    positives = int((truth == 1).sum())
    return UtilityFinding(
        name=name,
        value=value,
        interval=auc_interval(value, positives, len(truth) - positives),
        against=against,
        n=len(truth),
        detail=detail,
    )


def _sample(rows: Codes, n: int, rng: np.random.Generator) -> Codes:
    return np.asarray(rows[rng.choice(len(rows), n, replace=False)])


def _trees(rng: np.random.Generator) -> HistGradientBoostingClassifier:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=60, early_stopping=False, random_state=int(rng.integers(2**31))
    )
