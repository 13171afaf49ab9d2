"""Limits of rates, differences and ratios: published values, and agreement with one another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinweave.analysis.lift.amounts import user_variance
from twinweave.analysis.lift.breakdown import interaction
from twinweave.analysis.lift.compare import compare
from twinweave.analysis.lift.intervals import Mean, Rate, difference, p_value, quantile, ratio_set
from twinweave.analysis.lift.multiplicity import holm
from twinweave.analysis.lift.results import Verdict

Z = quantile(0.95)


def rate(y: float, n: float, noise: float = 0.0, noise_n: float = 0.0) -> Rate:
    return Rate(n=n, total=y, var_n=noise_n**2, var_total=noise**2, cov=0.0)


noisy_rates = st.builds(
    lambda n, p, s, t, e: rate(p * n + e * s, n, s, t),
    st.floats(200, 50_000),
    st.floats(0, 1),
    st.floats(0.1, 60),
    st.floats(0, 20),
    st.floats(-2, 2),
)


def test_without_noise_a_rate_has_wilsons_limits() -> None:
    assert rate(10, 100).limits(Z) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert rate(0, 20).limits(Z) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_without_noise_a_difference_has_newcombes_limits() -> None:
    """Newcombe 1998, Statistics in Medicine 17, table II (a), method 10."""
    assert difference(rate(56, 70), rate(48, 80), Z) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_noise_widens_a_rate_as_the_delta_method_says() -> None:
    n, p, sd_y, sd_n = 1e6, 0.3, 3000.0, 2000.0
    low, high = rate(p * n, n, sd_y, sd_n).limits(Z)
    expected = Z * np.sqrt(p * (1 - p) / n + (sd_y**2 + p**2 * sd_n**2) / n**2)
    assert (high - low) / 2 == pytest.approx(expected, rel=1e-3)


def test_a_negative_noisy_count_keeps_honest_limits() -> None:
    """Below zero no sampling variance is left, but all of the noise is."""
    low, high = rate(-20, 1000, noise=15).limits(Z)
    assert low == pytest.approx((-20 - Z * 15) / 1000)
    assert high > (-20 + Z * 15) / 1000


@settings(max_examples=200)
@given(noisy_rates, noisy_rates)
def test_interval_p_value_relative_set_and_verdict_agree(test: Rate, control: Rate) -> None:
    found = compare(test, control, level=0.95, possible=(0, 1))
    low, high = difference(test, control, Z)
    if min(abs(low), abs(high)) < 1e-9:
        return
    holds_zero = low <= 0 <= high
    assert (found.p_value >= 0.05) == holds_zero
    assert (found.verdict is Verdict.INCONCLUSIVE) == holds_zero
    assert found.relative is not None
    inside = any(a <= 0 and (b is None or b >= 0) for a, b in found.relative.intervals)
    assert inside == holds_zero
    assert -1 <= found.absolute.interval[0] <= found.absolute.interval[1] <= 1


@settings(max_examples=100)
@given(noisy_rates, noisy_rates, st.floats(0, 20))
def test_ratio_set_is_the_set_it_claims(test: Rate, control: Rate, ratio: float) -> None:
    """Oracle: membership of one ratio at a time."""
    pieces = ratio_set(test, control, Z)
    if any(abs(ratio - e) < 1e-6 for p in pieces for e in p if e is not None):
        return
    low, high = difference(test, control, Z, scale=ratio)
    if min(abs(low), abs(high)) < 1e-9:
        return
    assert any(a <= ratio and (b is None or ratio <= b) for a, b in pieces) == (low <= 0 <= high)


def test_a_control_that_may_be_zero_leaves_the_relative_lift_unbounded() -> None:
    found = compare(rate(300, 10_000, 15), rate(10, 10_000, 15), level=0.95, possible=(0, 1))
    assert found.verdict is Verdict.LIFT
    assert found.relative is not None
    low, high = found.relative.intervals[0]
    assert low > 0
    assert high is None


def test_a_size_lost_in_noise_says_nothing() -> None:
    found = compare(rate(5, 30, 15, 40), rate(5, 30, 15, 40), level=0.95, possible=(0, 1))
    assert found.absolute.interval == (-1.0, 1.0)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_p_value_of_a_large_sample_is_the_normal_one() -> None:
    from scipy.stats import norm

    test = Mean(total=1020.0, var_total=4.0, n=100.0, var_n=0.0, variance=16.0)
    control = Mean(total=900.0, var_total=4.0, n=100.0, var_n=0.0, variance=16.0)
    z = 1.2 / np.sqrt(2 * (0.16 + 4 / 100**2))
    assert p_value(test, control) == pytest.approx(2 * norm.sf(z), rel=1e-6)


def test_holm_matches_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_interaction_is_cochrans_q() -> None:
    found = [
        compare(rate(y, 10_000), rate(1000, 10_000), level=0.95, possible=(0, 1))
        for y in (1200, 1500)
    ]
    noise = np.diag([c.noise_sd**2 for c in found])
    result = interaction(found, noise)
    assert result is not None
    d = found[1].absolute.value - found[0].absolute.value
    total = found[0].standard_error ** 2 + found[1].standard_error ** 2
    assert result.q == pytest.approx(d**2 / total)
    assert interaction(found[:1], noise[:1, :1]) is None


def test_interaction_counts_noise_that_levels_share() -> None:
    """What moves all levels alike tells nothing of their difference, by however much it may."""
    found = [
        compare(rate(y, 10_000), rate(1000, 10_000), level=0.95, possible=(0, 1))
        for y in (1200, 1500, 1300)
    ]
    alone, shared = (interaction(found, np.full((3, 3), v)) for v in (0.0, 1e-3))
    assert alone is not None
    assert shared is not None
    assert shared.q == pytest.approx(alone.q)


def test_value_variance_falls_back_on_the_largest_the_bounds_allow() -> None:
    n, total, top = 1000.0, 51_200.0, 1000.0
    variance, measured = user_variance(n, total, 0.0, ratio=600.0, top=top)
    assert measured
    assert variance == pytest.approx(600 * 51.2 - 51.2**2)
    for ratio in (None, 51.0):  # not known; less than the mean, as no ratio of moments is
        bound, measured = user_variance(n, total, 0.0, ratio=ratio, top=top)
        assert not measured
        assert bound == pytest.approx(51.2 * (top - 51.2))


def test_incremental_conversions_count_the_noise_in_the_arms_size() -> None:
    """y1 - n1 p0 with noise in y1, n1 and p0, exactly; sampling is next to nothing here."""
    var_y, var_n, cov, n = 4e8, 9e8, 3e8, 1e6
    test = Rate(n=n, total=0.6 * n, var_n=var_n, var_total=var_y, cov=cov)
    control = rate(0.2 * n, n, 1e-3)
    found = compare(test, control, level=0.95, possible=(0, 1)).incremental
    sampling = n * (0.6 * 0.4 + 0.2 * 0.8)
    expected = Z * np.sqrt(var_y - 2 * 0.2 * cov + 0.2**2 * var_n + sampling)
    assert found.value == pytest.approx(0.4 * n)
    assert (found.interval[1] - found.interval[0]) / 2 == pytest.approx(expected, rel=0.01)


def test_value_variance_takes_out_what_noise_adds_to_the_squared_mean() -> None:
    clean, _ = user_variance(1000.0, 51_200.0, 0.0, ratio=600.0, top=1000.0)
    noisy, _ = user_variance(1000.0, 51_200.0, 4e8, ratio=600.0, top=1000.0)
    assert noisy - clean == pytest.approx(400)


def test_a_mean_that_noise_has_made_small_counts_as_one_of_its_deviation() -> None:
    for total in (-5e4, 0.0, 1e3):
        found, measured = user_variance(1000.0, total, 4e8, ratio=600.0, top=1000.0)
        assert measured
        assert found == pytest.approx(600 * 20)
