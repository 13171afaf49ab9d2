"""How far groups differ: in the real data as measured, in synthetic labels, in models on them."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from twinweave.analysis.fairness.audit import LEVEL, FairnessReport, GroupFairness
from twinweave.analysis.finding import Finding
from twinweave.report.page.charts.bars import Length, Lengths, lengths
from twinweave.report.page.charts.intervals import Bar, Forest, Row, bounds, forest
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section
from twinweave.report.terminal.text import level_text

_TEMPLATE = """
<p>Of {{ rows }} people who have the label {{ label }}. Parity is the largest difference of positive
rates between two groups; odds, of true or false positive rates; opportunity, of true positive
rates. 0 is alike.</p>
{% for title, differences, rates, left in audits %}
<h3>By {{ title }}</h3>
{{ differences }}
{{ rates }}
{% if left %}<p class="small">{{ left }}</p>{% endif %}
{% endfor %}
<p class="small">The real data's interval is that of the privacy noise. Model: {{ model }}.</p>
{% for note in notes %}<p class="small">{{ note }}</p>{% endfor %}
"""


def section(m: Material) -> Section | None:
    found = m.synthetic.fairness if m.synthetic is not None else None
    if found is None:
        return _measured(m)
    audits = [
        (" × ".join(one.columns), _differences(one, found), _rates(one, found), _left(one, found))
        for one in found.audits
    ]
    body = render(
        _TEMPLATE,
        rows=f"{found.rows:,} synthetic",
        label=found.label,
        audits=audits,
        model=found.model,
        notes=found.notes,
    )
    title = f"Fairness of {found.label} = {found.positive}"
    return Section(name="fairness", title=title, short="Fairness", body=body)


def _measured(m: Material) -> Section | None:
    """Of the real data alone, in a run without synthetic rows."""
    rows = [
        row
        for column, finding in m.parity.items()
        if (row := row_of(f"Groups by {column}", finding)) is not None
    ]
    if not rows:
        return None
    asked = m.configuration["data"]["fairness"]
    what = f"{asked['label']} = {asked['positive']}"
    figure = Forest(
        caption=f"Parity: the largest difference between two groups in the share of {what}, by the "
        "noisy tables of the real data. 0 is alike; the interval is that of the privacy noise.",
        rows=rows,
        heads=("", "Difference", f"{level_text(LEVEL)} interval", ""),
        scale=bounds(rows, 0.0),
    )
    return Section(
        name="fairness", title=f"Fairness of {what}", short="Fairness", body=forest(figure)
    )


def _differences(one: GroupFairness, found: FairnessReport) -> Markup:
    rows = [row for row in _rows(one) if row is not None]
    if not rows:
        return Markup()
    return forest(
        Forest(
            caption="Largest difference between two groups.",
            rows=rows,
            heads=("", "Difference", f"{level_text(found.level)} interval", ""),
            scale=bounds(rows, 0.0),
        )
    )


def _rows(one: GroupFairness) -> Iterator[Row | None]:
    yield row_of("Real data, noisy tables", one.measured_parity, "Parity")
    yield row_of("Synthetic labels", one.label_parity, "" if one.measured_parity else "Parity")
    for model in one.models:
        yield row_of(_model(model.with_sensitive), model.parity)
    for heading, found in (
        ("Odds", [model.odds for model in one.models]),
        ("Opportunity", [model.opportunity for model in one.models]),
    ):
        head = heading
        for model, difference in zip(one.models, found, strict=True):
            yield row_of(_model(model.with_sensitive), difference, head)
            head = "" if difference else head


def _model(with_sensitive: bool) -> str:
    return "Model" if with_sensitive else "Model without sensitive columns"


def row_of(name: str, found: Finding | None, group: str = "") -> Row | None:
    if found is None:
        return None
    low, high = found.interval
    return Row(
        name=name,
        bar=Bar(value=found.value, low=low, high=high),
        estimate=f"{found.value:.3f}",
        interval=f"{low:.3f} to {high:.3f}",
        group=group,
    )


def _rates(one: GroupFairness, found: FairnessReport) -> Markup:
    rows = [
        Length(name=g.name, value=g.rate, text=f"{g.rate:.1%} of {g.rows:,}", tone="muted")
        for g in one.groups
    ]
    if not rows:
        return Markup()
    caption = f"{found.label} = {found.positive} in the synthetic rows, by group."
    return lengths(Lengths(caption=caption, rows=rows))


def _left(one: GroupFairness, found: FairnessReport) -> str:
    told = []
    if one.suppressed:
        told.append(f"Left out, fewer than {found.k} rows: {', '.join(one.suppressed)}.")
    if one.measured_left_out:
        names = ", ".join(one.measured_left_out)
        told.append(f"Of the real data left out, too few beside the noise: {names}.")
    if lost := sorted({name for model in one.models for name in model.left_out}):
        told.append(f"Of the odds left out: {', '.join(lost)}.")
    return " ".join(told)
