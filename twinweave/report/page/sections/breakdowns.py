"""The lift by levels of a column, as forest plots."""

from __future__ import annotations

from collections.abc import Iterator

from twinweave.analysis.lift.results import Breakdown, Cell
from twinweave.report.display import shown_comparison
from twinweave.report.page.charts.intervals import (
    SAMPLING_AND_NOISE,
    TRUTH,
    Forest,
    Row,
    bounds,
    forest,
)
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.outcomes import TONES, Lift, Outcome, lift_bar, outcomes
from twinweave.report.page.section import Section
from twinweave.report.terminal.breakdowns import CORRECTED
from twinweave.report.terminal.text import Unit, p_is, shortened, unit_for
from twinweave.workload.analyses import CONTROL

_TEMPLATE = """
<p class="small">{{ corrected }}</p>
{% for name, figure, tests in outcomes %}
<h3>{{ name }}</h3>
{{ figure }}
<ul class="plain small">{% for test in tests %}<li>{{ test }}</li>{% endfor %}</ul>
{% endfor %}
"""

MOST_ROWS = 120
"""Of one outcome: beyond them the page would have no end. report.json has all."""


def section(m: Material) -> Section | None:
    drawn = []
    for o in outcomes(m):
        by = m.report["truth"]["by"].get(o.name, {})
        found = [(one, b) for one in o.every if one.against == CONTROL for b in one.breakdowns]
        several = len({one.arm for one, _ in found}) > 1
        truth = {} if several else by
        unit = _unit(o, [b for _, b in found])
        if unit is None:
            continue
        rows = [row for one, b in found for row in _rows(b, one, several, unit, truth)]
        tests = [t for one, b in found for t in _tests(b, one if several else None)]
        if len(rows) > MOST_ROWS:
            tests.append(f"{len(rows) - MOST_ROWS} more levels are in report.json.")
        key = [*SAMPLING_AND_NOISE, *([TRUTH] if truth else [])]
        kept = rows[:MOST_ROWS]
        figure = Forest(
            caption=f"Lift of {o.name} by level"
            f"{', in percentage points' if o.conversion else ''}. Intervals hold for all levels "
            "of a column at once.",
            rows=kept,
            heads=("", "Lift", "Joint interval", "Verdict"),
            scale=bounds(kept, 0.0),
            factor=o.factor,
            signed=True,
            key=key,
        )
        drawn.append((o.name, forest(figure), tests))
    if not drawn:
        return None
    body = render(_TEMPLATE, outcomes=drawn, corrected=CORRECTED)
    return Section(name="breakdowns", title="Where it differs", short="Breakdowns", body=body)


def _unit(o: Outcome, found: list[Breakdown]) -> Unit | None:
    errors = [c.comparison.standard_error for b in found for c in b.cells if c.comparison]
    if not errors:
        return None
    return unit_for(max(errors), scale=o.factor, suffix=" pp" if o.conversion else "")


def _rows(
    found: Breakdown, one: Lift, several: bool, unit: Unit, truth: dict[str, dict[str, float]]
) -> Iterator[Row]:
    among = f" (matched users of {found.among})" if found.among else ""
    title = f"{found.column}{among}{f' · {one.arm}' if several else ''}"
    for place, cell in enumerate(found.cells):
        known = truth.get(found.column, {}).get(cell.level)
        yield _row(cell, unit, "" if place else title, known)


def _row(cell: Cell, unit: Unit, group: str, truth: float | None) -> Row:
    name = shortened(cell.level, 34)
    if cell.comparison is None:
        return Row(name=name, bar=None, estimate="", says="suppressed", group=group)
    told = shown_comparison(cell.comparison).absolute
    verdict = cell.verdict
    return Row(
        name=name,
        bar=lift_bar(cell.comparison, truth),
        estimate=unit.signed(told.value) + unit.suffix,
        interval=unit.between(told.interval),
        says=verdict.value,
        tone=TONES.get(verdict, "open"),
        group=group,
    )


def _just(cell: Cell) -> bool:
    """A verdict beside an interval that has zero in it: the two are corrected each in its way."""
    if cell.comparison is None or cell.verdict not in TONES:
        return False
    low, high = cell.comparison.absolute.interval
    return low < 0 < high


def _tests(found: Breakdown, one: Lift | None) -> Iterator[str]:
    if near := [cell.level for cell in found.cells if _just(cell)]:
        yield (
            f"{found.column} = {', '.join(near)}: the joint interval just holds zero, while the "
            "verdict, by Holm's sharper correction, finds a difference. Take it as weak."
        )
    if found.interaction is None:
        return
    test = found.interaction
    says = "differs" if test.differs(found.level) else "no evidence that the lift differs"
    whose = f" ({one.arm})" if one else ""
    q = f"Q = {test.q:.1f} on {test.df}, {p_is(test.p_value)}"
    yield f"Between levels of {found.column}{whose}: {says} ({q})."
