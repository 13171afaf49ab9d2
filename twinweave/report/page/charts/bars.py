"""Lengths one below the other: epsilons, seconds, bytes, users by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from markupsafe import Markup

from twinweave.report.page.charts.intervals import picture
from twinweave.report.page.charts.scale import Scale
from twinweave.report.page.html import element, render


@dataclass(frozen=True, kw_only=True)
class Length:
    """One bar. value: infinite for one beyond every scale. text: its number in words.
    error: half an interval around `measured`, a dot.

    tone: "" or muted. group: a heading above it, where it begins one. drawn: False for a sum of
    others, beside which they would be too short to see: its number stands alone.
    """

    name: str
    value: float
    text: str
    tone: str = ""
    group: str = ""
    measured: float | None = None
    error: float = 0.0
    drawn: bool = True


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """caption: a sentence. limit: where a line stands through all of them, and its name."""

    caption: str
    rows: Sequence[Length]
    limit: tuple[float, str] | None = None
    key: Sequence[tuple[str, str]] = ()
    kind: str = ""


_TEMPLATE = """
<figure class="chart {{ f.kind }}">
<figcaption>{{ f.caption|figures }}</figcaption>
<table class="lengths"><tbody>
{% for row, plot in rows %}
{% if row.group %}
<tr class="group"><th colspan="3" scope="colgroup">{{ row.group }}</th></tr>
{% endif %}
<tr><th scope="row" class="name">{{ row.name }}</th><td class="plot">{{ plot }}</td>
<td class="n est">{{ row.text|figures }}</td></tr>
{% endfor %}
</tbody></table>
{% if f.key %}<p class="key">
{% for kind, text in f.key %}<span><i class="k-{{ kind }}"></i>{{ text }}</span> {% endfor %}
</p>{% endif %}
</figure>
"""


def lengths(f: Lengths) -> Markup:
    """The figure, with its text."""
    ends = [max(r.value, (r.measured or 0.0) + r.error) for r in f.rows if r.drawn]
    known = [end for end in [*ends, *([f.limit[0]] if f.limit else [])] if isfinite(end)]
    beyond = [] if all(map(isfinite, ends)) else [1.25 * max(known, default=1.0)]
    scale = Scale.from_zero([*known, *beyond])
    return render(
        _TEMPLATE, f=f, rows=[(r, _plot(r, scale, f.limit) if r.drawn else "") for r in f.rows]
    )


def _plot(row: Length, scale: Scale, limit: tuple[float, str] | None) -> Markup:
    end = scale.at(max(row.value, 0.0)) if isfinite(row.value) else 100.0
    shapes = [
        element("rect", x=0, y=6, width=100, height=12, class_="track"),
        element("rect", x=0, y=6, width=end, height=12, class_=f"length {row.tone}".strip()),
    ]
    if row.measured is not None:
        low, high = (scale.at(row.measured + s * row.error) for s in (-1, 1))
        dot = scale.at(row.measured)
        shapes.append(element("line", x1=low, x2=high, y1=12, y2=12, class_="error"))
        shapes.append(element("line", x1=dot, x2=dot, y1=12, y2=12, class_="dot small"))
    if limit is not None:
        place = scale.at(limit[0])
        shapes.append(element("line", x1=place, x2=place, y1=0, y2=24, class_="limit"))
    return picture(shapes, _words(row))


def _words(row: Length) -> str:
    """What the bar shows, of the measured figure too, which stands nowhere else."""
    if row.measured is None:
        return f"{row.name}: {row.text}"
    low, high = (max(row.measured + s * row.error, 0.0) for s in (-1, 1))
    return f"{row.name}: {row.text}; measured {row.measured:,.0f}, {low:,.0f} to {high:,.0f}"
