"""What the lift cost and earned, and the thresholds that were declared before the run."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from twinweave.analysis.lift.results import Decision, LiftReport, Money, Ruling
from twinweave.report.page.charts.intervals import Bar, Forest, Row, bounds, forest
from twinweave.report.page.charts.tables import NUMBER, STRONG, TEXT, table
from twinweave.report.page.html import element, render
from twinweave.report.page.material import Material
from twinweave.report.page.outcomes import end
from twinweave.report.page.section import Section
from twinweave.report.terminal.stakes import cost_text, decision_figures
from twinweave.report.terminal.text import level_text, whole

_TONES = {Ruling.CERTIFIED: "good", Ruling.REJECTED: "bad"}

_DECISIONS = (
    ("Threshold", TEXT),
    ("Arm", TEXT),
    ("Estimate", STRONG),
    ("Interval", NUMBER),
    ("Ruling", NUMBER),
)

_TEMPLATE = """
{{ figures_ }}
{% if decisions %}
<h3>Decisions declared before the run</h3>
{{ decisions }}
{% endif %}
{% for note in notes %}<p class="small">{{ note }}</p>{% endfor %}
"""


def section(m: Material) -> Section | None:
    lift = m.lift
    if lift is None or not (lift.money or lift.decisions):
        return None
    drawn = Markup("").join(figure for one in lift.money for figure in _figures(one))
    body = render(
        _TEMPLATE,
        figures_=drawn,
        decisions=table(_DECISIONS, [_decision(d, lift) for d in lift.decisions])
        if lift.decisions
        else "",
        notes=list(_notes(lift)),
    )
    return Section(name="money", title="What it cost and earned", short="Money", body=body)


def _figures(found: Money) -> Iterator[Markup]:
    """One scale each: a cost, a ratio and a sum have no axis in common."""
    unit = f" {found.currency}" if found.currency else ""
    head = ("", "Estimate", f"{level_text(found.level)} interval", "")
    whose = f"{found.arm} against control, cost {whole(found.cost)}{unit}"
    if found.icpa is not None:
        cost = found.icpa
        value = "unknown" if cost.value is None else f"{cost.value:,.2f}{unit}"
        bar = None if cost.low is None else Bar(value=cost.value, low=cost.low, high=end(cost.high))
        row = Row(
            name=f"Cost of one more {found.conversion}",
            bar=bar,
            estimate=value,
            interval=cost_text(cost),
        )
        yield _one(row, head, f"Incremental cost per acquisition: {whose}.", 0.0)
    if found.iroas is not None:
        low, high = found.iroas.interval
        row = Row(
            name="Incremental return on cost",
            bar=Bar(value=found.iroas.value, low=low, high=high),
            estimate=f"{found.iroas.value:.2f}",
            interval=f"{low:.2f} to {high:.2f}",
        )
        caption = f"iROAS: incremental revenue for each unit of cost, by {found.source}. At 1 the "
        yield _one(row, head, f"{caption}cost is earned back.", 1.0)
    if found.profit is not None:
        low, high = found.profit.interval
        row = Row(
            name="Incremental profit",
            bar=Bar(value=found.profit.value, low=low, high=high),
            estimate=f"{found.profit.value:+,.0f}{unit}",
            interval=f"{low:+,.0f} to {high:+,.0f}",
        )
        yield _one(row, head, f"Incremental revenue less cost: {whose}.", 0.0)


def _one(row: Row, heads: tuple[str, str, str, str], caption: str, reference: float) -> Markup:
    scale = bounds([row], reference)
    return forest(
        Forest(caption=caption, rows=[row], heads=heads, scale=scale, reference=reference)
    )


def _decision(found: Decision, lift: LiftReport) -> tuple[str | Markup, ...]:
    what, value, interval = decision_figures(found, lift)
    tone = _TONES.get(found.ruling, "")
    ruling = "no ruling" if found.doubts else found.ruling.value
    pill = element("span", ruling, class_=f"pill {tone}".strip())
    return what, found.arm, value, f"{interval} ({level_text(found.level)})", pill


def _notes(lift: LiftReport) -> Iterator[str]:
    for doubt in dict.fromkeys(d for one in lift.money for d in one.doubts):
        yield f"In doubt with the lift: {doubt}."
    if lift.decisions:
        yield (
            "Certified: the whole interval meets the threshold. Rejected: the whole interval "
            "misses it. Unresolved: the threshold lies inside."
        )
