"""How often intervals hold the true lift of cluster-randomised experiments, by what is done.

    python -m scripts.studies.clusters --replicates 400 --sigma 3 15

No lift, two arms, clusters assigned as wholes (tests/analysis/lift/clustered.py), Gaussian noise
of standard deviation sigma in every cell of the tables by arm and by random group. Four ways to
reckon with the design effect: not at all, by its estimate as if that were known, as the report
does, and by the bound alone. Coverage at 95 %, and width over that of the report.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.random import Generator

from tests.analysis.lift.clustered import HOUSEHOLDS, PAIRS, STORES, Design, report
from twinweave.analysis.lift.intervals import quantile
from twinweave.analysis.lift.results import LiftReport

DESIGNS = tuple(
    Design(name=name, clusters=clusters, sizes=sizes, icc=icc, rates=(rate, rate))
    for (name, clusters, sizes), rate, icc in product(
        (
            ("households", 10_000, HOUSEHOLDS),
            ("households", 60_000, HOUSEHOLDS),
            ("pairs", 3_000, PAIRS),
            ("stores", 300, STORES),
            ("stores", 40, STORES),
        ),
        (0.04, 0.4),
        (0.0, 0.1, 0.4, 1.0),
    )
)
WAYS = ("ignored", "as if known", "report", "bound")


def half_widths(found: LiftReport) -> tuple[float, list[float], float]:
    """The lift, half the interval's width in each of WAYS, and the design effect used."""
    overall, clusters = found.conversions[0].overall, found.clusters
    assert overall is not None
    assert clusters is not None
    assert clusters.size is not None
    effect = clusters.effects[0]
    assert effect.estimate is not None
    factors = np.array([1.0, max(effect.estimate, 1.0), effect.used, clusters.size.used])
    independent = overall.sampling_error**2 / effect.used
    half = quantile(found.level) * np.sqrt(factors * independent + overall.noise_sd**2)
    return overall.absolute.value, half.tolist(), effect.used


def study(design: Design, sigma: float, replicates: int, rng: Generator) -> str:
    found = [half_widths(report(design, sigma, rng)) for _ in range(replicates)]
    lift, half, used = (np.array(x) for x in zip(*found, strict=True))
    inside = (np.abs(lift - design.lift)[:, None] <= half).mean(axis=0)
    width = half.mean(axis=0) / half.mean(axis=0)[WAYS.index("report")]
    cells = "".join(f"{c:>9.1%} ({w:.2f})" for c, w in zip(inside, width, strict=True))
    name = f"{design.clusters:,} {design.name}"
    return (
        f"{name:<18}{design.rates[0]:>6g}{design.icc:>5g}{sigma:>7g}{np.median(used):>8.2f}{cells}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--sigma", type=float, nargs="+", default=[3.0, 15.0])
    parser.add_argument("--seed", type=int, default=2024)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    head = "".join(f"{way:>16}" for way in WAYS)
    print(f"{'clusters':<18}{'rate':>6}{'icc':>5}{'sigma':>7}{'used':>8}{head}")
    for design, sigma in product(DESIGNS, options.sigma):
        print(study(design, sigma, options.replicates, rng), flush=True)


if __name__ == "__main__":
    main()
