"""What a model would make of a row: logits of the positive label, never of its own training rows.

Cross-fitted in two halves; people alike in all features are in the same half, or a repeated
candidate would be judged by a model that has seen its label. The mean of the logits of gradient
boosting on codes, which finds interactions, and logistic regression on one-hot columns, which is
steadier where rows carry noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_ROWS = 60_000
"""That a half learns from: beyond, it takes longer and learns little more."""

MOST_LOGIT = 7.0
"""Of either side: beyond, a chance is not told from certainty by some ten thousand rows."""

Vector = NDArray[np.float64]


def cross_fitted(
    features: NDArray[np.int32],
    positive: NDArray[np.bool_],
    weights: Vector,
    rng: np.random.Generator,
) -> Vector:
    """Logits of the positive label of each row, (rows,), by models that did not learn from it.

    features: codes, ABSENT among them. Where a half has one label only, the logit of its rate.
    """
    _, alike = np.unique(features, axis=0, return_inverse=True)
    half = rng.integers(0, 2, int(alike.max(initial=0)) + 1)[alike.ravel()]
    seed = int(rng.integers(2**31))
    logits = np.empty(len(features))
    for this in (0, 1):
        learn, judge = np.flatnonzero(half != this), half == this
        if len(learn) > MOST_ROWS:
            learn = rng.choice(learn, MOST_ROWS, replace=False)
        if judge.any():
            logits[judge] = _fitted(
                features[learn], positive[learn], weights[learn], features[judge], seed
            )
    return logits


def _fitted(
    known: NDArray[np.int32],
    positive: NDArray[np.bool_],
    weights: Vector,
    asked: NDArray[np.int32],
    seed: int,
) -> Vector:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import OneHotEncoder

    if len(np.unique(positive)) < 2:
        rate = (float(positive.sum()) + 0.5) / (len(positive) + 1)
        return np.full(len(asked), np.log(rate / (1 - rate)))
    worth = weights * (len(weights) / weights.sum())
    boosting = HistGradientBoostingClassifier(random_state=seed)
    boosting.fit(known, positive, sample_weight=worth)
    hot = OneHotEncoder(handle_unknown="ignore")
    logistic = LogisticRegression(max_iter=200)
    logistic.fit(hot.fit_transform(known), positive, sample_weight=worth)
    found = (
        _clipped(boosting.decision_function(asked))
        + _clipped(logistic.decision_function(hot.transform(asked)))
    ) / 2
    return np.asarray(found, dtype=np.float64)


def _clipped(logits: Vector) -> Vector:
    return np.asarray(logits).clip(-MOST_LOGIT, MOST_LOGIT)
