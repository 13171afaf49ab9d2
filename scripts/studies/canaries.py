"""What canaries prove of each release path, for each generator, beside claim and ceiling.

    python -m scripts.studies.canaries --depth full --generators tvae ctgan llm

Runs of canaries alone, with the configuration of a default run over the built-in campaign: no
row of it is read. Then what each instrument can prove of an ideal Gaussian mechanism.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr

from twinweave.analysis.audit.results import LowerBound
from twinweave.analysis.canaries import bounds
from twinweave.analysis.canaries.run import lower_bounds
from twinweave.analysis.canaries.trial import CONFIDENCE, SURE
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
    print(f"{'path':<46}{'claimed':>9}{'proven':>8}{'ceiling':>9}  canaries")
    known: set[str] = set()
    for generator in options.generators:
        started = time.process_time()
        conf = RunConf.parse(compose([f"generator={generator}", *options.overrides]))
        for found in lower_bounds(conf, plan(conf, "study"), ROWS, options.depth):
            if found.path not in known:  # tables are released alike whatever the generator
                print(_line(found), flush=True)
            known.add(found.path)
        print(f"  ({generator}: {time.process_time() - started:.0f} CPU s in all)")
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
        terms = {"delta": 1e-5, "confidence": CONFIDENCE}
        one = bounds.gaussian(right, canaries, **terms)
        other = bounds.one_run(correct, len(surest), canaries, **terms)
        yield f"{canaries:>9,} canaries: independent {one:.2f}, one run {other:.2f}"


if __name__ == "__main__":
    main()
