"""What canaries prove of each release path, for each generator, beside claim and ceiling.

    python -m scripts.studies.canaries --depth full --generators tvae ctgan llm

Runs of canaries alone, with the configuration of a default run over the built-in campaign: no
row of it is read. Then what each instrument can prove of an ideal Gaussian mechanism.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr

from twinweave.analysis.audit.results import LowerBound
from twinweave.analysis.canaries import bounds
from twinweave.analysis.canaries.run import EFFORTS, lower_bounds, training_bounds
from twinweave.analysis.canaries.trial import CONFIDENCE, ONE_RUN, SURE
from twinweave.config import RunConf, compose
from twinweave.planning import plan
from twinweave.privacy.accountant import gaussian_mu

ROWS = {"publisher": 14_390, "advertiser": 12_539}
"""Of a default run, those set aside left out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", choices=["quick", "full"], default="full")
    parser.add_argument("--generators", nargs="+", default=["tvae", "ctgan", "llm"])
    parser.add_argument("overrides", nargs="*", help="of the run's configuration")
    options = parser.parse_args()
    first, *others = [
        RunConf.parse(compose([f"generator={generator}", *options.overrides]))
        for generator in options.generators
    ]
    print(f"{'path':<46}{'claimed':>9}{'proven':>8}{'ceiling':>9}  canaries")
    for found in lower_bounds(first, plan(first, "study"), ROWS, options.depth):
        print(_line(found), flush=True)
    for conf in others:  # whose tables are released like the first's
        rng = np.random.default_rng(conf.seed)
        for found in training_bounds(conf, ROWS, EFFORTS[options.depth], rng):
            print(_line(found), flush=True)
    print("\nof an ideal Gaussian mechanism of epsilon 1, delta 1e-5")
    print("\n".join(ceilings()))


def _line(found: LowerBound) -> str:
    over = " EXCEEDED" if found.exceeds else ""
    figures = f"{found.claimed:>9.2f}{found.bound:>8.2f}{found.ceiling:>9.2f}"
    return f"{found.path:<46}{figures}{over}  {found.detail}"


def ceilings() -> Iterator[str]:
    """What each instrument proves, by number of canaries."""
    mu, rng = gaussian_mu(1.0, 1e-5), np.random.default_rng(0)
    for canaries in (10_000, 40_000, 100_000):
        right = round(canaries * ndtr(mu / 2))
        included = rng.integers(0, 2, canaries).astype(bool)
        scores = mu * (rng.normal(size=canaries) + mu * included - mu / 2)
        surest = np.argsort(-np.abs(scores))[: canaries // SURE]
        correct = int(((scores[surest] > 0) == included[surest]).sum())
        found = [
            bounds.gaussian(right, canaries, delta=1e-5, confidence=CONFIDENCE),
            bounds.gaussian(right, canaries, delta=1e-5, confidence=ONE_RUN),
            bounds.one_run(correct, len(surest), canaries, delta=1e-5, confidence=ONE_RUN),
        ]
        one, same, other = (f"{figure:.2f}" for figure in found)
        yield f"{canaries:>9,} canaries: gaussian {one} ({same} at {ONE_RUN}), one_run {other}"


if __name__ == "__main__":
    main()
