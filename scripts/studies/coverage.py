"""Coverage of the lift intervals: how often they hold the true difference, over replicates.

    python -m scripts.studies.coverage --replicates 500 --epsilon 0.5 1 4

The experiments are those of tests/analysis/lift/experiments.py.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import beta

from tests.analysis.lift.experiments import SCENARIOS, priority_sigma, study


def interval(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Clopper and Pearson, 1934)."""
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.5, 1.0, 4.0])
    parser.add_argument("--seed", type=int, default=2024)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print(
        f"{'scenario':<22}{'epsilon':>8}{'sigma':>8}{'coverage (its 95 % interval)':>32}"
        f"{'relative':>10}{'width':>11}{'noise/sampling':>16}"
    )
    for scenario in SCENARIOS:
        for epsilon in options.epsilon:
            sigma = priority_sigma(epsilon)
            c = study(scenario, sigma, options.replicates, rng)
            low, high = interval(c.hits, c.replicates)
            shown = f"{c.hits / c.replicates:.1%} ({low:.1%} to {high:.1%})"
            relative = c.relative_hits / c.replicates
            print(
                f"{scenario.name:<22}{epsilon:>8g}{sigma:>8.1f}{shown:>32}"
                f"{relative:>10.1%}{c.width:>11.5f}{c.noise_over_sampling:>16.2f}"
            )


if __name__ == "__main__":
    main()
