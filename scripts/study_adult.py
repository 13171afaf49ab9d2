"""How good synthetic Adult gets, at which price: measurements simulated in the clear.

`python -m scripts.study_adult --eps .5 1 3 --seeds 3` prints, for each run, the mean 2-way
TVD to the real test split, the TSTR AUC of gradient boosting and logistic regression on it,
and CPU seconds. The noise has the planner's variances but comes from numpy: this measures
quality, it protects nobody.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import time
from dataclasses import dataclass, field, replace
from math import exp, prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinweave.generators.layout import Layout, Rows
from twinweave.privacy.measurement import Measurement
from twinweave.tables.column import Column, Kind, Role, Rule
from twinweave.tables.query import Query, Side, n_cells, shape
from twinweave.tables.schema import JointSchema, Schema

CODES = NDArray[np.int32]

ADULT = (
    "age workclass fnlwgt education education_num marital_status occupation relationship "
    "race sex capital_gain capital_loss hours_per_week native_country income"
).split()

EDGES: dict[str, tuple[tuple[float, float], tuple[float, ...]]] = {
    "age": ((17, 90), (20, 23, 26, 29, 32, 35, 38, 41, 45, 49, 53, 57, 62, 67, 75)),
    "hours_per_week": ((1, 99), (10, 20, 30, 35, 40, 41, 46, 51, 61)),
    "capital_gain": ((0, 99999), (1, 3000, 4500, 5100, 7000, 8000, 15000, 30000)),
    "capital_loss": ((0, 4356), (1, 1500, 1800, 1950, 2100, 2400)),
}
AT_A = ("age", "workclass", "education", "occupation", "hours_per_week", "race", "sex")
AT_B = ("marital_status", "relationship", "capital_gain", "capital_loss", "native_country",
        "income", "race", "sex")  # fmt: skip


def read_adult(path: Path) -> pd.DataFrame:
    with gzip.open(path, "rt") as lines:
        text = [s for s in lines if s.count(",") == len(ADULT) - 1]
    cells = [[c.strip().rstrip(".") for c in s.split(",")] for s in text]
    return pd.DataFrame(cells, columns=ADULT)


def column(name: str, frame: pd.DataFrame) -> Column:
    shared = name in AT_A and name in AT_B
    role = {"race": Role.SENSITIVE, "sex": Role.SENSITIVE, "income": Role.LABEL}.get(
        name, Role.FEATURE
    )
    if name in EDGES:
        bounds, edges = EDGES[name]
        return Column(name=name, kind=Kind.INTEGER, role=role, bounds=bounds, bins=edges)
    levels = sorted(set(frame[name]) - {"?"})
    missing = Rule.LEVEL if "?" in set(frame[name]) else Rule.ERROR
    return Column(name=name, kind=Kind.CATEGORICAL, role=role, shared=shared,
                  levels=tuple(levels), missing=missing)  # fmt: skip


def adult_schema(frame: pd.DataFrame) -> JointSchema:
    key = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
    return JointSchema(
        schemas=tuple(
            Schema(party=p, columns=(key, *(column(n, frame) for n in names)))
            for p, names in (("a", AT_A), ("b", AT_B))
        )
    )


def codes_of(frame: pd.DataFrame, schema: JointSchema) -> CODES:
    out = []
    for c in schema.columns:
        if c.is_numeric:
            out.append(np.searchsorted(c.edges, frame[c.name].astype(float), side="right"))
        else:
            order = {v: i for i, v in enumerate(c.levels)}
            out.append(frame[c.name].map(order).fillna(c.size - 1).to_numpy(int))
    return np.stack(out, axis=1).astype(np.int32)


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Sensitivity over sigma that is exactly (epsilon, delta)-DP: Balle and Wang 2018, Thm 8."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    def excess(mu: float) -> float:
        a, b = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
        return float(norm.cdf(a) - exp(epsilon) * norm.cdf(b) - delta)

    return float(brentq(excess, 1e-4, 50))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the measurement budget is spread: a table's share is weight * cells**exponent."""

    exponent: float = 2 / 3
    ones: float = 1.0
    pairs: float = 1.0
    label_pairs: float = 1.0
    threes: float = 1.0
    which_threes: str = "sensitive"
    priority: float = 0.25
    measurement: float = 1.0


def query(schema: JointSchema, names: tuple[str, ...], priority: bool = False) -> Query:
    for s in schema.schemas:
        if set(names) <= set(s.names):
            return Query(sides=(Side(party=s.party, columns=names),), priority=priority)
    first, second = schema.schemas
    at_a = tuple(n for n in names if n in first.names)
    at_b = tuple(n for n in names if n not in first.names)
    return Query(sides=(Side(party=first.party, columns=at_a),
                        Side(party=second.party, columns=at_b)), priority=priority)  # fmt: skip


def workload(schema: JointSchema, plan: Plan) -> dict[Query, float]:
    """Queries with their shares of the precision budget (they sum to `measurement`)."""
    label = schema.with_role(Role.LABEL)[0].name
    sensitive = [c.name for c in schema.with_role(Role.SENSITIVE)]
    weights: dict[Query, float] = {}

    def add(names: tuple[str, ...], weight: float, priority: bool = False) -> None:
        q = query(schema, names, priority)
        if weight > 0:
            weights[q] = weight * n_cells(schema, q) ** plan.exponent

    for name in schema.names:
        add((name,), plan.ones)
    for pair in itertools.combinations(schema.names, 2):
        with_label = label in pair
        add(pair, plan.label_pairs if with_label else plan.pairs,
            with_label and any(s in pair for s in sensitive))  # fmt: skip
    for three in threes(schema, plan.which_threes, label, sensitive):
        add(three, plan.threes, any(s in three for s in sensitive))
    if plan.priority:
        raise_priority(weights, plan.priority)
    total = sum(weights.values())
    return {q: plan.measurement * w / total for q, w in weights.items()}


def raise_priority(weights: dict[Query, float], least: float) -> None:
    first = sum(w for q, w in weights.items() if q.priority)
    rest = sum(w for q, w in weights.items() if not q.priority)
    if first and first < least * (first + rest):
        factor = least * rest / ((1 - least) * first)
        for q in weights:
            if q.priority:
                weights[q] *= factor


KNOWN = ("age", "education", "marital_status", "relationship", "occupation", "hours_per_week",
         "capital_gain")  # fmt: skip


def threes(
    schema: JointSchema, which: str, label: str, sensitive: list[str]
) -> list[tuple[str, ...]]:
    features = [n for n in schema.names if n != label]
    sets = {
        "none": [],
        "sensitive": [(s, x) for s in sensitive for x in features if x not in sensitive]
        + [tuple(sensitive)],
        "sex": [("sex", x) for x in features if x != "sex"],
        "known": list(itertools.combinations(KNOWN, 2)) + [("sex", x) for x in KNOWN],
        "all": list(itertools.combinations(features, 2)),
    }
    return [(*pair, label) for pair in sets[which]]


def simulate(
    schema: JointSchema, plan: Plan, rows: Rows, mu: float, rng: np.random.Generator
) -> list[Measurement]:
    from server.synthesis.targets import row_cells

    out = []
    for q, share in workload(schema, plan).items():
        cells = row_cells(q, Layout.of(schema), rows)
        size, variance = n_cells(schema, q), 1 / (mu**2 * share)
        exact = np.bincount(cells[cells >= 0], minlength=size).astype(float)
        noisy = exact + rng.normal(0, sqrt(variance), size)
        values = noisy.reshape(shape(schema, q))
        if q.is_cross:
            values[-1, -1] = 0
        out.append(Measurement(query=q, values=values, variance=variance))
    return out


def mean_tvd(a: CODES, b: CODES, sizes: tuple[int, ...]) -> float:
    """Mean over column pairs of half the L1 distance of the two-way tables."""
    found = []
    for i, j in itertools.combinations(range(len(sizes)), 2):
        tables = [
            np.bincount(c[:, i].astype(int) * sizes[j] + c[:, j], minlength=sizes[i] * sizes[j])
            / len(c)
            for c in (a, b)
        ]
        found.append(np.abs(tables[0] - tables[1]).sum() / 2)
    return float(np.mean(found))


def aucs(train: CODES, test: CODES, sizes: tuple[int, ...]) -> tuple[float, float]:
    """TSTR AUC of gradient boosting on ordinal codes and logistic regression on one-hot."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import OneHotEncoder

    x, y, xt, yt = train[:, :-1], train[:, -1], test[:, :-1], test[:, -1]
    boosting = HistGradientBoostingClassifier(random_state=0).fit(x, y)
    hot = OneHotEncoder(categories=[np.arange(s) for s in sizes[:-1]])
    logistic = LogisticRegression(max_iter=500).fit(hot.fit_transform(x), y)
    return (float(roc_auc_score(yt, boosting.predict_proba(xt)[:, 1])),
            float(roc_auc_score(yt, logistic.predict_proba(hot.transform(xt))[:, 1])))  # fmt: skip
