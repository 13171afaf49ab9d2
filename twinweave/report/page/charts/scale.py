"""From numbers to places on an axis, and the round numbers that stand on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

WIDTH = 100.0
"""Of every plot: places are percentages of its width."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """low to high over WIDTH; low < high."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float], *, margin: float = 0.06) -> Scale:
        """Holds all that is finite, with a margin at both ends."""
        kept = [v for v in values if isfinite(v)] or [0.0]
        low, high = min(kept), max(kept)
        spread = (high - low) or abs(high) or 1.0
        return cls(low=low - margin * spread, high=high + margin * spread)

    @classmethod
    def from_zero(cls, values: Iterable[float]) -> Scale:
        """0 to a little above the largest."""
        return cls(low=0.0, high=1.04 * max([v for v in values if isfinite(v)], default=0.0) or 1.0)

    def at(self, x: float) -> float:
        """The place of x, at the nearest end where it lies outside."""
        return WIDTH * (min(max(x, self.low), self.high) - self.low) / (self.high - self.low)

    def holds(self, x: float) -> bool:
        return self.low <= x <= self.high

    def ticks(self, about: int = 5) -> tuple[float, ...]:
        """Round numbers inside, 1, 2 or 5 times a power of ten apart."""
        rough = (self.high - self.low) / about
        power = 10.0 ** floor(log10(rough))
        step = next(power * f for f in (1, 2, 5, 10) if power * f >= rough * 0.999)
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return tuple(round(i * step, 12) for i in range(first, last + 1))

    def tick_texts(
        self, scale: float = 1.0, suffix: str = "", *, signed: bool = False
    ) -> list[str]:
        """The ticks as an axis has them, `scale` times the number."""
        ticks = [t * scale for t in self.ticks()]
        apart = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else 1.0
        places = max(0, -floor(log10(apart) + 1e-9))
        texts = [f"{t:{'+' if signed and t else ''},.{places}f}" for t in ticks]
        return [f"{t}{suffix}".replace("-", "−") for t in texts]
