"""What fits how well: synthesis from measurements simulated in the clear, without the protocols.

`python -m scripts.studies.adult data=adult --epsilon .5 1 3 --share 1 .9 .8 --seeds 3` prints,
for each run, the mean 2-way TVD to the real test split, the TSTR AUC of gradient boosting and
logistic regression on it, and CPU seconds of the synthesis. Tables and noise variances are
those that a run would plan; the noise comes from numpy: this measures quality and protects
nobody. `scripts.studies.quality` measures whole runs; this takes seconds where that takes minutes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
from numpy.typing import NDArray

from strategies.planning import plan
from strategies.train import one_way_tables
from twinweave.config import RunConf, compose
from twinweave.generators.conf import LlmConf
from twinweave.generators.local import initial_weights
from twinweave.generators.local import load as load_network
from twinweave.generators.union import ABSENT, Rows, UnionLayout
from twinweave.synthesis.population import row_counts
from twinweave.synthesis.synthesise import synthesise
from twinweave.tables.column import Role
from twinweave.tables.encoding import load_party
from twinweave.tables.schema import JointSchema
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import cells_of

CODES = NDArray[np.int32]

DATA_ROOT = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


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


def load(root: str, *overrides: str) -> Data:
    """Read, clean and code a dataset as its parties would, and join it on the key."""
    conf = RunConf.parse(compose([f"data.root={root}", "privacy.delta=1e-5", *overrides]))
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


def measure(data: Data, conf: RunConf, rng: np.random.Generator) -> list[Measurement]:
    """The planned count tables of the union, with Gaussian noise of the planned variances."""
    out = []
    for planned in plan(conf, run="0" * 32).plan:
        if planned.query.weight is not None:
            continue
        exact = row_counts(planned.query, data.layout, data.union)
        values = exact + rng.normal(0, sqrt(planned.variance), exact.shape)
        cells = cells_of(data.schema, planned.query)
        values = cells.table(cells.opened(values))
        out.append(Measurement(query=planned.query, values=values, variance=planned.variance))
    return out


def synthetic(data: Data, conf: RunConf, seed: int) -> tuple[CODES, float]:
    """Codes of the synthetic union, generator untrained or (llm) formatted; CPU seconds."""
    measurements = measure(data, conf, np.random.default_rng(seed))
    started = time.process_time()
    network = None
    if conf.generator is not None:
        first = initial_weights(
            conf.generator, data.layout, seed=seed, one_way=one_way_tables(measurements)
        )
        network = load_network(conf.generator, data.layout, first)
    if isinstance(conf.generator, LlmConf):
        _format(network, conf.generator, data, conf, measurements, seed)
    found = synthesise(network, data.layout, measurements, data.sizes, conf.synthesis, seed)
    return found.rows.codes, time.process_time() - started


def _format(
    network: Any,
    generator: LlmConf,
    data: Data,
    conf: RunConf,
    measurements: list[Measurement],
    seed: int,
) -> None:
    import torch

    from twinweave.generators.llm import pretrain

    rows = synthesise(None, data.layout, measurements, data.sizes, conf.synthesis, seed).rows
    pretrain(
        network,
        rows,
        steps=generator.format_steps,
        lr=generator.format_learning_rate,
        batch=generator.format_batch,
        one_party=generator.one_party,
        generator=torch.Generator().manual_seed(seed),
    )


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


HEADER = (
    f"{'':<12}{'eps':>5}{'share':>7}{'seed':>5}   {'TVD':<6}   {'HGB':<6}   {'LR':<6}{'CPU s':>8}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, e.g. data=adult")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.5, 1.0, 3.0])
    parser.add_argument("--share", type=float, nargs="+", default=[0.9], help="of measurement")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--generators", nargs="+", default=["tvae", "llm"])
    parser.add_argument("--data-root", type=Path, default=DATA_ROOT)
    arguments = parser.parse_args()
    overrides = arguments.overrides or ["data=adult"]
    data = load(str(arguments.data_root), "privacy=default", "privacy.epsilon=1", *overrides)
    assert data.holdout is not None
    print(HEADER)
    for generator, epsilon, share in itertools.product(
        arguments.generators, arguments.epsilon, arguments.share
    ):
        budget = [
            f"privacy.epsilon={epsilon}",
            f"privacy.shares.measurement={share}",
            f"privacy.shares.training={round(1 - share, 6)}",
        ]
        untrained = ["generator.rounds=0"] if share == 1 else []
        common = [f"data.root={arguments.data_root}", "privacy=default", "privacy.delta=1e-5"]
        conf = RunConf.parse(
            compose([*common, *budget, f"generator={generator}", *untrained, *overrides])
        )
        for seed in range(arguments.seeds):
            codes, cpu = synthetic(data, conf, seed)
            tvd = mean_tvd(codes, data.holdout, data.layout.sizes)
            boosting, logistic = aucs(codes, data.holdout, data.layout)
            print(
                f"{generator:<12}{epsilon:>5g}{share:>7g}{seed:>5}   {tvd:.4f}   "
                f"{boosting:.4f}   {logistic:.4f}{cpu:>8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
