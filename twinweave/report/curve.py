"""A curve as a picture: SVG by itself, without a library, a script or a font of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 560, 340, 56, 40, 150, 48
_COLOURS = ("#1b6ca8", "#c8553d", "#4d7c0f", "#7c3aed", "#8a6d00")
_TICKS = 5


def curves_svg(
    title: str, across: str, x: Sequence[float], lines: Mapping[str, Sequence[float]]
) -> str:
    """Lines over common x, y from 0 (or the lowest value) to the highest. Public figures only.

    across: what x is. lines: values at each x, by name; five at most are told apart by colour.
    """
    values = [v for line in lines.values() for v in line]
    low, high = min(0.0, *values), max(*values, 1e-9)
    first, last = min(x), max(x)

    def at(a: float, b: float) -> tuple[float, float]:
        inner, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return (
            _LEFT + inner * (a - first) / ((last - first) or 1),
            _HEIGHT - _BOTTOM - tall * (b - low) / (high - low),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title)}</title>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for i in range(_TICKS):
        value = low + (high - low) * i / (_TICKS - 1)
        left, y = at(first, value)
        right, _ = at(last, value)
        parts.append(f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:.3f}</text>'
        )
    for value in x:
        place, bottom = at(value, low)
        parts.append(
            f'<text x="{place:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{value:g}</text>'
        )
    middle, bottom = at((first + last) / 2, low)
    parts.append(
        f'<text x="{middle:.1f}" y="{bottom + 38:.1f}" text-anchor="middle">{escape(across)}</text>'
    )
    for i, (name, line) in enumerate(lines.items()):
        points = [at(a, b) for a, b in zip(x, line, strict=True)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        colour = _COLOURS[i % len(_COLOURS)]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        y = _TOP + 18 * i + 8
        left = _WIDTH - _RIGHT + 12
        parts.append(f'<path d="M{left} {y - 4}h14" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{left + 20}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
