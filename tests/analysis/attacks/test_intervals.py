"""Areas, rates and means against brute force; how often their intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.statistics import p_between
from twinweave.analysis.attacks.intervals import area, at_few_false_alarms, means, rates

LEVEL = 0.95


def test_an_area_is_the_chance_to_score_higher() -> None:
    rng = np.random.default_rng(0)
    used, aside = rng.integers(0, 5, 40).astype(float), rng.integers(0, 4, 30).astype(float)
    pairs = used[:, None] - aside[None]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert area(used, aside, LEVEL).success == pytest.approx(expected)


def test_delong_against_brute_force() -> None:
    rng = np.random.default_rng(1)
    used, aside = rng.normal(0.5, 1, 50), rng.normal(0, 1, 40)
    wins = (used[:, None] > aside[None]).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / 50 + wins.mean(axis=0).var(ddof=1) / 40
    low, high = area(used, aside, LEVEL).interval
    assert high - low == pytest.approx(2 * stats.norm.ppf(0.975) * np.sqrt(variance))


def test_scores_that_are_all_alike_tell_nothing() -> None:
    found = area(np.zeros(50), np.zeros(40), LEVEL)
    assert (found.success, found.interval) == (0.5, (0.0, 0.0))


def test_true_positives_are_counted_above_the_others_quantile() -> None:
    used, aside = np.arange(100.0) + 0.5, np.arange(-50.0, 50.0)
    found = at_few_false_alarms(used, aside, 0.02, LEVEL, np.random.default_rng(0))
    assert found.control == 0.02  # 48 and 49
    assert found.success == 0.52


@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_intervals_hold_the_truth(rate: float) -> None:
    """400 draws each, shifted normals. Alarm: coverage that could not be from 91 to 99 %, at 1e-6
    a check; an interval of half the width covers 67 % and is one."""
    rng = np.random.default_rng(7)
    shift, n, m = 0.7, 500, 300
    truth_area = float(stats.norm.cdf(shift / np.sqrt(2)))
    truth_few = float(stats.norm.sf(stats.norm.isf(rate) - shift)) - rate
    held, narrow = np.zeros(2, dtype=int), 0
    for _ in range(400):
        used, aside = rng.normal(shift, 1, n), rng.normal(0, 1, m)
        a = area(used, aside, LEVEL).interval
        b = at_few_false_alarms(used, aside, rate, LEVEL, rng).interval
        held += a[0] <= truth_area - 0.5 <= a[1], b[0] <= truth_few <= b[1]
        middle, half = sum(a) / 2, (a[1] - a[0]) / 4
        narrow += abs(middle - truth_area + 0.5) <= half
    for count in held:
        assert p_between(count, 400, 0.91, 0.99) > 1e-6, count
    assert p_between(narrow, 400, 0.91, 0.99) < 1e-6


@pytest.mark.parametrize("tied", [0.05, 0.08, 0.3])
def test_scores_with_ties_raise_no_more_false_alarms_than_others(tied: float) -> None:
    """300 draws of two scores alone, alike on both sides. With ties left as they are the interval
    lay above .02 in 5 % of them. Alarm: a rate above 2.5 %, at 1e-4."""
    rng = np.random.default_rng(9)
    above = 0
    for _ in range(300):
        used, aside = (-(rng.random(n) > tied).astype(float) for n in (300, 60))
        above += at_few_false_alarms(used, aside, 5 / 60, LEVEL, rng).interval[0] > 0.02
    assert p_between(above, 300, 0.0, 0.025) > 1e-4, above


def test_rates_have_newcombes_interval() -> None:
    """Newcombe (1998), table II, example (a): 56/70 and 48/80, method 10."""
    found = rates(56, 70, 48, 80, LEVEL)
    assert found.interval == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_means_have_welchs_error() -> None:
    used, aside = np.array([0.0, 1.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0])
    found = means(used, aside, LEVEL)
    error = np.sqrt(0.25 / 4 + (1 / 3) / 3)
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 1.959964 * error)
