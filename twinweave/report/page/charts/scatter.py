"""Points on two axes, numbered as in the table beside them, some of them joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from twinweave.report.page.charts.scale import WIDTH, Scale
from twinweave.report.page.html import element, render


@dataclass(frozen=True, kw_only=True)
class Point:
    """number: by which the table names it. strong: whether it stands out. joined: whether the
    line goes through it."""

    number: int
    x: float
    y: float
    strong: bool
    joined: bool


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """caption: a sentence. x, y: the names of the axes."""

    caption: str
    points: Sequence[Point]
    x: str
    y: str


_TEMPLATE = """
<figure class="chart">
<figcaption>{{ f.caption|figures }}</figcaption>
<p class="yname">{{ f.y }}</p>
<div class="scatter"><div class="yticks" aria-hidden="true">
{% for place, text in ys %}<span style="bottom:{{ place }}%">{{ text }}</span>{% endfor %}
</div><div class="area">{{ svg }}
<div aria-hidden="true">{% for x, y, number in marks %}
<b style="left:{{ x }}%;bottom:{{ y }}%">{{ number }}</b>{% endfor %}</div>
</div><div class="axis"><div aria-hidden="true">
{% for place, text in xs %}<span style="left:{{ place }}%">{{ text }}</span>{% endfor %}
</div></div></div>
<p class="xname">{{ f.x }}</p>
</figure>
"""


def scatter(f: Scatter) -> Markup:
    """The figure, with its alternative in words."""
    xs, ys = (Scale.over([getattr(p, axis) for p in f.points], margin=0.12) for axis in ("x", "y"))
    shapes = [_line(xs.at(t), 0, xs.at(t), WIDTH, "grid") for t in xs.ticks()]
    shapes += [_line(0, _up(ys, t), WIDTH, _up(ys, t), "grid") for t in ys.ticks()]
    line = sorted((p for p in f.points if p.joined), key=lambda p: (p.x, p.y))
    for one, other in pairwise(line):
        shapes.append(
            _line(xs.at(one.x), _up(ys, one.y), xs.at(other.x), _up(ys, other.y), "front")
        )
    for p in f.points:
        kind = "dot" if p.strong else "dot weak"
        shapes.append(_line(xs.at(p.x), _up(ys, p.y), xs.at(p.x), _up(ys, p.y), kind))
    told = "; ".join(f"{p.number}: {p.x:.4g}, {p.y:.4g}" for p in f.points)
    svg = element(
        "svg",
        Markup("").join(shapes),
        viewBox=f"0 0 {WIDTH:g} {WIDTH:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{f.y} over {f.x}, by number: {told}",
        class_="strip",
    )
    return render(
        _TEMPLATE,
        f=f,
        svg=svg,
        xs=[(round(xs.at(t), 2), s) for t, s in zip(xs.ticks(), xs.tick_texts(), strict=True)],
        ys=[(round(ys.at(t), 2), s) for t, s in zip(ys.ticks(), ys.tick_texts(), strict=True)],
        marks=[(round(xs.at(p.x), 2), round(ys.at(p.y), 2), p.number) for p in f.points],
    )


def _up(scale: Scale, y: float) -> float:
    """SVG counts downwards."""
    return WIDTH - scale.at(y)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)
