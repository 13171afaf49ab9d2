"""A square of pairs, coloured by how far each is off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from twinweave.report.page.html import element

_CELL = 22.0
_LABEL = 134.0
STEPS = 6
"""Shades, `h0` the lightest."""


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """names: of rows and columns. shades: {(row, column), row > column: (shade, what it says)}.

    label: the alternative in words.
    """

    names: Sequence[str]
    shades: Mapping[tuple[int, int], tuple[int, str]]
    label: str


def heatmap(f: Heatmap) -> Markup:
    """The lower triangle: rows from the second name on, columns up to the last but one.

    Drawn to scale, as text turns in it; the page scrolls it where there is no room.
    """
    n = len(f.names)
    size = (n - 1) * _CELL
    shapes = []
    for (row, column), (shade, says) in sorted(f.shades.items()):
        shapes.append(
            element(
                "rect",
                element("title", f"{f.names[row]} × {f.names[column]}: {says}"),
                x=_LABEL + column * _CELL + 1,
                y=(row - 1) * _CELL + 1,
                width=_CELL - 2,
                height=_CELL - 2,
                rx=3,
                class_=f"h{min(max(shade, 0), STEPS - 1)}",
            )
        )
    for i, name in enumerate(f.names):
        if i:
            y = (i - 1) * _CELL + 15
            shapes.append(element("text", _cut(name), x=_LABEL - 8, y=y, text_anchor="end"))
        if i < n - 1:
            x, y = _LABEL + i * _CELL + 8, size + 10
            turn = f"rotate(50 {x:g} {y:g})"
            shapes.append(element("text", _cut(name), x=x, y=y, transform=turn))
    width, height = _LABEL + size + 90, size + 122
    return element(
        "svg",
        Markup("").join(shapes),
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        aria_label=f.label,
        class_="heat",
    )


def _cut(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"
