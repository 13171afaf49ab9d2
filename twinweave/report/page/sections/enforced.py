"""What was made fair in the synthetic labels, and what a model pays for it: before and after."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from twinweave.analysis.fairness.trade import Trade
from twinweave.analysis.finding import Finding
from twinweave.report.page.charts.intervals import Forest, Row, bounds, forest
from twinweave.report.page.charts.scatter import Point, Scatter, scatter
from twinweave.report.page.charts.tables import NUMBER, STRONG, TEXT, table
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section
from twinweave.report.page.sections.fairness import row_of
from twinweave.synthesis.fairness.enforce import Enforced

_TEMPLATE = """
<p>{{ says }} <span class="pill {{ 'good' if met else 'bad' }}">
{{- 'met' if met else 'not met' }}</span></p>
{{ differences }}
{% for line in apart %}<p class="small">{{ line }}</p>{% endfor %}
{{ trade }}
{{ strengths }}
{{ curve }}
"""

_CALLED = {
    "demographic_parity": "demographic parity",
    "equalized_odds": "equalised odds",
    "conditional_parity": "conditional parity",
}

_STRENGTHS = (
    ("Strength", TEXT),
    ("Accuracy", NUMBER),
    ("Labels", NUMBER),
    ("Parity", NUMBER),
    ("Odds", NUMBER),
)

_DIFFERENCES = (
    ("Largest difference between groups of", TEXT),
    ("As measured", NUMBER),
    ("Aimed at", NUMBER),
    ("Reached", STRONG),
)


def section(m: Material) -> Section | None:
    if m.synthetic is None or m.synthetic.enforced is None:
        return None
    found = m.synthetic.enforced
    differences = [
        (" × ".join(d.columns), f"{d.before:.3f}", f"{d.aimed:.3f}", f"{d.reached:.3f}")
        for d in found.differences
    ]
    body = render(
        _TEMPLATE,
        says=_says(found),
        met=found.met,
        differences=table(_DIFFERENCES, differences),
        apart=list(_apart(found)),
        trade=_trade(m.synthetic.trade),
        strengths=_strengths(found),
        curve=_curve(found),
    )
    title = "What was made fair, and what that costs"
    return Section(name="enforced", title=title, short="Made fair", body=body)


def _says(found: Enforced) -> str:
    given = f" given {', '.join(found.admissible)}" if found.admissible else ""
    return (
        f"{_CALLED[found.constraint].capitalize()} of {found.label} = {found.positive}{given}, "
        f"strength {found.strength:g}, by {found.way}. {found.changed:.1%} of the labels are "
        "others than measured. It looks at generated rows alone, and costs no privacy."
    )


def _apart(found: Enforced) -> Iterator[str]:
    for one in found.differences:
        if one.pooled:
            yield f"Put together as one group, being small: {', '.join(one.pooled)}."
        if one.left_out:
            yield f"Nothing is enforced for these, being too small: {', '.join(one.left_out)}."


def _trade(found: Trade | None) -> Markup:
    """A model trained on rows as measured beside one trained on fair rows."""
    if found is None:
        return Markup()
    rows = [
        row
        for was, now in zip(found.before, found.after, strict=True)
        for name, pair in (
            ("Parity", (was.parity, now.parity)),
            ("Odds", (was.odds, now.odds)),
            ("Opportunity", (was.opportunity, now.opportunity)),
        )
        for row in _pair(f"{name} by {' × '.join(was.columns)}", *pair)
    ]
    if not rows:
        return Markup()
    return forest(
        Forest(
            caption="Differences of a model trained on rows as measured, and of one trained on "
            f"fair rows, both judged on {found.rows:,} rows with their labels as measured. "
            f"Accuracy {found.accuracy_before:.1%} before, {found.accuracy_after:.1%} after.",
            rows=rows,
            heads=("", "Difference", "Interval", ""),
            scale=bounds(rows, 0.0),
        )
    )


def _strengths(found: Enforced) -> Markup:
    """What every strength brings, a row each."""
    if not found.curve:
        return Markup()
    rows = [
        (
            f"{p.strength:g} (point {number})",
            f"{p.accuracy:.1%}",
            *(f"{v:.3f}" for v in (p.labels, p.parity, p.odds)),
        )
        for number, p in enumerate(found.curve, 1)
    ]
    said = Markup(
        "<h3>Other strengths</h3><p class='small'>Largest differences between groups: of the "
        "labels, and of a model's decisions (parity, odds), with its accuracy; on candidate rows "
        "with their labels as measured.</p>"
    )
    return said + table(_STRENGTHS, rows)


def _curve(found: Enforced) -> Markup:
    """Accuracy over the difference that the constraint is about."""
    if not found.curve:
        return Markup()
    odds = found.constraint == "equalized_odds"
    points = [
        Point(
            number=number,
            x=p.odds if odds else p.parity,
            y=p.accuracy,
            strong=p.strength == found.strength,
            joined=True,
        )
        for number, p in enumerate(found.curve, 1)
    ]
    name = f"Difference in {'odds' if odds else 'parity'}"
    caption = (
        "What fairness costs a model. Points are numbered as in the table; the dark one is the "
        "strength of this run."
    )
    return scatter(Scatter(caption=caption, points=points, x=name, y="Accuracy"))


def _pair(group: str, was: Finding | None, now: Finding | None) -> Iterator[Row]:
    for called, one in (("Before", was), ("After", now)):
        row = row_of(called, one, group)
        if row is not None:
            yield row
            group = ""
