"""Runs side by side on one page: the front of utility, privacy, fairness and cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

from markupsafe import Markup

from twinweave.report.comparison import Compared, Measure, front
from twinweave.report.page.charts.scatter import Point, Scatter, scatter
from twinweave.report.page.charts.tables import NUMBER, TEXT, table
from twinweave.report.page.html import element, render
from twinweave.report.page.page import page
from twinweave.report.page.section import Section
from twinweave.report.sweep import counted, shown_setting

_HEAD = """
<header>
<p class="over">{{ data }}</p>
<h1>{{ title }}</h1>
<p class="lead">{{ lead }}</p>
</header>
"""

_AGAINST = {
    "epsilon": ("distance", "noise_ratio", "parity"),
    "distance": ("parity", "seconds"),
    "noise_ratio": ("seconds",),
}
"""Which measures are drawn against each other, where the front is over both."""


@dataclass(frozen=True)
class _Words:
    """A column of words, which is there where runs differ in it."""

    title: str
    of: Callable[[Compared], str]


def _asked(row: Compared) -> str:
    return ", ".join(f"{name} {shown_setting(value)}" for name, value in row.asked.items())


_WORDS = (
    _Words("Asked", _asked),
    _Words("Data", lambda row: row.data),
    _Words("Generator", lambda row: row.generator),
)


def comparison_page(
    rows: Sequence[Compared], known: Sequence[Measure], spent: Sequence[str] = ()
) -> str:
    """known: the measures that the front is over. spent: what the runs spent together."""
    best = sum(row.front for row in rows)
    over = ", ".join(m.title for m in known) or "nothing that all of them have"
    data = ", ".join(dict.fromkeys(row.data for row in rows if row.data))
    head = render(
        _HEAD,
        data=data,
        title=_title(best, len(rows)),
        lead=f"No other run is at least as good in everything, and better in something, of: "
        f"{over}. Less is better.",
    )
    plots = _plots(rows, {m.key: m for m in known})
    sections = [_table(rows, known)]
    if spent:
        sections.append(_spent(spent))
    if plots:
        title = "One against the other"
        sections.append(Section(name="plots", title=title, short="Pictures", body=plots))
    return page(
        title=f"{counted(len(rows))} · Twinweave",
        top=head,
        sections=sections,
        foot="Drawn from what every run wrote.",
    )


def _title(best: int, runs: int) -> str:
    if runs == 1:
        return "One run, and none to compare it with."
    return f"{best} of {runs} runs {'is' if best == 1 else 'are'} beaten by no other."


def _table(rows: Sequence[Compared], known: Sequence[Measure]) -> Section:
    words = [c for c in _WORDS if len({c.of(row) for row in rows if c.of(row)}) > 1]
    heads = (
        ("Run", TEXT),
        *((c.title, TEXT) for c in words),
        *((m.title, NUMBER) for m in known),
        ("", NUMBER),
    )
    told = [_row(number, row, words, known) for number, row in enumerate(rows, 1)]
    title = "Every run"
    body = table(heads, told) + Markup().join(element("p", line) for line in _why(rows))
    return Section(name="runs", title=title, short=title, body=body)


def _why(rows: Sequence[Compared]) -> list[str]:
    """What was wrong, once for all runs of which it is told."""
    told: dict[tuple[str, str], list[str]] = {}
    for number, row in enumerate(rows, 1):
        if row.why:
            told.setdefault((row.status, row.why), []).append(str(number))
    return [f"{', '.join(runs)}: {status}. {why}" for (status, why), runs in told.items()]


def _spent(lines: Sequence[str]) -> Section:
    body = Markup().join(element("p", line) for line in lines)
    title = "What they spent together"
    return Section(name="spent", title=title, short="Spent", body=body)


def _row(
    number: int, row: Compared, words: Sequence[_Words], known: Sequence[Measure]
) -> tuple[str | Markup, ...]:
    values = (_shown(row.values[m.key], m) for m in known)
    says: str | Markup = ""
    if row.status != "finished":
        says = element("span", row.status, class_="pill bad")
    elif row.front:
        says = element("span", "on the front", class_="pill good")
    return f"{number} · {row.name}", *(c.of(row) for c in words), *values, says


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
