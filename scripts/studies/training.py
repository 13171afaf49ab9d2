"""Does private training earn what it costs? Its share of the budget against the tables' alone.

    python -m scripts.studies.training data=adult data.root=data --share 0 .1 .5

prints, for each run, mean 2-way and 3-way TVD to held-out rows, the AUC on them of models trained
on the synthetic rows, and CPU seconds. Tables are measured in the clear with noise of the planned
variance, and updates averaged in the clear, as a run would plan both: this measures quality and
protects nobody. Every share sees the same noise, so that differences between shares are those of
the share. Ways to train (`--how`), all by public schedules:

    plain      as a run does
    warm       from the generator fitted to the tables, instead of from its first weights
    decay      the learning rate falls to zero over the rounds
    averaged   the mean of the weights after each round of the second half
    large      four times the batch for a quarter of the steps
    shuffled   on columns shuffled one by one, which tell nothing of each other: a gain that is
               left here is none of training
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scripts.studies.datasets import Data, aucs, load, mean_tvd
from scripts.studies.quality import TRIPLES
from scripts.studies.synthesis import measure
from twinweave.config import RunConf, compose
from twinweave.generators import registry
from twinweave.generators.conf import GeneratorConf
from twinweave.generators.plan import SgdPlan
from twinweave.planning import plan, plan_training
from twinweave.protocols.training.plan import row_weights
from twinweave.synthesis.fit import fit
from twinweave.synthesis.population import population
from twinweave.synthesis.synthesise import Task, first_weights, synthetic_rows
from twinweave.tables.contingency import ABSENT
from twinweave.workload.measurement import one_way_tables

if TYPE_CHECKING:
    from twinweave.generators.base import Generator

Weights = NDArray[np.float32]
HOW = ("plain", "warm", "decay", "averaged", "large", "shuffled")


def trained(task: Task, conf: RunConf, data: Data, how: str) -> Weights:
    """Weights after all rounds, each the average of the parties' private updates."""
    generator = conf.generator
    assert generator is not None
    plans = plan_training(conf, plan(conf, run="0" * 32), data.sizes).parties
    weights = _start(generator, task, how)
    states: dict[str, Mapping[str, Any]] = {party: {} for party in plans}
    seen = []
    if how == "shuffled":
        data = _shuffled(data)
    for number in range(generator.rounds):
        rate = 1 - number / generator.rounds if how == "decay" else 1.0
        own = {p: replace(s, learning_rate=s.learning_rate * rate) for p, s in plans.items()}
        weights = _round(generator, task, data, weights, own, states)
        seen.append(weights)
    if how == "averaged":
        weights = np.mean(seen[generator.rounds // 2 :], axis=0, dtype=np.float32)
    return weights


def _shuffled(data: Data) -> Data:
    """The same users, every column's codes in another order among those who have it."""
    rng, codes = np.random.default_rng(0), data.union.codes.copy()
    for j in range(codes.shape[1]):
        held = codes[:, j] != ABSENT
        codes[held, j] = rng.permutation(codes[held, j])
    return replace(data, union=replace(data.union, codes=codes))


def _start(generator: GeneratorConf, task: Task, how: str) -> Weights:
    weights = first_weights(generator, task)
    network = registry.load(generator, task.layout, weights)
    if how != "warm" or network.soft is None:
        return weights
    people = population(task.layout.parties, task.sizes, task.measurements, task.layout.pools)
    latents = people.latents(task.conf.fit.latents)
    fit(network.soft, task.layout, task.tables, latents, task.conf.fit, task.seed)
    return network.weights


def _round(
    generator: GeneratorConf,
    task: Task,
    data: Data,
    weights: Weights,
    plans: Mapping[str, SgdPlan],
    states: dict[str, Mapping[str, Any]],
) -> Weights:
    """The weights after one round; each entry moves by the mean of those who train it."""
    total, divisor = np.zeros((2, len(weights)))
    for party, weight in row_weights(data.sizes).items():
        network = registry.load(generator, task.layout, weights)
        states[party] = _steps(network, party, task, data, plans[party], states[party])
        covers = network.coverage(task.layout.held_by(party))
        total += weight * covers * (network.weights - weights)
        divisor += weight * covers
    moved: Weights = (weights + total / np.where(divisor > 0, divisor, 1)).astype(np.float32)
    return moved


def _steps(
    network: Generator,
    party: str,
    task: Task,
    data: Data,
    own: SgdPlan,
    state: Mapping[str, Any],
) -> Mapping[str, Any]:
    """One party's private steps of a round; what it keeps for the next one."""
    from twinweave.generators.base import LocalRound
    from twinweave.generators.engine import PrivacyEngine

    held = task.layout.held_by(party)
    present = data.union.presence[:, task.layout.parties.index(party)]
    local = LocalRound(
        codes=np.where(held, data.union.codes[present], ABSENT).astype(np.int32),
        held=held,
        plan=own,
        engine=PrivacyEngine.of(own),
        one_way=one_way_tables(task.measurements),
        state=dict(state),
    )
    return network.train_privately(local)[1]


@dataclass(frozen=True, kw_only=True)
class Line:
    data: str
    generator: str
    how: str
    epsilon: float
    share: float
    seed: int
    tvd: float
    triples: float
    boosting: float
    logistic: float
    cpu_seconds: float

    def __str__(self) -> str:
        scores = (self.tvd, self.triples, self.boosting, self.logistic)
        shown = "".join(f"   {x:.4f}" for x in scores)
        what = f"{self.data:<15}{self.generator:<7}{self.how:<9}"
        return (
            f"{what}{self.epsilon:>5g}{self.share:>7g}{self.seed:>5}{shown}{self.cpu_seconds:>8.0f}"
        )


HEADER = f"{'':<31}{'eps':>5}{'share':>7}{'seed':>5}" + "".join(
    f"   {name:<6}" for name in ("2-way", "3-way", "HGB", "LR", " CPU s")
)


def one(data: Data, conf: RunConf, how: str, share: float, seed: int) -> Line:
    """One line of the study; share: of the training, which is not none where it is above 0."""
    assert conf.generator is not None
    assert data.holdout is not None
    started = time.process_time()
    task = Task(
        layout=data.layout,
        measurements=measure(data, conf, np.random.default_rng(seed)),
        sizes=data.sizes,
        conf=conf.synthesis,
        seed=seed,
    )
    weights = trained(task, conf, data, how) if share else None
    codes = synthetic_rows(conf.generator, task, weights).rows.codes
    spent = time.process_time() - started
    sizes = data.layout.sizes
    boosting, logistic = aucs(codes, data.holdout, data.layout, data.positive)
    return Line(
        data=conf.data.name,
        generator=conf.generator.name,
        how=how,
        epsilon=conf.privacy.epsilon,
        share=share,
        seed=seed,
        tvd=mean_tvd(codes, data.holdout, sizes),
        triples=mean_tvd(codes, data.holdout, sizes, ways=3, most=TRIPLES),
        boosting=boosting,
        logistic=logistic,
        cpu_seconds=spent,
    )


def configured(data: Data, generator: str, epsilon: float, share: float, how: str) -> RunConf:
    asked = [
        "privacy=public",
        f"privacy.epsilon={epsilon}",
        f"privacy.shares.measurement={round(1 - share, 6)}",
        f"privacy.shares.training={share}",
        f"generator={generator}",
        *([] if share else ["generator.rounds=0"]),
    ]
    raw = compose([*asked, *data.overrides])
    raw["data"] = data.described
    if how == "large":
        own = raw["generator"]
        own["expected_batch"] *= 4
        own["local_steps"] //= 4
    return RunConf.parse(raw)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="+", help="e.g. data=adult data.root=data")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0])
    parser.add_argument("--share", type=float, nargs="+", default=[0.0, 0.1, 0.5])
    parser.add_argument("--how", nargs="+", choices=HOW, default=["plain"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--generators", nargs="+", default=["tvae"])
    parser.add_argument("--out", type=Path, help="append every line as JSON")
    options = parser.parse_args(argv)
    data = load(options.overrides, 0.3)
    print(HEADER)
    for seed, generator, epsilon, share in itertools.product(
        range(options.first_seed, options.first_seed + options.seeds),
        options.generators,
        options.epsilon,
        options.share,
    ):
        for how in options.how if share else ["plain"]:
            conf = configured(data, generator, epsilon, share, how)
            found = one(data, conf, how, share, seed)
            print(found, flush=True)
            if options.out:
                with options.out.open("a") as file:
                    print(json.dumps(vars(found)), file=file)


if __name__ == "__main__":
    main()
