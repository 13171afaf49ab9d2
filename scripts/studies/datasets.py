"""A dataset of conf/data in the clear, and scores of rows against its real ones.

For studies on public data alone: nobody in a run ever holds such a table.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.config import RunConf, compose
from twinweave.generators.union import Rows, UnionLayout
from twinweave.tables.column import Role
from twinweave.tables.contingency import ABSENT
from twinweave.tables.encoding import load_party
from twinweave.tables.schema import JointSchema

CODES = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """A dataset of conf/data in the clear: its union, and a holdout with every column."""

    conf: RunConf
    schema: JointSchema
    layout: UnionLayout
    union: Rows = field(repr=False)
    holdout: CODES | None = field(repr=False)

    @property
    def sizes(self) -> dict[str, int]:
        present = self.union.presence.sum(axis=0).tolist()
        return dict(zip(self.layout.parties, present, strict=True))


def load(overrides: Sequence[str]) -> Data:
    """Read, clean and code a dataset as its parties would, and join it on the key."""
    conf = RunConf.parse(compose(["audit=off", "privacy=public", "privacy.epsilon=1", *overrides]))
    schema = conf.data.schema
    layout = UnionLayout.of(schema)
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
    return Data(
        conf=conf,
        schema=schema,
        layout=layout,
        union=Rows(codes=codes, presence=presence),
        holdout=_holdout(conf, layout),
    )


def _holdout(conf: RunConf, layout: UnionLayout) -> CODES | None:
    if conf.data.holdout is None:
        return None
    codes: dict[str, CODES] = {}
    for party in conf.data.parties:
        table = load_party(conf.data.holdout["source"], party.schema, "holdout")
        codes |= {n: table.column(n) for n in table.schema.names}
    return np.stack([codes[n] for n in layout.names], axis=1)


def mean_tvd(a: CODES, b: CODES, sizes: tuple[int, ...]) -> float:
    """Mean over column pairs of the total variation distance of the two-way tables."""
    a, b = (c[(c != ABSENT).all(axis=1)].astype(int) for c in (a, b))
    found = []
    for i, j in itertools.combinations(range(len(sizes)), 2):
        one, two = (c[:, i] * sizes[j] + c[:, j] for c in (a, b))
        found.append(one_way_tvd(one, two, sizes[i] * sizes[j]))
    return float(np.mean(found))


def split(codes: CODES, layout: UnionLayout) -> tuple[CODES, CODES]:
    """Features and label of the rows that have every column."""
    label = layout.roles.index(Role.LABEL)
    whole = codes[(codes != ABSENT).all(axis=1)]
    return np.delete(whole, label, axis=1), whole[:, label]


def aucs(train: CODES, test: CODES, layout: UnionLayout) -> tuple[float, float]:
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
    return (
        float(roc_auc_score(yt, boosting.predict_proba(xt)[:, 1])),
        float(roc_auc_score(yt, logistic.predict_proba(hot.transform(xt))[:, 1])),
    )


def one_way_tvd(a: NDArray[Any], b: NDArray[Any], size: int) -> float:
    """Total variation distance of one column's codes in two tables, absent ones left out."""
    shares = [np.bincount(c[c >= 0], minlength=size) / max(int((c >= 0).sum()), 1) for c in (a, b)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)
