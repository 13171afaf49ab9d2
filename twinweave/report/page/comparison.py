"""Runs side by side on one page: the front of utility, privacy, fairness and cost."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from markupsafe import Markup

from twinweave.report.comparison import Compared, Measure, front
from twinweave.report.page.charts.scatter import Point, Scatter, scatter
from twinweave.report.page.charts.tables import NUMBER, TEXT, table
from twinweave.report.page.html import element, render
from twinweave.report.page.page import page
from twinweave.report.page.section import Section

_HEAD = """
<header>
<p class="over">{{ data }}</p>
<h1>{{ title }}</h1>
<p class="lead">{{ lead }}</p>
</header>
"""

_AGAINST = {"epsilon": ("distance", "noise_ratio", "parity"), "distance": ("parity", "seconds")}
"""Which measures are drawn against each other, where the front is over both."""


def comparison_page(rows: Sequence[Compared], known: Sequence[Measure]) -> str:
    """known: the measures that the front is over."""
    best = sum(row.front for row in rows)
    over = ", ".join(m.title for m in known) or "nothing that all of them have"
    data = ", ".join(dict.fromkeys(row.data for row in rows if row.data))
    head = render(
        _HEAD,
        data=data,
        title=f"{best} of {len(rows)} runs are beaten by no other.",
        lead=f"No other run is at least as good in everything, and better in something, of: "
        f"{over}. Less is better.",
    )
    plots = _plots(rows, {m.key: m for m in known})
    sections = [_table(rows, known)]
    if plots:
        title = "One against the other"
        sections.append(Section(name="plots", title=title, short="Pictures", body=plots))
    return page(
        title=f"{len(rows)} runs · Twinweave",
        top=head,
        sections=sections,
        foot="Drawn from the report.json of every run.",
    )


def _table(rows: Sequence[Compared], known: Sequence[Measure]) -> Section:
    heads = (
        ("Run", TEXT),
        ("Data", TEXT),
        ("Generator", TEXT),
        *((m.title, NUMBER) for m in known),
        ("", NUMBER),
    )
    told = [_row(number, row, known) for number, row in enumerate(rows, 1)]
    title = "Every run"
    return Section(name="runs", title=title, short=title, body=table(heads, told))


def _row(number: int, row: Compared, known: Sequence[Measure]) -> tuple[str | Markup, ...]:
    values = (_shown(row.values[m.key], m) for m in known)
    says: str | Markup = ""
    if row.status != "finished":
        says = element("span", row.status, class_="pill bad")
    elif row.front:
        says = element("span", "on the front", class_="pill good")
    return f"{number} · {row.name}", row.data, row.generator, *values, says


def _shown(value: float | None, measure: Measure) -> str:
    if value is None:
        return ""
    return f"{value:,.{measure.digits}f}" if isfinite(value) else "∞"


def _plots(rows: Sequence[Compared], known: dict[str, Measure]) -> Markup:
    drawn = Markup()
    told = [(number, row) for number, row in enumerate(rows, 1) if row.status == "finished"]
    for x, others in _AGAINST.items():
        for y in (y for y in others if x in known and y in known):
            drawn += _plot(told, known[x], known[y])
    return drawn


def _plot(told: Sequence[tuple[int, Compared]], x: Measure, y: Measure) -> Markup:
    """Nothing where all runs are alike in one of the two. A run whose figure is infinite, its
    epsilon, has no place."""
    told = [(n, row) for n, row in told if isfinite(x.shown(row)) and isfinite(y.shown(row))]
    places = [(x.shown(row), y.shown(row)) for _, row in told]
    if any(len(set(axis)) < 2 for axis in zip(*places, strict=True)):
        return Markup()
    joined = front(places)
    points = [
        Point(number=number, x=a, y=b, strong=row.front, joined=line)
        for (number, row), (a, b), line in zip(told, places, joined, strict=True)
    ]
    caption = (
        f"{y.title.capitalize()} over {x.title}, numbered as above. Dark: on the front over "
        "everything. The line joins those that no other beats in these two."
    )
    return scatter(Scatter(caption=caption, points=points, x=x.title, y=y.title))
