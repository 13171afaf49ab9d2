"""Design effects from noisy random groups: unbiased, honest in intervals, never silently one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chi2, norm, t

from tests.analysis.lift.clustered import (
    CONF,
    CROSS,
    GROUPED,
    IGNORANT,
    PAIRS,
    SCHEMA,
    STORES,
    Design,
    report,
    tables,
    users,
)
from tests.statistics import p_mean, plausible
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.random_groups import Spread, spread
from twinweave.errors import ConfigError

ALIKE = Design(name="alike", clusters=6000, icc=0.5)


def test_a_spread_is_the_design_effect_whatever_the_noise() -> None:
    """400 draws of groups of independent and of clustered totals, with noise and without."""
    rng = np.random.default_rng(1)
    scale = np.array([900.0, 500.0])
    for effect, noise in ((1.0, 0.0), (3.0, 4.0)):
        z = []
        for _ in range(400):
            sd = np.sqrt(effect * scale / 64 + noise)[:, None]
            totals = 7.0 + sd * rng.standard_normal((2, 64))
            found = spread(totals, np.full((2, 64), noise), scale)
            spread_of_it = np.sqrt(2 / found.df) * (effect + found.noise)
            z.append((found.value - effect) / spread_of_it)
        assert plausible(p_mean(z))
        # The standard error that goes with it is right within 15 %, six of its own errors.
        assert abs(np.std(z) - 1) < 0.15
        # Power: with noise that is forgotten the mean would be off.
        assert not noise or not plausible(p_mean(np.array(z) + 64 * noise / 900 / 0.5))


@given(df=st.floats(5, 200), level=st.sampled_from([0.9, 0.95, 0.999]))
def test_without_noise_and_bound_the_factor_is_students(df: float, level: float) -> None:
    found = Spread(value=1000.0, noise=0.0, df=df)
    student = t.ppf((1 + level) / 2, df) / norm.ppf((1 + level) / 2)
    used = (found.factor(level, 2000.0) / 1000) ** 0.5
    assert used == pytest.approx(student, rel=0.01)


@given(
    df=st.floats(10, 200),
    noise=st.floats(0, 30),
    most=st.floats(1.2, 50),
    part=st.floats(0, 1),
    level=st.sampled_from([0.9, 0.95]),
)
def test_intervals_cover_whatever_the_design_effect(
    df: float, noise: float, most: float, part: float, level: float
) -> None:
    true = most**part
    drawn = (true + noise) * chi2.ppf((np.arange(400) + 0.5) / 400, df) / df - noise
    z = norm.ppf((1 + level) / 2)

    def coverage(factors: list[float]) -> float:
        return float((2 * norm.cdf(z * np.sqrt(np.array(factors) / true)) - 1).mean())

    used = [Spread(value=v, noise=noise, df=df).factor(level, most) for v in drawn]
    assert coverage(used) > level - 0.003
    assert min(used) >= 1


def test_coverage_of_a_cluster_randomised_experiment() -> None:
    """Correlation .8 in clusters of four: 80 experiments. Intervals that hold the truth in 94 %
    are refused once in 10**6; those of the broken variant, near 75 %, are told from them."""
    rng, replicates = np.random.default_rng(2), 80
    strong = replace(ALIKE, sizes=((4, 1.0),), clusters=2000, icc=0.8)
    hits = {True: 0, False: 0}
    for _ in range(replicates):
        found = tables(users(strong, rng), 3.0, rng)
        for conf in (CONF, IGNORANT):
            overall = analyse(SCHEMA, found, conf).conversions[0].overall
            assert overall is not None
            hits[conf is CONF] += overall.absolute.covers(strong.lift)
    assert binom.cdf(hits[True], replicates, 0.94) > 1e-6
    assert binom.cdf(hits[False], replicates, 0.94) < 1e-6


def test_the_arms_sizes_are_not_contradicted_by_clusters() -> None:
    """Stores of 40 to 160 users as wholes: sizes differ by far more than independent users'."""
    rng = np.random.default_rng(3)
    stores = Design(name="stores", clusters=60, sizes=STORES, icc=0.05)
    found = [tables(users(stores, rng), 3.0, rng) for _ in range(12)]
    told = [[analyse(SCHEMA, f, conf).sample_ratio for f in found] for conf in (CONF, IGNORANT)]
    suspicious = [sum(one is not None and one.suspicious for one in own) for own in told]
    assert suspicious[0] == 0
    assert suspicious[1] > 3


def test_where_the_noise_leaves_it_open_the_mean_cluster_size_bounds_it() -> None:
    rng = np.random.default_rng(4)
    couples = Design(name="couples", clusters=3000, sizes=PAIRS, icc=0.3, rates=(0.01, 0.01))
    noisy, quiet = (report(couples, sigma, rng).clusters for sigma in (25.0, 1.0))
    assert noisy is not None
    assert quiet is not None
    assert noisy.size is not None
    assert quiet.size is not None
    effect = noisy.effects[0]
    assert (effect.outcome, effect.basis) == ("converted", "bound")
    assert effect.used == noisy.size.used
    assert quiet.effects[0].basis == "estimate"
    assert quiet.effects[0].used < quiet.size.used
    assert 1.5 < quiet.size.value < 2.5


def test_a_declared_design_effect_is_believed_and_said() -> None:
    rng = np.random.default_rng(5)
    found = tables(users(ALIKE, rng), 3.0, rng)[:1]
    declared = replace(IGNORANT, design_effect=4.0)
    plain, wide = (analyse(SCHEMA, found, conf) for conf in (IGNORANT, declared))
    assert wide.clusters is not None
    assert [(e.used, e.basis) for e in wide.clusters.effects] == [(4.0, "declared")]
    assert plain.conversions[0].overall is not None
    assert wide.conversions[0].overall is not None
    error = plain.conversions[0].overall.sampling_error
    assert wide.conversions[0].overall.sampling_error == pytest.approx(2 * error)
    assert wide.sample_ratio is None  # it does not say how large clusters are
    assert plain.clusters is None


def test_clusters_without_their_table_are_an_error_and_no_silent_one() -> None:
    rng = np.random.default_rng(6)
    found = tables(users(ALIKE, rng), 3.0, rng)
    assert [m.query for m in found] == [CROSS, GROUPED]
    with pytest.raises(ConfigError, match="random groups of 'household'"):
        analyse(SCHEMA, found[:1], CONF)


@pytest.mark.parametrize("effect", [0.5, float("nan"), float("inf")])
def test_a_design_effect_below_one_or_no_number_is_refused(effect: float) -> None:
    with pytest.raises(ConfigError, match=r"lift\.design_effect"):
        replace(IGNORANT, design_effect=effect)


def test_a_design_effect_is_declared_or_measured() -> None:
    with pytest.raises(ConfigError, match="is declared, and is to be measured"):
        replace(CONF, design_effect=1.4)
