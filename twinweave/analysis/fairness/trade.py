"""What fair labels cost: a model trained on fair rows beside one trained on rows as measured.

Both are judged on the same people with their labels as measured, none of whom has the features of
a row that either has learned from: accuracy, and the differences between groups by fairlearn's
definitions. Synthetic rows alone: no privacy cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.fairness.audit import (
    LEVEL,
    MIN_ROWS,
    groups_of,
    odds_difference,
    opportunity_difference,
    parity_difference,
    table_of,
)
from twinweave.analysis.finding import Finding
from twinweave.generators.union import Rows
from twinweave.tables.contingency import ABSENT
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import FairnessConf


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A model on people with their labels as measured. columns: whose groups are compared."""

    columns: tuple[str, ...]
    parity: Finding | None
    odds: Finding | None
    opportunity: Finding | None


@dataclass(frozen=True, kw_only=True)
class Trade:
    """rows: people that both models are judged on. accuracy, differences: of the model trained on
    rows as measured (before), and on fair ones (after)."""

    rows: int
    accuracy_before: float
    accuracy_after: float
    before: tuple[Judged, ...]
    after: tuple[Judged, ...]


def trade(
    schema: JointSchema,
    conf: FairnessConf,
    original: Rows,
    fair: Rows,
    *,
    k: int,
    seed: int,
    worth: float = 1.0,
) -> Trade | None:
    """None with too few rows, or with one label only. worth: effective over actual rows."""
    rng = np.random.default_rng([seed, 10])
    used = [schema.names.index(c) for c in (conf.label, *conf.sensitive)]
    positive = schema.column(conf.label).labels.index(conf.positive)
    measured, made = (r.codes[(r.codes[:, used] != ABSENT).all(axis=1)] for r in (original, fair))
    features = [np.delete(codes, used[0], axis=1) for codes in (measured, made)]
    _, alike = np.unique(np.concatenate(features), axis=0, return_inverse=True)
    learn = (rng.random(int(alike.max(initial=0)) + 1) < 0.5)[alike.ravel()]
    halves = learn[: len(measured)], learn[len(measured) :]
    labels = [codes[:, used[0]] == positive for codes in (measured, made)]
    judged = ~halves[0]
    parts = [y[h] for y, h in zip(labels, halves, strict=True)] + [labels[0][judged]]
    if any(len(part) < MIN_ROWS or len(np.unique(part)) < 2 for part in parts):
        return None
    state = int(rng.integers(2**31))
    decided = [
        _decisions(x[h], y[h], features[0][judged], state)
        for x, y, h in zip(features, labels, halves, strict=True)
    ]
    actual = labels[0][judged]
    groupings: list[tuple[str, ...]] = [(c,) for c in conf.sensitive]
    if len(conf.sensitive) > 1:
        groupings.append(conf.sensitive)

    def differences(predicted: NDArray[np.bool_]) -> tuple[Judged, ...]:
        return tuple(
            _judged(schema, measured[judged], columns, actual, predicted, k, worth, rng)
            for columns in groupings
        )

    return Trade(
        rows=len(actual),
        accuracy_before=float((decided[0] == actual).mean()),
        accuracy_after=float((decided[1] == actual).mean()),
        before=differences(decided[0]),
        after=differences(decided[1]),
    )


def _decisions(
    features: NDArray[np.int32],
    labels: NDArray[np.bool_],
    asked: NDArray[np.int32],
    state: int,
) -> NDArray[np.bool_]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    learner = HistGradientBoostingClassifier(random_state=state).fit(features, labels)
    return np.asarray(learner.predict_proba(asked)[:, 1] >= 0.5)


def _judged(
    schema: JointSchema,
    codes: NDArray[np.int32],
    columns: Sequence[str],
    actual: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    k: int,
    worth: float,
    rng: np.random.Generator,
) -> Judged:
    groups, said = groups_of(schema, codes, columns)
    table = table_of(groups, actual, predicted, len(said))
    return Judged(
        columns=tuple(columns),
        parity=parity_difference(table, k, worth, LEVEL, rng),
        odds=odds_difference(table, k, worth, LEVEL, rng),
        opportunity=opportunity_difference(table, k, worth, LEVEL, rng),
    )
