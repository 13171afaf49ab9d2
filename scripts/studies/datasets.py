"""A dataset in the clear, and scores of rows against its real ones.

For studies on public data alone: nobody in a run ever holds such a table. Beside those of
conf/data there are tables made in memory (`exclusive_or`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scripts.studies.exclusive_or import CASES, exclusive_or
from twinweave.config import RunConf, compose
from twinweave.generators.union import Rows, UnionLayout
from twinweave.tables.cleaning import Cleaned, clean
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.contingency import ABSENT
from twinweave.tables.encoding import encode
from twinweave.tables.keys import normalise_key
from twinweave.tables.loading import load_cleaned
from twinweave.tables.schema import JointSchema
from twinweave.tables.sources import read_table

if TYPE_CHECKING:
    import pandas as pd

CODES = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """A dataset in the clear: the union of its parties' rows, and held-out rows.

    holdout: rows that have every column and are in no run; None where nothing is held out.
    numbers: the real numbers of the holdout (of the union where there is none), as cleaned.
    overrides: of the configuration, without `data` where the table was made in memory.
    described: the composed `data` of it. tables: what a run on these rows reads, by party, where
    it is not the dataset's own source.
    """

    conf: RunConf
    schema: JointSchema
    layout: UnionLayout
    union: Rows = field(repr=False)
    holdout: CODES | None = field(repr=False)
    numbers: pd.DataFrame = field(repr=False)
    overrides: tuple[str, ...]
    described: Mapping[str, Any] = field(repr=False)
    tables: Mapping[str, pd.DataFrame] = field(repr=False)

    @property
    def sizes(self) -> dict[str, int]:
        present = self.union.presence.sum(axis=0).tolist()
        return dict(zip(self.layout.parties, present, strict=True))

    @property
    def positive(self) -> int:
        """Code of the label's level that a model is to find."""
        fairness = self.conf.data.fairness
        if fairness is None:
            return 1
        return self.schema.column(fairness.label).levels.index(fairness.positive)

    def configured(self, overrides: Sequence[str], folder: Path) -> RunConf:
        """The configuration of a run on these rows and no others. folder: for its tables."""
        raw = compose([*overrides, *self.overrides])
        if self.tables:
            raw["data"] = _of_files(self.described, self.tables, folder)
        return RunConf.parse(raw)


def coded(frame: pd.DataFrame, data: Data) -> tuple[CODES, pd.DataFrame]:
    """Rows with every column, as the parties would code them: codes, and numbers."""
    ids = np.arange(len(frame)).astype(str).astype(object)
    schemas = [party.schema for party in data.conf.data.parties]
    parts = [frame[list(s.coded_names)].assign(**{s.key.name: ids}) for s in schemas]
    cleaned = [clean(part, s) for part, s in zip(parts, schemas, strict=True)]
    _, rows, numbers = _joined(cleaned, data.schema)
    return rows.codes, numbers


def load(overrides: Sequence[str], hold_out: float = 0.0) -> Data:
    """Read, clean and code a dataset as its parties would, and join it on the key.

    overrides: `data=...` first of all; of conf/data, or a case of `exclusive_or`. hold_out: part
    of the users who are held out of every run, where the dataset has no rows for that.
    """
    raw, made, own = _composed(overrides)
    conf = RunConf.parse(raw)
    parties = conf.data.parties
    frames = made or {p.name: read_table(p.source, p.schema) for p in parties if p.source}
    cleaned = [clean(frames[p.name], p.schema) for p in parties]
    ids, union, numbers = _joined(cleaned, conf.data.schema)
    holdout, tables = _own_holdout(conf), made
    if holdout is None and hold_out:
        out = np.random.default_rng(0).random(len(ids)) < hold_out
        whole = out & (union.codes != ABSENT).all(axis=1)
        holdout = union.codes[whole], numbers[whole]
        union = union.take(np.flatnonzero(~out))
        tables = {
            p.name: _of_users(frames[p.name], p.schema.key, ids[~out].tolist()) for p in parties
        }
    codes, real = (None, numbers) if holdout is None else holdout
    return Data(
        conf=conf,
        schema=conf.data.schema,
        layout=UnionLayout.of(conf.data.schema),
        union=union,
        holdout=codes,
        numbers=real,
        overrides=own,
        described=raw["data"],
        tables=tables,
    )


def _composed(
    overrides: Sequence[str],
) -> tuple[dict[str, Any], dict[str, pd.DataFrame], tuple[str, ...]]:
    """The configuration; tables made in memory, if it is one; overrides that a run of it takes."""
    names = [o.removeprefix("data=") for o in overrides if o.startswith("data=")]
    case = CASES.get(names[0]) if names else None
    own = tuple(o for o in overrides if case is None or not o.startswith("data"))
    raw = compose(["audit=off", "privacy=public", "privacy.epsilon=1", *own])
    if case is None:
        return raw, {}, own
    raw["data"], made = exclusive_or(names[0], case)
    return raw, made, own


def _joined(
    cleaned: Sequence[Cleaned], schema: JointSchema
) -> tuple[NDArray[Any], Rows, pd.DataFrame]:
    """Ids of the union, its codes, and its numbers as cleaned."""
    import pandas as pd

    layout, tables = UnionLayout.of(schema), [encode(c) for c in cleaned]
    ids = np.unique(np.concatenate([t.ids.astype(str) for t in tables]))
    codes = np.full((len(ids), len(layout.names)), ABSENT, dtype=np.int32)
    presence = np.zeros((len(ids), len(tables)), dtype=bool)
    numbers = pd.DataFrame(np.nan, index=range(len(ids)), columns=numeric(schema.columns))
    for p, (table, own) in enumerate(zip(tables, cleaned, strict=True)):
        row = np.searchsorted(ids, table.ids.astype(str))
        presence[row, p] = True
        for name in table.schema.names:
            codes[row, layout.names.index(name)] = table.column(name)
            if name in numbers:
                numbers.loc[row, name] = own.frame[name].to_numpy(float, na_value=np.nan)
    return ids, Rows(codes=codes, presence=presence), numbers


def numeric(columns: Sequence[Column]) -> list[str]:
    """Names of the columns that hold numbers."""
    return [c.name for c in columns if c.kind in (Kind.INTEGER, Kind.CONTINUOUS)]


def _own_holdout(conf: RunConf) -> tuple[CODES, pd.DataFrame] | None:
    """Codes and numbers of the dataset's own held-out rows."""
    if conf.data.holdout is None:
        return None
    source = conf.data.holdout["source"]
    cleaned = [load_cleaned(source, p.schema, "holdout") for p in conf.data.parties]
    _, rows, numbers = _joined(cleaned, conf.data.schema)
    return rows.codes, numbers


def _of_users(frame: pd.DataFrame, key: Column, ids: Sequence[str]) -> pd.DataFrame:
    """Rows of these users, as they were read."""
    rules = () if key.numbered else key.normalise
    own, _ = normalise_key(frame[key.name], rules)
    return frame[np.isin(np.asarray(own).astype(str), ids)]


def _of_files(
    described: Mapping[str, Any], tables: Mapping[str, pd.DataFrame], folder: Path
) -> dict[str, Any]:
    """The dataset's description with these tables, written to the folder, for sources."""
    parties = []
    for party in described["parties"]:
        path = folder / f"{party['name']}.parquet"
        tables[party["name"]].to_parquet(path)
        columns = [{k: v for k, v in c.items() if k != "numbered"} for c in party["columns"]]
        source = {"kind": "parquet", "path": str(path)}
        parties.append({**party, "columns": columns, "source": source})
    return {**described, "parties": parties, "holdout": None}


def mean_tvd(
    a: CODES, b: CODES, sizes: tuple[int, ...], *, ways: int = 2, most: int | None = None
) -> float:
    """Mean over sets of columns, pairs by default, of the total variation distance of their
    tables. most: of the sets, drawn at random but always the same."""
    a, b = (c[(c != ABSENT).all(axis=1)].astype(int) for c in (a, b))
    sets = list(itertools.combinations(range(len(sizes)), ways))
    if most is not None and len(sets) > most:
        kept = np.random.default_rng(0).choice(len(sets), most, replace=False)
        sets = [sets[i] for i in sorted(kept)]
    found = []
    for columns in sets:
        shape = tuple(sizes[j] for j in columns)
        one, two = (np.ravel_multi_index(tuple(c[:, columns].T), shape) for c in (a, b))
        found.append(one_way_tvd(one, two, int(np.prod(shape))))
    return float(np.mean(found))


def split(codes: CODES, layout: UnionLayout) -> tuple[CODES, CODES]:
    """Features and label of the rows that have every column."""
    label = layout.roles.index(Role.LABEL)
    whole = codes[(codes != ABSENT).all(axis=1)]
    return np.delete(whole, label, axis=1), whole[:, label]


def aucs(train: CODES, test: CODES, layout: UnionLayout, positive: int = 1) -> tuple[float, float]:
    """TSTR AUC of gradient boosting on ordinal codes and logistic regression on one-hot.

    positive: code of the label's level that is to be found. A half where the rows to train on
    have no such label, or no other one.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import OneHotEncoder

    (x, y), (xt, yt) = split(train, layout), split(test, layout)
    y, yt = y == positive, yt == positive
    if len(np.unique(y)) < 2:
        return 0.5, 0.5
    sizes = np.delete(np.array(layout.sizes), layout.roles.index(Role.LABEL))
    boosting = HistGradientBoostingClassifier(random_state=0).fit(x, y)
    hot = OneHotEncoder(categories=[np.arange(s) for s in sizes])
    logistic = LogisticRegression(max_iter=500).fit(hot.fit_transform(x), y)
    return (
        float(roc_auc_score(yt, boosting.predict_proba(xt)[:, 1])),
        float(roc_auc_score(yt, logistic.predict_proba(hot.transform(xt))[:, 1])),
    )


def mean_ks(made: pd.DataFrame, real: pd.DataFrame) -> float | None:
    """Mean over `real`'s columns of the Kolmogorov-Smirnov distance of their numbers; None
    where there are none. Missing ones are left out."""
    from scipy.stats import ks_2samp

    found = []
    for name in real:
        a, b = (t[name].to_numpy(float, na_value=np.nan) for t in (made, real))
        found.append(float(ks_2samp(a[~np.isnan(a)], b[~np.isnan(b)]).statistic))
    return float(np.mean(found)) if found else None


def one_way_tvd(a: NDArray[Any], b: NDArray[Any], size: int) -> float:
    """Total variation distance of one column's codes in two tables, absent ones left out."""
    shares = [np.bincount(c[c >= 0], minlength=size) / max(int((c >= 0).sum()), 1) for c in (a, b)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)
