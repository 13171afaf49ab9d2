"""What every analysis finds: an estimate that carries its interval."""

from __future__ import annotations

from dataclasses import dataclass

Interval = tuple[float, float]


def inside(value: float, interval: Interval) -> float:
    """The estimate, or its interval's nearest end where it lies outside."""
    low, high = interval
    return min(max(value, low), high)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An estimate with its two-sided confidence interval."""

    value: float
    interval: Interval

    def covers(self, truth: float) -> bool:
        """Whether the interval has this value in it."""
        return self.interval[0] <= truth <= self.interval[1]
