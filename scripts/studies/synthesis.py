"""What fits how well: synthesis from measurements simulated in the clear, without the protocols.

    python -m scripts.studies.synthesis data=adult data.root=data --share 1 .9 .8

prints, for each run, the mean 2-way TVD to the real test split, the TSTR AUC of gradient boosting
and logistic regression on it, and CPU seconds of the synthesis. Tables and noise variances are
those that a run would plan; the noise comes from numpy: this measures quality and protects
nobody. `scripts.studies.quality` measures whole runs; this takes seconds where that takes minutes.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from math import sqrt

import numpy as np

from scripts.studies.datasets import CODES, Data, aucs, load, mean_tvd
from twinweave.config import RunConf, compose
from twinweave.planning import plan, plan_second
from twinweave.synthesis.population import row_counts
from twinweave.synthesis.synthesise import Task, synthesise, synthetic_rows
from twinweave.workload.measurement import Measurement
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import cells_of


def measure(data: Data, conf: RunConf, rng: np.random.Generator) -> list[Measurement]:
    """The planned count tables of the union, with Gaussian noise of the planned variances."""
    spec = plan(conf, run="0" * 32)
    found = _noisy(data, spec.plan, rng)
    if not spec.two_passes:
        return found
    first, tables = plan_second(conf, spec, tuple(found))
    return [*first.kept, *_noisy(data, tables, rng)]


def _noisy(
    data: Data, tables: Sequence[PlannedQuery], rng: np.random.Generator
) -> list[Measurement]:
    out = []
    for planned in tables:
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
    task = Task(
        layout=data.layout,
        measurements=measurements,
        sizes=data.sizes,
        conf=conf.synthesis,
        seed=seed,
    )
    if conf.generator is None:
        found = synthesise(None, task)
    else:
        found = synthetic_rows(conf.generator, task, weights=None)
    return found.rows.codes, time.process_time() - started


HEADER = (
    f"{'':<12}{'eps':>5}{'share':>7}{'seed':>5}   {'TVD':<6}   {'HGB':<6}   {'LR':<6}{'CPU s':>8}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="+", help="e.g. data=adult data.root=data")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.5, 1.0, 3.0])
    parser.add_argument("--share", type=float, nargs="+", default=[0.9], help="of measurement")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--generators", nargs="+", default=["tvae", "llm"])
    arguments = parser.parse_args()
    data = load(arguments.overrides)
    if data.holdout is None:
        parser.error("the dataset has no held-out rows to compare with")
    print(HEADER)
    for generator, epsilon, share in itertools.product(
        arguments.generators, arguments.epsilon, arguments.share
    ):
        budget = [
            "audit=off",
            "privacy=public",
            f"privacy.epsilon={epsilon}",
            f"privacy.shares.measurement={share}",
            f"privacy.shares.training={round(1 - share, 6)}",
        ]
        untrained = ["generator.rounds=0"] if share == 1 else []
        asked = [*budget, f"generator={generator}", *untrained, *arguments.overrides]
        conf = RunConf.parse(compose(asked))
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
