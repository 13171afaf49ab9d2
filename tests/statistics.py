"""Statistical checks: p-values of a right build, and the level below which one is an alarm.

A check at FALSE_ALARM fails a right build once in 10**9, or up to four times as often where it is
a chi-square of counts (below). A run of the suite makes fewer than 1,000 of them, about half of
these on seeded draws, which pass always or never: a right build fails a run of the suite by
chance less than once in 10**5 runs. Where a level differs, the test says so. The checker of
transcripts (e2e/leaks.py) derives a rate of its own.

The tail of a chi-square of counts is heavier than its approximation: with 16 levels that expect
20 each, the p-value 1e-9 has a true chance of 4e-9, and 1e-13 one of 3e-12; with five each it
would be 3e-8 and more than 1e-10 (exact sums over the multinomial). Hence LEAST.

A check of noise must be able to fail: `assert_scale` passes the noise at hand and refuses the
same noise at wrong scales, one too small and one too large, and no noise at all. Take so many
values that a wrong scale is ten standard deviations off, so that its refusal is no luck either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FALSE_ALARM = 1e-9
LEAST = 20.0
"""Count that each level of a chi-square must expect."""


def plausible(p_value: float, level: float = FALSE_ALARM) -> bool:
    """Whether a right build may have such a p-value; one that is no number is none."""
    assert 0 <= p_value <= 1 + 1e-9, p_value
    return p_value > level


def assert_scale(
    z: NDArray[np.float64], p_value: Callable[[NDArray[np.float64]], float], *wrong: float
) -> None:
    """Standardised noise z passes; z times each wrong factor, and no noise at all, do not."""
    assert min(wrong) < 1 < max(wrong), "wrong scales both ways"
    assert plausible(p_value(z))
    for factor in (*wrong, 0.0):
        assert not plausible(p_value(factor * z)), factor


# --- one number after the other -----------------------------------------------------------


def p_mean(z: ArrayLike) -> float:
    """Two-sided p-value of the mean of values with mean 0 and variance 1 (normal)."""
    values = np.asarray(z, dtype=np.float64).ravel()
    return float(2 * stats.norm.sf(abs(values.sum()) / np.sqrt(values.size)))


def p_variance(z: ArrayLike) -> float:
    """Two-sided p-value of the sum of squares of values with mean 0 and variance 1."""
    values = np.asarray(z, dtype=np.float64).ravel()
    total = float(values @ values)
    tail = min(stats.chi2.cdf(total, values.size), stats.chi2.sf(total, values.size))
    return float(min(1.0, 2 * tail))


def p_noise(z: ArrayLike) -> float:
    """Of mean and variance together: the lower p-value, counted twice (Bonferroni)."""
    return min(1.0, 2 * min(p_mean(z), p_variance(z)))


def p_normal(z: ArrayLike) -> float:
    """Of the whole distribution, against the standard normal one (Kolmogorov and Smirnov)."""
    return float(stats.kstest(np.asarray(z).ravel(), "norm").pvalue)


def p_largest(z: ArrayLike) -> float:
    """Of the value of largest size among standard normal ones (Bonferroni)."""
    values = np.abs(np.asarray(z, dtype=np.float64)).ravel()
    return float(min(1.0, 2 * stats.norm.sf(values.max()) * values.size))


def p_mean_of(values: ArrayLike, expected: float) -> float:
    """Two-sided p-value of a mean, its error taken from the values' own spread."""
    found = np.asarray(values, dtype=np.float64)
    error = found.std() / np.sqrt(found.size)
    return float(2 * stats.norm.sf(abs(found.mean() - expected) / error))


# --- counts ------------------------------------------------------------------------------


def p_counts(observed: ArrayLike, expected: ArrayLike | None = None) -> float:
    """Chi-square of counts, against a multinomial of the expected ones (None: all alike).

    Levels that expect fewer than LEAST are taken together; 0 where one that cannot occur did.
    """
    seen = np.asarray(observed, dtype=np.float64).ravel()
    told = np.ones_like(seen) if expected is None else np.asarray(expected, np.float64).ravel()
    told = told * seen.sum() / told.sum()
    if (seen[told < 1e-12] > 0).any():
        return 0.0
    rare = told < LEAST
    if rare.any():
        seen, told = (np.append(x[~rare], x[rare].sum()) for x in (seen, told))
        seen, told = seen[told > 1e-6], told[told > 1e-6]
    return float(stats.chisquare(seen, told * seen.sum() / told.sum()).pvalue)


def p_levels(values: NDArray[np.integer[Any]], levels: int) -> float:
    """Of whole numbers that should be uniform in range(levels).

    Chi-square, or where there are too few: the count of the commonest or of the rarest level,
    binomial and exact, times the number of levels and two (Bonferroni).
    """
    counts = np.bincount(values.ravel(), minlength=levels)
    n = int(counts.sum())
    if n >= LEAST * levels:
        return p_counts(counts)
    if len(counts) > levels:
        return 0.0
    most = stats.binom.sf(counts.max() - 1, n, 1 / levels)
    least = stats.binom.cdf(counts.min(), n, 1 / levels)
    return float(min(1.0, 2 * levels * min(most, least)))


def p_bytes(words: NDArray[np.generic]) -> float:
    """Chi-square of the bytes of an array, all places together, against uniform ones."""
    return p_levels(np.ascontiguousarray(words).view(np.uint8), 256)


def p_binomial(sample: NDArray[np.integer[Any]], coins: int) -> float:
    """Chi-square of a sample against Binomial(coins, 1/2)."""
    top = max(coins, int(sample.max()))
    expected = stats.binom.pmf(np.arange(top + 1), coins, 0.5)
    return p_counts(np.bincount(sample.ravel(), minlength=top + 1), expected)


def p_share(hits: int | np.integer[Any], trials: int, share: float) -> float:
    """Two-sided p-value of a number of hits, binomial and exact."""
    return float(stats.binomtest(int(hits), trials, share).pvalue)


def p_between(hits: int | np.integer[Any], trials: int, low: float, high: float) -> float:
    """Of a number of hits whose share is from low to high: the lower tail at either end."""
    few, many = stats.binom.cdf(hits, trials, low), stats.binom.sf(hits - 1, trials, high)
    return float(min(few, many))


def p_independent(table: Sequence[NDArray[np.integer[Any]]]) -> float:
    """Chi-square of a table of counts whose rows should be of one distribution."""
    return float(stats.chi2_contingency(np.stack(table)).pvalue)
