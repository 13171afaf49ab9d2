"""What was made fair in the synthetic labels, and what a model pays for it: before and after.

Reads the record's own fields, `synthetic.enforced` and `synthetic.trade`, and is absent where a run
enforced nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from twinweave.report.page.charts.intervals import Bar, Forest, Row, bounds, forest
from twinweave.report.page.charts.tables import NUMBER, STRONG, TEXT, table
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section

_TEMPLATE = """
<p>{{ says }} <span class="pill {{ 'good' if met else 'bad' }}">
{{- 'met' if met else 'not met' }}</span></p>
{{ differences }}
{% for line in apart %}<p class="small">{{ line }}</p>{% endfor %}
{{ trade }}
"""

_CALLED = {
    "demographic_parity": "demographic parity",
    "equalized_odds": "equalised odds",
    "conditional_parity": "conditional parity",
}

_DIFFERENCES = (
    ("Largest difference between groups of", TEXT),
    ("As measured", NUMBER),
    ("Aimed at", NUMBER),
    ("Reached", STRONG),
)


def section(m: Material) -> Section | None:
    synthetic = m.report["synthetic"] or {}
    found = synthetic.get("enforced")
    if found is None:
        return None
    differences = [
        (" × ".join(d["columns"]), *(f"{d[k]:.3f}" for k in ("before", "aimed", "reached")))
        for d in found["differences"]
    ]
    body = render(
        _TEMPLATE,
        says=_says(found),
        met=found["met"],
        differences=table(_DIFFERENCES, differences),
        apart=list(_apart(found)),
        trade=_trade(synthetic.get("trade")),
    )
    title = "What was made fair, and what that costs"
    return Section(name="enforced", title=title, short="Made fair", body=body)


def _says(found: Mapping[str, Any]) -> str:
    rule = _CALLED.get(found["constraint"], found["constraint"])
    given = f" given {', '.join(found['admissible'])}" if found["admissible"] else ""
    return (
        f"{rule.capitalize()} of {found['label']} = {found['positive']}{given}, strength "
        f"{found['strength']:g}, by {found['way']}. {found['changed']:.1%} of the labels are "
        "others than measured. It looks at generated rows alone, and costs no privacy."
    )


def _apart(found: Mapping[str, Any]) -> Iterator[str]:
    for one in found["differences"]:
        if one["pooled"]:
            yield f"Put together as one group, being small: {', '.join(one['pooled'])}."
        if one["left_out"]:
            yield f"Nothing is enforced for these, being too small: {', '.join(one['left_out'])}."


def _trade(found: Mapping[str, Any] | None) -> Markup:
    """A model trained on rows as measured beside one trained on fair rows."""
    if found is None:
        return Markup()
    rows = [
        row
        for name, key in (("Parity", "parity"), ("Odds", "odds"))
        for was, now in zip(found["before"], found["after"], strict=True)
        for row in _pair(name, was, now, key)
    ]
    before, after = found["accuracy_before"], found["accuracy_after"]
    return forest(
        Forest(
            caption="Differences of a model trained on rows as measured, and of one trained on "
            f"fair rows, both judged on {found['rows']:,} rows with their labels as measured. "
            f"Accuracy {before:.1%} before, {after:.1%} after.",
            rows=rows,
            heads=("", "Difference", "Interval", ""),
            scale=bounds(rows, 0.0),
        )
    )


def _pair(name: str, was: Mapping[str, Any], now: Mapping[str, Any], key: str) -> Iterator[Row]:
    group = f"{name} by {' × '.join(was['columns'])}"
    for called, one in (("Before", was[key]), ("After", now[key])):
        if one is None:
            continue
        low, high = one["interval"]
        yield Row(
            name=called,
            bar=Bar(value=one["value"], low=low, high=high),
            estimate=f"{one['value']:.3f}",
            interval=f"{low:.3f} to {high:.3f}",
            group=group,
        )
        group = ""
