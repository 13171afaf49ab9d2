"""Estimates with their intervals, one below the other on one axis: a forest plot.

A row is a table's row: its numbers are text, so that they can be read without the picture, and the
plot between them stretches with the page. Shapes keep their stroke's width whatever the stretch
(`vector-effect`), so a dot is a line of no length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

from markupsafe import Markup

from twinweave.report.page.charts.scale import WIDTH, Scale
from twinweave.report.page.html import element, render

_HEIGHT, _MIDDLE = 24.0, 12.0
_CHARACTER = 2.4  # of a tick, in per cent of the narrowest plot


@dataclass(frozen=True, kw_only=True)
class Bar:
    """value: None where nothing is known of it. low, high: of the interval, infinite where open.

    sampling: the share of the interval's half width that sampling error alone would have; 1 where
    there is no noise, None where the two are not told apart. mark: another figure to hold the
    interval against: the truth where it is known, a synthetic table's.
    """

    value: float | None
    low: float = -inf
    high: float = inf
    sampling: float | None = None
    mark: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line. estimate, interval, says: its text. tone: of `says`: good, bad, open or "".

    bar: None where nothing is shown. group: a heading above the row, where it begins one.
    """

    name: str
    bar: Bar | None
    estimate: str
    interval: str = ""
    says: str = ""
    tone: str = ""
    group: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Forest:
    """caption: what the figure shows, in a sentence. reference: where a line stands through all.

    heads: of the columns name, estimate, interval and says. factor, suffix, signed: of the ticks.
    """

    caption: str
    rows: Sequence[Row]
    heads: tuple[str, str, str, str]
    scale: Scale
    reference: float | None = 0.0
    factor: float = 1.0
    suffix: str = ""
    signed: bool = False
    key: Sequence[tuple[str, str]] = ()


_TEMPLATE = """
<figure class="chart">
<figcaption>{{ f.caption|figures }}</figcaption>
<table class="forest{{ '' if f.heads[3] else ' plain' }}">
<thead><tr><th scope="col">{{ f.heads[0] }}</th><td class="plot axis"><div aria-hidden="true">
{% for place, text in ticks %}<span style="left:{{ place }}%">{{ text }}</span>{% endfor %}
</div></td><th scope="col" class="n">{{ f.heads[1] }}</th>
<th scope="col" class="n">{{ f.heads[2] }}</th>
{% if f.heads[3] %}<th scope="col" class="says">{{ f.heads[3] }}</th>{% endif %}</tr></thead>
<tbody>
{% for row, plot in rows %}
{% if row.group %}
<tr class="group"><th colspan="5" scope="colgroup">{{ row.group }}</th></tr>
{% endif %}
<tr><th scope="row" class="name">{{ row.name }}
{% if row.note %}<small>{{ row.note }}</small>{% endif %}</th>
<td class="plot">{{ plot }}</td>
<td class="n est">{{ row.estimate|figures }}</td><td class="n ival">{{ row.interval|figures }}</td>
{% if f.heads[3] %}<td class="says">{% if row.says %}
<span class="say {{ row.tone }}">{{ row.says }}</span>{% endif %}</td>{% endif %}</tr>
{% endfor %}
</tbody></table>
{% if f.key %}<p class="key">
{% for kind, text in f.key %}<span><i class="k-{{ kind }}"></i>{{ text }}</span> {% endfor %}
</p>{% endif %}
</figure>
"""

SAMPLING_AND_NOISE = (
    ("sampling", "sampling error alone"),
    ("noise", "added by privacy noise"),
)
TRUTH = ("mark", "truth (known here)")


def forest(f: Forest) -> Markup:
    """The figure, with its text."""
    ticks = f.scale.ticks()
    texts = f.scale.tick_texts(f.factor, f.suffix, signed=f.signed)
    places = [(round(f.scale.at(t), 2), text) for t, text in zip(ticks, texts, strict=True)]
    rows = [(row, "" if row.bar is None else plot(row, f)) for row in f.rows]
    return render(_TEMPLATE, f=f, ticks=_apart(places), rows=rows)


def _apart(places: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Every tick, or every second one and so on, so that their texts do not meet."""
    if len(places) < 2:
        return list(places)
    gap, widest = places[1][0] - places[0][0], max(len(text) for _, text in places)
    step = max(1, ceil(widest * _CHARACTER / gap))
    return [one for i, one in enumerate(places) if i % step == 0]


def plot(row: Row, f: Forest) -> Markup:
    """The row's own picture, which its words stand for."""
    assert row.bar is not None
    bar, at = row.bar, f.scale.at
    shapes = [_line(at(t), at(t), "grid", y1=0, y2=_HEIGHT) for t in f.scale.ticks()]
    if f.reference is not None and f.scale.holds(f.reference):
        place = at(f.reference)
        shapes.append(_line(place, place, "reference", y1=0, y2=_HEIGHT))
    if bar.low < f.scale.high and bar.high > f.scale.low:
        shapes += _interval(bar, f.scale)
    if bar.mark is not None and f.scale.holds(bar.mark):
        shapes.append(_line(at(bar.mark), at(bar.mark), "mark", y1=3, y2=21))
    if bar.value is not None and f.scale.holds(bar.value):
        shapes.append(_line(at(bar.value), at(bar.value), "dot"))
    label = ", ".join(filter(None, [row.name, row.estimate, row.interval, row.says]))
    return picture(shapes, label)


def picture(shapes: Sequence[Markup], label: str, height: float = _HEIGHT) -> Markup:
    """A plot as wide as its place. label: its alternative in words."""
    return element(
        "svg",
        Markup("").join(shapes),
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_="strip",
    )


def bounds(rows: Sequence[Row], *also: float) -> Scale:
    """A scale for all rows: their intervals, unless a few are far wider than the most."""
    bars = [row.bar for row in rows if row.bar is not None]
    ends = [e for b in bars for e in (b.low, b.high, b.value, b.mark) if e is not None]
    return Scale.over([*ends, *also])


def _interval(bar: Bar, scale: Scale) -> list[Markup]:
    at = scale.at
    shapes = [_rect(at(bar.low), at(bar.high), "noise" if bar.sampling is not None else "whole")]
    if bar.sampling is not None and bar.value is not None and bar.sampling < inf:
        low = bar.value - bar.sampling * (bar.value - max(bar.low, scale.low))
        high = bar.value + bar.sampling * (min(bar.high, scale.high) - bar.value)
        if low <= high:
            shapes.append(_rect(at(low), at(high), "sampling"))
    if not scale.holds(bar.low):
        shapes.append(_line(0, 2, "open"))
    if not scale.holds(bar.high):
        shapes.append(_line(WIDTH - 2, WIDTH, "open"))
    return shapes


def _rect(low: float, high: float, kind: str) -> Markup:
    return element("rect", x=low, y=_MIDDLE - 4, width=max(high - low, 0.2), height=8, class_=kind)


def _line(x1: float, x2: float, kind: str, y1: float = _MIDDLE, y2: float = _MIDDLE) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)
