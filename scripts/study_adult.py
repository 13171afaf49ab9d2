"""How good synthetic Adult gets, at which price: measurements simulated in the clear.

`python -m scripts.study_adult --eps .5 1 3 --seeds 3` prints, for each run, the mean 2-way
TVD to the real test split, the TSTR AUC of gradient boosting and logistic regression on it,
and CPU seconds. The noise has the planner's variances but comes from numpy: this measures
quality, it protects nobody.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass, field, replace
from math import exp, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.configuration import compose
from twinweave.config import RunConf
from twinweave.generators.layout import ABSENT, Layout, Rows
from twinweave.privacy.measurement import Measurement
from twinweave.privacy.workload import table
from twinweave.tables.column import Role
from twinweave.tables.encoding import load_party
from twinweave.tables.query import Query, n_cells, shape
from twinweave.tables.schema import JointSchema

CODES = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """A dataset of conf/data in the clear: its union, and a holdout with every column."""

    conf: RunConf
    schema: JointSchema
    layout: Layout
    union: Rows = field(repr=False)
    holdout: CODES | None = field(repr=False)

    @property
    def sizes(self) -> dict[str, int]:
        present = self.union.presence.sum(axis=0).tolist()
        return dict(zip(self.layout.parties, present, strict=True))


def load(root: str, *overrides: str) -> Data:
    """Read, clean and code a dataset as its parties would, and join it on the key."""
    conf = RunConf.parse(compose([f"data.root={root}", "privacy.delta=1e-5", *overrides]))
    schema = conf.data.schema
    layout = Layout.of(schema)
    tables = []
    for party in conf.data.parties:
        assert party.source is not None
        tables.append(load_party(party.source, party.schema, party.name))
    ids = np.unique(np.concatenate([t.ids.astype(str) for t in tables]))
    codes = np.full((len(ids), len(layout.names)), ABSENT, dtype=np.int32)
    presence = np.zeros((len(ids), len(tables)), dtype=bool)
    for p, table in enumerate(tables):
        row = np.searchsorted(ids, table.ids.astype(str))
        presence[row, p] = True
        for name in table.schema.names:
            codes[row, layout.names.index(name)] = table.column(name)
    return Data(conf=conf, schema=schema, layout=layout, union=Rows(codes=codes, presence=presence),
                holdout=_holdout(conf, layout))  # fmt: skip


def _holdout(conf: RunConf, layout: Layout) -> CODES | None:
    if conf.data.holdout is None:
        return None
    codes: dict[str, CODES] = {}
    for party in conf.data.parties:
        table = load_party(conf.data.holdout["source"], party.schema, "holdout")
        codes |= {n: table.column(n) for n in table.schema.names}
    return np.stack([codes[n] for n in layout.names], axis=1)


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
    priority_threes: bool = True
    measurement: float = 1.0


def workload(schema: JointSchema, plan: Plan) -> dict[Query, float]:
    """Queries with their shares of the precision budget (they sum to `measurement`)."""
    label = schema.with_role(Role.LABEL)[0].name
    sensitive = [c.name for c in schema.with_role(Role.SENSITIVE)]
    weights: dict[Query, float] = {}

    def add(names: tuple[str, ...], weight: float, priority: bool = False) -> None:
        q = table(schema, *names, priority=priority)
        assert q is not None
        if weight > 0:
            weights[q] = weight * n_cells(schema, q) ** plan.exponent

    for name in schema.names:
        add((name,), plan.ones)
    for pair in itertools.combinations(schema.names, 2):
        with_label = label in pair
        add(pair, plan.label_pairs if with_label else plan.pairs,
            with_label and any(s in pair for s in sensitive))  # fmt: skip
    for three in threes(schema, plan.which_threes, label, sensitive):
        first = plan.priority_threes and any(s in three for s in sensitive)
        add(three, plan.threes, first)
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
    a, b = (c[(c != ABSENT).all(axis=1)] for c in (a, b))
    found = []
    for i, j in itertools.combinations(range(len(sizes)), 2):
        tables = [
            np.bincount(c[:, i].astype(int) * sizes[j] + c[:, j], minlength=sizes[i] * sizes[j])
            / len(c)
            for c in (a, b)
        ]
        found.append(np.abs(tables[0] - tables[1]).sum() / 2)
    return float(np.mean(found))


def split(codes: CODES, layout: Layout) -> tuple[CODES, CODES]:
    """Features and label of the rows that have every column."""
    label = layout.roles.index(Role.LABEL)
    whole = codes[(codes != ABSENT).all(axis=1)]
    return np.delete(whole, label, axis=1), whole[:, label]


def aucs(train: CODES, test: CODES, layout: Layout) -> tuple[float, float]:
    """TSTR AUC of gradient boosting on ordinal codes and logistic regression on one-hot."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import OneHotEncoder

    (x, y), (xt, yt) = split(train, layout), split(test, layout)
    sizes = np.delete(np.array(layout.sizes), layout.roles.index(Role.LABEL))
    boosting = HistGradientBoostingClassifier(random_state=0).fit(x, y)
    hot = OneHotEncoder(categories=[np.arange(s) for s in sizes])
    logistic = LogisticRegression(max_iter=500).fit(hot.fit_transform(x), y)
    return (float(roc_auc_score(yt, boosting.predict_proba(xt)[:, 1])),
            float(roc_auc_score(yt, logistic.predict_proba(hot.transform(xt))[:, 1])))  # fmt: skip
