"""95 % intervals hold the truth 95 % of the time, and the test notices when they do not.

500 replicates. Accepted: a number of hits that a true coverage between 94 and 96.5 % makes
at least 1e-6 likely in each tail, so a right build fails below 1e-6 a scenario.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.analysis.lift.experiments import (
    SCENARIOS,
    finding,
    priority_sigma,
    replicate,
    study,
    truth,
)
from tests.statistics import p_between, plausible

REPLICATES = 500
LEVEL = 1e-6
BY_NAME = {s.name: s for s in SCENARIOS}


def acceptable(hits: int) -> bool:
    return plausible(p_between(hits, REPLICATES, 0.94, 0.965), LEVEL)


@pytest.mark.parametrize(
    ("name", "epsilon"),
    [("hillstrom conversion", 0.5), ("campaign", 1.0), ("small", 4.0), ("hillstrom spend", 1.0)],
)
def test_intervals_cover_the_truth(name: Any, epsilon: Any) -> None:
    found = study(BY_NAME[name], priority_sigma(epsilon), REPLICATES, np.random.default_rng(17))
    assert found.replicates == REPLICATES  # nothing is suppressed at these sizes
    assert acceptable(found.hits)
    assert acceptable(found.relative_hits)


@pytest.mark.parametrize("claimed", [1e-6, 9.0], ids=["noise ignored", "noise tripled"])
def test_a_wrong_noise_variance_is_caught(claimed: float) -> None:
    scenario, sigma = BY_NAME["hillstrom conversion"], priority_sigma(0.5)
    rng, lift, hits = np.random.default_rng(23), truth(BY_NAME["hillstrom conversion"]), 0
    for _ in range(REPLICATES):
        tables = [
            replace(m, variance=m.variance * claimed) for m in replicate(scenario, sigma, rng)
        ]
        found = finding(scenario, tables)
        assert found is not None
        hits += found.absolute.interval[0] <= lift <= found.absolute.interval[1]
    assert not acceptable(hits)


def test_the_noise_of_a_hillstrom_run_is_below_half_the_sampling_error() -> None:
    found = finding(
        BY_NAME["hillstrom visit"],
        replicate(BY_NAME["hillstrom visit"], priority_sigma(1.0), np.random.default_rng(1)),
    )
    assert found is not None
    assert found.noise_sd / found.sampling_error < 0.5
