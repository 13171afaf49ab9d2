"""Numbers, intervals and aligned tables for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log10

WIDTH = 92


@dataclass(frozen=True, kw_only=True)
class Unit:
    """How a difference is written: `scale` times the number, `decimals` places, a suffix."""

    scale: float
    decimals: int
    suffix: str

    def plain(self, x: float) -> str:
        return f"{_no_negative_zero(x * self.scale, self.decimals):,.{self.decimals}f}"

    def signed(self, x: float) -> str:
        return f"{_no_negative_zero(x * self.scale, self.decimals):+,.{self.decimals}f}"

    def between(self, ends: tuple[float, float], *, signed: bool = True) -> str:
        write = self.signed if signed else self.plain
        return f"{write(ends[0])} to {write(ends[1])}{self.suffix}"


def unit_for(error: float, *, scale: float, suffix: str) -> Unit:
    """Enough decimals to show `error` (a standard error, unscaled) to two digits, 1 to 6."""
    shown = error * scale
    places = 2 if shown <= 0 else ceil(1 - log10(shown))
    return Unit(scale=scale, decimals=min(max(places, 1), 6), suffix=suffix)


def whole(x: float) -> str:
    """A count of users or conversions."""
    return f"{_no_negative_zero(x, 0):,.0f}"


def percent(x: float) -> str:
    return f"{_no_negative_zero(100 * x, 1):+.1f} %"


def level_text(level: float) -> str:
    """95%, 97.37%, 99.995%: never rounded to certainty."""
    digits = 2
    while digits < 9 and round(100 * level, digits) >= 100:
        digits += 1
    return f"{100 * level:.{digits}f}".rstrip("0").rstrip(".") + "%"


def p_text(p: float) -> str:
    if p < 1e-4:
        return f"{p:.0e}" if p > 1e-99 else "<1e-99"
    return f"{p:.4f}" if p < 0.01 else f"{p:.3f}"


def p_is(p: float) -> str:
    """The p-value in a sentence."""
    text = p_text(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def rule(character: str = "─") -> str:
    return character * WIDTH


def headline(left: str, right: str) -> list[str]:
    """The head of a section, between two rules."""
    return ["", rule(), f" {left}{right:>{WIDTH - len(left) - 2}} ", rule()]


def paragraph(text: str, indent: str = "  ") -> list[str]:
    """Wrap to the page; continuation lines are indented alike."""
    return textwrap.wrap(text, WIDTH - 1, initial_indent=indent, subsequent_indent=indent)


def table(rows: Sequence[Sequence[str]], *, left: int = 1, indent: str = "  ") -> list[str]:
    """Aligned columns: the first `left` to the left, the others to the right."""
    n = max(len(row) for row in rows)
    padded = [[*row, *[""] * (n - len(row))] for row in rows]
    widths = [max(len(row[i]) for row in padded) for i in range(n)]
    return [
        indent
        + "   ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in padded
    ]


def shortened(text: str, width: int = 22) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def told_apart(names: Sequence[str], width: int) -> dict[str, str]:
    """Names in `width` characters, numbered where they would be the same."""
    short: dict[str, str] = {}
    for name in dict.fromkeys(names):
        told, place = shortened(name, width), 1
        while told in short.values():
            place += 1
            told = f"{name[: width - 1 - len(str(place))]}…{place}"
        short[name] = told
    return short


def _no_negative_zero(x: float, decimals: int) -> float:
    return 0.0 if round(x, decimals) == 0 else x
