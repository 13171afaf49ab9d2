"""Coverage of `run.infer`: how often its 95% intervals hold the truth, over replicates.

    python -m scripts.studies.inference --replicates 200

The worlds are those of tests/synthesis/known_world.py: two parties, all pairs measured, Gaussian
noise. Beside it the naive intervals of one synthetic table, as if its rows were people. A share
of right intervals is right when it lies within the 95% band that its own number of replicates
leaves around .95.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
from scipy.stats import binom

from scripts.studies.coverage import interval
from tests.synthesis.known_world import (
    LAYOUT,
    MILD,
    NOISY,
    RARE,
    SCHEMA,
    World,
    design,
    inferred,
    logistic,
)
from twinweave.generators.union import Rows
from twinweave.synthesis.conf import FitConf, SynthesisConf
from twinweave.synthesis.decode import decode_rows
from twinweave.synthesis.synthesise import Task, synthesise
from twinweave.workload.measurement import Measurement

QUICK = SynthesisConf(fit=FitConf(latents=100, network_steps=0, free_steps=100))


def naive(tables: list[Measurement], rows: Rows, seed: int) -> Iterator[tuple[str, float, float]]:
    """(name, value, standard error) from one synthetic table whose rows are taken for people."""
    sizes = dict(zip(LAYOUT.parties, rows.presence.sum(axis=0).tolist(), strict=True))
    task = Task(layout=LAYOUT, measurements=tables, sizes=sizes, conf=QUICK, seed=seed)
    joint = decode_rows(SCHEMA, synthesise(None, task).rows, seed).joint
    x, bought = design(joint[list(LAYOUT.names)])
    test = x[:, 1] == 1
    rates = [float(bought[arm].mean()) for arm in (test, ~test)]
    errors = [r * (1 - r) / arm.sum() for r, arm in zip(rates, (test, ~test), strict=True)]
    yield "rate", rates[0], float(np.sqrt(errors[0]))
    yield "difference", rates[0] - rates[1], float(np.sqrt(sum(errors)))
    beta, covariance = logistic(x, bought)
    for i, name in enumerate(("arm", "loyal", "age"), start=1):
        yield name, float(beta[i]), float(np.sqrt(covariance[i, i]))


def study(world: World, replicates: int, seed: int) -> None:
    """Print one line a number."""
    rng, truth = np.random.default_rng(seed), world.truth()
    hits, taken = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
    noise, width = dict.fromkeys(truth, 0.0), dict.fromkeys(truth, 0.0)
    cpu = 0.0
    for replicate in range(replicates):
        started = time.process_time()
        found, tables, rows = inferred(world, rng)
        cpu += time.process_time() - started
        for estimate in (e for one in found for e in one.estimates):
            low, high = estimate.interval
            hits[estimate.name] += low <= truth[estimate.name] <= high
            noise[estimate.name] += estimate.noise / replicates
            width[estimate.name] += (high - low) / replicates
        for name, value, error in naive(tables, rows, replicate):
            taken[name] += abs(value - truth[name]) <= 1.96 * error
    for name in truth:
        low, high = interval(hits[name], replicates)
        covered = f"{hits[name] / replicates:.3f} ({low:.3f} to {high:.3f})"
        print(
            f"{world.name:<22}{name:<12}{covered:>24}{taken[name] / replicates:>8.3f}"
            f"{noise[name]:>8.2f}{width[name]:>9.4f}{cpu / replicates:>8.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2023)
    options = parser.parse_args()
    band = binom.ppf([0.025, 0.975], options.replicates, 0.95) / options.replicates
    print(f"right: {band[0]:.3f} to {band[1]:.3f} of {options.replicates} replicates")
    print(
        f"{'world':<22}{'number':<12}{'run.infer (its interval)':>24}{'naive':>8}{'noise':>8}"
        f"{'width':>9}{'CPU s':>8}"
    )
    for world in (MILD, NOISY, RARE):
        study(world, options.replicates, options.seed)


if __name__ == "__main__":
    main()
