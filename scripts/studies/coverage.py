"""Coverage of the lift's intervals: how often they hold the truth, over replicates.

    python -m scripts.studies.coverage --replicates 500 --epsilon 0.5 1 4

Each scenario of tests/analysis/lift/experiments.py is planned as a run is, and its tables have
that plan's noise. A cell counts the replicates in which all intervals that hold jointly do so.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from scipy.stats import beta

from tests.analysis.lift.experiments import SCENARIOS, Cell, World, study


def interval(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Clopper and Pearson, 1934)."""
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.5, 1.0, 4.0])
    parser.add_argument("--scenario", nargs="+", choices=[s.name for s in SCENARIOS])
    parser.add_argument("--seed", type=int, default=2024)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print(f"{'scenario':<11}{'epsilon':>8}  {'cell':<38}{'held':>7}  its 95 % interval")
    for scenario in SCENARIOS:
        if options.scenario and scenario.name not in options.scenario:
            continue
        for epsilon in options.epsilon:
            world = World.of(scenario, epsilon)
            covered, wrong = study(world, options.replicates, rng)
            head = f"{scenario.name:<11}{epsilon:>8g}"
            _print(head, covered, "", 0.95)
            if not any(scenario.lifts.values()):
                _print(head, wrong, "wrong verdicts ", 0.05)


def _print(head: str, cells: Sequence[Cell], what: str, nominal: float) -> None:
    for cell in cells:
        low, high = interval(cell.hits, cell.n)
        off = "" if low <= nominal <= high else "  *"
        shown = f"{cell.hits / cell.n:>7.1%}  {low:.1%} to {high:.1%}{off}"
        print(f"{head}  {what + cell.name:<38}{shown}", flush=True)


if __name__ == "__main__":
    main()
