"""One arm against another, of any two noisy means: the one place where findings are made."""

from __future__ import annotations

from math import sqrt

from scipy.stats import norm

from twinweave.analysis.finding import Finding, Interval
from twinweave.analysis.lift.intervals import Estimate, difference, p_value, quantile, ratio_set
from twinweave.analysis.lift.results import ArmResult, Comparison, Relative, Verdict

POWER = 0.8
"""Of the minimum detectable effect."""


def compare(
    test: Estimate,
    control: Estimate,
    *,
    level: float,
    possible: Interval,
) -> Comparison:
    """Compare two arms at confidence `level`.

    possible: smallest and largest mean there can be; intervals are intersected with what
    follows, and a mean that may be negative has no relative lift. 1 - level is the error rate of
    the verdict too.
    """
    z = quantile(level)
    test, control = test.at(level), control.at(level)
    span = possible[1] - possible[0]
    lift = test.mean - control.mean
    interval = within(difference(test, control, z), (-span, span))
    p = p_value(test, control)
    noise = sqrt(test.noise + control.noise)
    sampling = sqrt(test.sampling + control.sampling)
    return Comparison(
        test=_arm(test, z, possible),
        control=_arm(control, z, possible),
        absolute=Finding(value=lift, interval=interval),
        relative=_relative(test, control, z) if possible[0] >= 0 else None,
        incremental=_incremental(test, lift, interval, z),
        level=level,
        p_value=p,
        mde=(z + float(norm.ppf(POWER))) * sqrt(noise**2 + sampling**2),
        noise_sd=noise,
        sampling_error=sampling,
        verdict=verdict(lift, p, 1 - level),
    )


def verdict(lift: float, p: float, alpha: float) -> Verdict:
    """Name the direction when p is below alpha, and say so when it is not."""
    if not p < alpha:
        return Verdict.INCONCLUSIVE
    return Verdict.LIFT if lift > 0 else Verdict.HARM


def _arm(estimate: Estimate, z: float, possible: Interval) -> ArmResult:
    return ArmResult(
        n=estimate.n,
        n_noise_sd=sqrt(estimate.var_n),
        total=estimate.total,
        total_noise_sd=sqrt(estimate.var_total),
        rate=estimate.mean,
        interval=within(estimate.limits(z), possible),
        noise_sd=sqrt(estimate.noise),
        sampling_error=sqrt(estimate.sampling),
    )


def _incremental(test: Estimate, lift: float, interval: Interval, z: float) -> Finding:
    """lift * n for the test arm, the noise in n included (delta method).

    Of the sign that the lift has, as far as its interval tells it: where n is hardly above its
    noise, or the interval ends at what is possible, the method alone would find an effect in a
    lift that may be none.
    """
    size = z * z * (lift**2 * test.var_n + 2 * lift * test.n_cov)
    low, high = (sqrt(max((test.n * (end - lift)) ** 2 + size, 0.0)) for end in interval)
    value = lift * test.n
    ends = value - low, value + high
    signed = (min(ends[0], 0.0), max(ends[1], 0.0)) if interval[0] <= 0 <= interval[1] else ends
    return Finding(value=value, interval=signed)


def _relative(test: Estimate, control: Estimate, z: float) -> Relative:
    value = test.mean / control.mean - 1 if control.mean > 0 else None
    pieces = tuple(
        (low - 1, None if high is None else high - 1) for low, high in ratio_set(test, control, z)
    )
    return Relative(value=value, intervals=pieces)


def within(interval: Interval, possible: Interval) -> Interval:
    """The part of `interval` that is possible; the nearest possible point when none is."""
    low, high = (min(max(end, possible[0]), possible[1]) for end in interval)
    return low, high
