"""Fairness audit of synthetic rows: it sees nothing else, so it costs no privacy.

For every sensitive column and their intersection: demographic parity difference of the
synthetic labels, and demographic parity, equalised odds and equal opportunity differences of
models trained on one half of the synthetic rows and judged on the other, by fairlearn's
definitions; beside the parity difference of the real data as the noisy sensitive x label table
has it.

The models are scikit-learn's HistGradientBoosting on the rows' codes, at threshold 1/2: once
with the sensitive columns among the features, as a naive user would train it, and once
without, since leaving them out does not make a model fair.

Intervals on synthetic rows say how well the rows tell the difference, not the noise of the
measurements they were made from; the measured difference has that in its own interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.fairness.look_alikes import LookAlike, look_alikes
from twinweave.analysis.fairness.measured import MeasuredParity, measured_parity
from twinweave.analysis.fairness.spread import multinomial, spread
from twinweave.analysis.finding import Finding
from twinweave.generators.union import Rows
from twinweave.tables.column import MISSING
from twinweave.tables.contingency import ABSENT, Axis, Index
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import FairnessConf
from twinweave.workload.measurement import Measurement

MODEL = "HistGradientBoosting, trained on half of the synthetic rows, judged on the other half"
LEVEL = 0.95
"""Of every interval."""

MIN_ROWS = 100
"""Below this no model is trained."""

Bools = NDArray[np.bool_]
Codes = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Group:
    """rows: synthetic, of the group; rate: of them with the positive label."""

    name: str
    rows: int
    rate: float


@dataclass(frozen=True, kw_only=True)
class GroupRates:
    """A model on a group's judged rows: rate of positive predictions, among all of them, among
    those with the positive label, and among the others; None with too few of such rows."""

    name: str
    rows: int
    selected: float
    true_positive: float | None
    false_positive: float | None


@dataclass(frozen=True, kw_only=True)
class ModelFairness:
    """A model's differences between the groups; None where fewer than two groups are shown.

    odds: the larger of the true and false positive rates' differences; opportunity: that of the
    true ones alone. groups: its rates in each. left_out: groups that have too few judged rows for
    a rate, with the rate: "c (true positive rate)".
    """

    with_sensitive: bool
    parity: Finding | None
    odds: Finding | None
    opportunity: Finding | None
    groups: tuple[GroupRates, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GroupFairness:
    """One sensitive column, or the intersection of all.

    label_parity: of the synthetic labels. measured_parity: of the real data, its interval
    the privacy noise alone; None where no table tells. measured_left_out: groups that it does
    not compare, too few beside the noise. suppressed: groups of fewer than k synthetic rows, in
    no difference of them. Of one column's levels both name also those without any row.
    """

    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    suppressed: tuple[str, ...]
    label_parity: Finding | None
    measured_parity: Finding | None
    models: tuple[ModelFairness, ...]
    measured_left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FairnessReport:
    """rows: those with label and sensitive columns. auc: of each model, on the judging half.

    level: of every interval. look_alikes: columns that may be sensitive too, to be confirmed.
    """

    label: str
    positive: str
    rows: int
    k: int
    level: float
    model: str
    auc: dict[str, float]
    audits: tuple[GroupFairness, ...]
    notes: tuple[str, ...]
    look_alikes: tuple[LookAlike, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Model:
    with_sensitive: bool
    predicted: Bools


def audit(
    schema: JointSchema,
    conf: FairnessConf,
    rows: Rows,
    measurements: Sequence[Measurement],
    *,
    k: int,
    seed: int,
    effective: float | None = None,
) -> FairnessReport:
    """Audit the synthetic rows whose label and sensitive columns are not absent.

    effective: what all rows are worth as independent ones, where raking repeats some.
    A missing label is not positive; a missing sensitive value is a group of its own.
    """
    rng = np.random.default_rng([seed, 5])
    used = [schema.names.index(c) for c in (conf.label, *conf.sensitive)]
    codes = rows.codes[(rows.codes[:, used] != ABSENT).all(axis=1)]
    labels = codes[:, used[0]] == schema.column(conf.label).labels.index(conf.positive)
    judged, models, auc, notes = _models(codes, labels, used, rng)
    worth = min(1.0, (effective or len(rows)) / max(len(rows), 1))
    auditor = _Auditor(labels=labels, judged=judged, models=models, k=k, worth=worth, rng=rng)
    wanted: list[tuple[str, ...]] = [(c,) for c in conf.sensitive]
    if len(conf.sensitive) > 1:
        wanted.append(conf.sensitive)
    audits = []
    for columns in wanted:
        measured = measured_parity(schema, columns, conf, measurements, k, LEVEL, rng)
        groups, said = groups_of(schema, codes, columns)
        audits.append(auditor.of(columns, groups, said, measured))
    return FairnessReport(
        label=conf.label,
        positive=conf.positive,
        rows=len(codes),
        k=k,
        level=LEVEL,
        model=MODEL,
        auc=auc,
        audits=tuple(audits),
        notes=notes,
        look_alikes=look_alikes(schema, conf, measurements),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Auditor:
    """What every grouping is judged by. judged: the half that the models have not seen."""

    labels: Bools
    judged: Bools
    models: Sequence[_Model]
    k: int
    worth: float
    rng: np.random.Generator

    def of(
        self,
        columns: tuple[str, ...],
        groups: Index,
        said: Sequence[str],
        measured: MeasuredParity | None,
    ) -> GroupFairness:
        table = table_of(groups, self.labels, self.labels, len(said))
        sizes = table.sum(axis=(1, 2))
        least = max(self.k, 1)
        rates = table[:, 1].sum(axis=1) / np.maximum(sizes, 1)
        shown = np.flatnonzero(sizes >= least)
        named = [
            bool(sizes[g]) or (len(columns) == 1 and name != MISSING) for g, name in enumerate(said)
        ]
        lost = np.zeros(len(said), dtype=bool) if measured is None else ~measured.kept
        return GroupFairness(
            columns=columns,
            groups=tuple(
                Group(name=said[g], rows=int(sizes[g]), rate=float(rates[g])) for g in shown
            ),
            suppressed=tuple(said[g] for g in np.flatnonzero((sizes < least) & named)),
            label_parity=parity_difference(table, self.k, self.worth, LEVEL, self.rng),
            measured_parity=None if measured is None else measured.finding,
            measured_left_out=tuple(said[g] for g in np.flatnonzero(lost & named)),
            models=tuple(
                self._model(m, groups[self.judged], said, shown.tolist()) for m in self.models
            ),
        )

    def _model(
        self, model: _Model, groups: Index, said: Sequence[str], shown: Sequence[int]
    ) -> ModelFairness:
        table = table_of(groups, self.labels[self.judged], model.predicted, len(said))
        enough = rows_for(table, self.k)
        left = [
            f"{said[g]} ({rate} positive rate)"
            for g in shown
            for actual, rate in ((1, "true"), (0, "false"))
            if not enough[g, actual]
        ]
        return ModelFairness(
            with_sensitive=model.with_sensitive,
            parity=parity_difference(table, self.k, self.worth, LEVEL, self.rng),
            odds=odds_difference(table, self.k, self.worth, LEVEL, self.rng),
            opportunity=opportunity_difference(table, self.k, self.worth, LEVEL, self.rng),
            groups=tuple(_rates(table[g], said[g], enough[g]) for g in shown if table[g].sum()),
            left_out=tuple(left),
        )


def _rates(table: NDArray[np.int64], name: str, enough: NDArray[np.bool_]) -> GroupRates:
    """Of the (actual, predicted) counts of one group."""
    false, true = (
        float(of[1] / of.sum()) if known else None for of, known in zip(table, enough, strict=True)
    )
    rows = int(table.sum())
    return GroupRates(
        name=name,
        rows=rows,
        selected=float(table[:, 1].sum() / rows),
        true_positive=true,
        false_positive=false,
    )


def parity_difference(
    table: NDArray[np.int64], k: int, worth: float, level: float, rng: np.random.Generator
) -> Finding | None:
    """Demographic parity difference of (group, actual, predicted) counts.

    Over groups of at least k rows; None with fewer than two.
    """
    from fairlearn.metrics import demographic_parity_difference

    table = table[table.sum(axis=(1, 2)) >= max(k, 1)]
    if len(table) < 2:
        return None

    def rates(t: NDArray[Any]) -> NDArray[np.float64]:
        share = t[..., 1].sum(axis=-1) / np.maximum(t.sum(axis=(-1, -2)), 1)
        return np.asarray(share[..., None, :], dtype=np.float64)

    found = spread(rates(table), rates(multinomial(table, rng, worth=worth)), level)
    # The value is fairlearn's own: one weighted row stands for each cell.
    groups, actual, predicted = np.nonzero(table >= 0)
    value = demographic_parity_difference(
        actual,
        predicted,
        sensitive_features=groups,
        sample_weight=table[groups, actual, predicted].astype(float),
    )
    return Finding(value=float(value), interval=found.interval)


def odds_difference(
    table: NDArray[np.int64], k: int, worth: float, level: float, rng: np.random.Generator
) -> Finding | None:
    """Equalised odds difference of (group, actual, predicted) counts, worst case of both rates.

    Each rate is compared over the groups that have at least k rows for it, so that a group in
    which nobody has the label still counts for its false positives; None where neither rate
    has two groups. The same as fairlearn's where every group has rows for both.
    """
    return _error_difference(table, rows_for(table, k).T, worth, level, rng)


def opportunity_difference(
    table: NDArray[np.int64], k: int, worth: float, level: float, rng: np.random.Generator
) -> Finding | None:
    """Equal opportunity difference: as `odds_difference`, of the true positive rates alone."""
    enough = rows_for(table, k).T
    enough[0] = False
    return _error_difference(table, enough, worth, level, rng)


def _error_difference(
    table: NDArray[np.int64],
    enough: NDArray[np.bool_],
    worth: float,
    level: float,
    rng: np.random.Generator,
) -> Finding | None:
    """enough: (actual, groups) whose rates are compared."""
    if (enough.sum(axis=1) < 2).all():
        return None

    def rates(t: NDArray[Any]) -> NDArray[np.float64]:
        share = t[..., 1] / np.maximum(t.sum(axis=-1), 1)  # (..., groups, actual)
        return np.where(enough, np.swapaxes(share, -1, -2), np.nan)

    return spread(rates(table), rates(multinomial(table, rng, worth=worth)), level)


def rows_for(table: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """(groups, actual): which groups have at least k rows, and one, of each actual label."""
    return np.asarray(table.sum(axis=2) >= max(k, 1))


def table_of(groups: Index, actual: Bools, predicted: Bools, size: int) -> NDArray[np.int64]:
    """(groups, actual, predicted) counts."""
    table = np.zeros((size, 2, 2), dtype=np.int64)
    np.add.at(table, (groups, actual.astype(int), predicted.astype(int)), 1)
    return table


def groups_of(
    schema: JointSchema, codes: Codes, columns: Sequence[str]
) -> tuple[Index, tuple[str, ...]]:
    """Each row's group, a position on the columns' axis, and the groups' names."""
    levels = [schema.column(c).labels for c in columns]
    axis = Axis(names=tuple(columns), sizes=tuple(map(len, levels)))
    own = codes[:, [schema.names.index(c) for c in columns]]
    said = (zip(levels, place, strict=True) for place in axis.codes())
    return axis.positions(own), tuple(", ".join(names[code] for names, code in s) for s in said)


def _models(
    codes: Codes, labels: Bools, used: Sequence[int], rng: np.random.Generator
) -> tuple[Bools, list[_Model], dict[str, float], tuple[str, ...]]:
    """The judging half, the models' predictions on it, their AUC, and what to know."""
    judged = rng.permutation(len(codes)) % 2 == 1
    two = all(len(np.unique(labels[part])) == 2 for part in (judged, ~judged))
    if len(codes) < MIN_ROWS or not two:
        return judged, [], {}, ("No model was trained: too few rows, or one label only.",)
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    models, auc = [], {}
    for with_sensitive in (True, False):
        dropped = used[:1] if with_sensitive else used
        features = np.delete(codes, list(dropped), axis=1)
        if not features.shape[1]:
            continue
        learner = HistGradientBoostingClassifier(random_state=int(rng.integers(2**31)))
        learner.fit(features[~judged], labels[~judged])
        score = learner.predict_proba(features[judged])[:, 1]
        models.append(_Model(with_sensitive=with_sensitive, predicted=score >= 0.5))
        name = "with sensitive columns" if with_sensitive else "without"
        auc[name] = float(roc_auc_score(labels[judged], score))
    return judged, models, auc, ()
