"""Whom the other party holds, arm by arm, and whether the arms have the sizes declared."""

from __future__ import annotations

from twinweave.analysis.lift.results import MatchRate, MatchState
from twinweave.report.display import shown_finding
from twinweave.report.page.charts.intervals import Bar, Forest, Row, bounds, forest
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section
from twinweave.report.terminal.text import level_text, p_is, unit_for

_TEMPLATE = """
{{ figure }}
<ul class="plain">{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>
"""

_TONES = {MatchState.BALANCED: "open", MatchState.CONVERTERS: "open"}


def section(m: Material) -> Section | None:
    lift = m.lift
    if lift is None or not (lift.match_rates or lift.sample_ratio):
        return None
    rows = [row for rate in lift.match_rates for row in _rows(rate)]
    figure = ""
    if rows:
        figure = forest(
            Forest(
                caption="Share of each arm's users whom the other party holds. The rest count as "
                "not converted, and as 0 of a value.",
                rows=rows,
                heads=("", "Matched", f"{level_text(lift.level)} interval", "Balance"),
                scale=bounds(rows),
                reference=None,
                factor=100.0,
                suffix="%",
            )
        )
    notes = [_test(rate) for rate in lift.match_rates]
    if lift.sample_ratio is not None:
        ratio = lift.sample_ratio
        arms = "; ".join(
            f"{ratio.observed[arm]:.4f} {arm} users for each control user, expected {declared:g}"
            for arm, declared in ratio.declared.items()
        )
        says = "contradicted" if ratio.suspicious else "in agreement"
        notes.append(f"Sample ratio: {arms}; {p_is(ratio.p_value)}: {says}.")
    if lift.clusters is not None:
        effects = ", ".join(f"{e.outcome} {e.used:.2f}" for e in lift.clusters.effects)
        notes.append(f"Intervals reckon with users who are alike. Design effects: {effects}.")
    body = render(_TEMPLATE, figure=figure, notes=notes)
    return Section(name="matching", title="Who is matched", short="Matching", body=body)


def _rows(found: MatchRate) -> list[Row]:
    rows = []
    width = max(one.interval[1] - one.interval[0] for one in found.arms.values())
    unit = unit_for(width / 4, scale=100.0, suffix="%")
    for place, (arm, share) in enumerate(found.arms.items()):
        told = shown_finding(share)
        low, high = told.interval
        rows.append(
            Row(
                name=arm,
                group="" if place else f"At {found.party}",
                bar=Bar(value=told.value, low=low, high=high),
                estimate=unit.plain(told.value) + unit.suffix,
                interval=unit.between(told.interval, signed=False),
                says="" if place else found.state.value,
                tone=_TONES.get(found.state, "bad"),
            )
        )
    return rows


def _test(found: MatchRate) -> str:
    if found.state is MatchState.CONVERTERS:
        return f"{found.party} is declared to hold converters alone: shares need not balance."
    return f"No difference between arms at {found.party}: {p_is(found.p_value)}."
