"""What a person is shown of an estimate: inside its interval, and within what is possible.

Noise can leave a rate of -0.2 % or a sum above its arm. report.json has the figures as they
came out, unbiased; what is read by eye is clipped to the interval beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isinf

from twinweave.analysis.finding import Finding, Interval, inside
from twinweave.analysis.lift.results import ArmResult, Comparison, Relative

Bounded = tuple[float, float | None]
"""An upper end of None is infinity."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An estimate and its interval; low <= value <= high."""

    value: float
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class ShownArm:
    """One arm: users and total are not negative where the mean is not."""

    n: float
    total: float
    rate: Shown


@dataclass(frozen=True, kw_only=True)
class ShownRelative:
    """A relative lift of -1 or more. value: None where the control may be zero.

    pieces: of the confidence set, ascending; one of them holds the value. () where nothing is
    known.
    """

    value: float | None
    pieces: tuple[Bounded, ...]


@dataclass(frozen=True, kw_only=True)
class ShownComparison:
    """Two arms and their difference, which is that of the rates shown as far as it can be."""

    test: ShownArm
    control: ShownArm
    absolute: Shown
    incremental: Shown
    relative: ShownRelative | None


def shown_epsilon(epsilon: float | None) -> str:
    """To four digits. None, as in report.json, is infinity: no guarantee."""
    return "∞" if epsilon is None or isinf(epsilon) else f"{epsilon:.4f}"


def shown_comparison(found: Comparison) -> ShownComparison:
    test, control = shown_arm(found.test), shown_arm(found.control)
    absolute = Shown(value=found.possible, interval=found.absolute.interval)
    relative = None
    if found.relative is not None:
        base = control.rate.value
        value = test.rate.value / base - 1 if base > 0 else None
        relative = shown_relative(Relative(value=value, intervals=found.relative.intervals))
    return ShownComparison(
        test=test,
        control=control,
        absolute=absolute,
        incremental=shown(absolute.value * test.n, found.incremental.interval),
        relative=relative,
    )


def shown(value: float, interval: Interval) -> Shown:
    """The estimate at its interval's nearest end where it lies outside."""
    return Shown(value=inside(value, interval), interval=interval)


def shown_finding(found: Finding) -> Shown:
    return shown(found.value, found.interval)


def shown_arm(arm: ArmResult) -> ShownArm:
    """The total follows from the rate, so that the columns of a table agree."""
    rate, n = shown(arm.rate, arm.interval), max(arm.n, 0.0)
    return ShownArm(n=n, total=rate.value * n, rate=rate)


def shown_relative(found: Relative) -> ShownRelative:
    """Nothing is known where the set holds every ratio."""
    pieces = found.intervals
    if any(low <= -1 and high is None for low, high in pieces):
        return ShownRelative(value=None, pieces=())
    if found.value is None:
        return ShownRelative(value=None, pieces=pieces)
    value = max(found.value, -1.0)
    if not pieces:  # noise has left both arms, or the test arm, far below zero
        return ShownRelative(value=value, pieces=((value, value),))
    if not any(low <= value and (high is None or value <= high) for low, high in pieces):
        ends = (end for piece in pieces for end in piece if end is not None)
        value = min(ends, key=lambda end: abs(end - value))
    return ShownRelative(value=value, pieces=pieces)
