"""What attacks reached against their thresholds, what canaries prove, and the gate's decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from twinweave.analysis.anonymity import Anonymity
from twinweave.analysis.audit.report import NOBODY_ASKED
from twinweave.analysis.audit.results import LEVEL, AttackFinding, Gate, LowerBound
from twinweave.report.page.charts.bars import Length, Lengths, lengths
from twinweave.report.page.charts.intervals import Bar, Forest, Row, bounds, forest
from twinweave.report.page.charts.tables import NUMBER, STRONG, TEXT, table
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section
from twinweave.report.terminal.text import level_text

_TEMPLATE = """
<p>{{ says }} <span class="pill {{ tone }}">{{ state }}</span></p>
{{ reasons }}
{{ attacks }}
{{ bounds }}
{{ anonymity }}
{% if unseen %}
<h3>Not seen by the gate</h3>
<ul class="plain small">{% for line in unseen %}<li>{{ line }}</li>{% endfor %}</ul>
{% endif %}
"""

_REASONS = """
<ul class="notices">{% for source, remedy, whats in groups %}
<li class="bad"><b>Withheld, {{ source }}:</b> {{ whats|join("; ")|replace("`", "") }}.
{{ remedy }}</li>
{% endfor %}</ul>
"""

_ANONYMITY = """
<h3>k-anonymity, l-diversity, t-closeness</h3>
<p class="small">They describe tables and guarantee nothing: a synthetic row that nobody is like may
be of nobody, and a copy of real rows may share its quasi-identifiers with many.</p>
"""

_CLASSES = (
    ("Table", TEXT),
    ("Quasi-identifiers", TEXT),
    ("k", STRONG),
    ("Rows in small classes", NUMBER),
    ("Sensitive column", TEXT),
    ("l", NUMBER),
    ("t", NUMBER),
)

_STATES = {
    "open": ("tables handed out", "good"),
    "withheld": ("tables withheld", "bad"),
    "off": ("no gate", ""),
}


def section(m: Material) -> Section | None:
    found = m.audit
    if found is None:
        return None
    state, tone = _STATES[found.gate.state]
    looked = ", ".join(found.looked) or "Nobody"
    says = (
        f"{looked} looked at the synthetic rows, each beside its own; {found.holdout:.0%} of the "
        "users were set aside for it, and no release is about them."
    )
    body = render(
        _TEMPLATE,
        says=NOBODY_ASKED if found.mode == "off" else says,
        state=state,
        tone=tone,
        reasons=refused(found.gate),
        attacks=attacks(found.attacks),
        bounds=proven(found.bounds),
        anonymity=anonymity(found.anonymity),
        unseen=found.gate.unseen,
    )
    title = "Attacks, canaries and the gate"
    return Section(name="audit", title=title, short="Privacy audit", body=body)


def refused(gate: Gate) -> Markup:
    """Why tables are withheld, a remedy once; nothing where they are not."""
    if not gate.reasons:
        return Markup()
    groups: dict[tuple[str, str], list[str]] = {}
    for one in gate.reasons:
        groups.setdefault((one.source, one.remedy), []).append(one.what)
    told = [(source, remedy, whats) for (source, remedy), whats in groups.items()]
    return render(_REASONS, groups=told)


def attacks(found: Mapping[str, Sequence[AttackFinding]]) -> Markup:
    """By who looked: how much better each attack did on rows that were used, and what it may."""
    rows = [
        _attack(one, "" if place else f"At {party}")
        for party, own in found.items()
        for place, one in enumerate(own)
    ]
    if not rows:
        return Markup()
    return forest(
        Forest(
            caption="Attacks: success on rows that the run used, less success on rows that it had "
            "set aside. The mark is what each may reach; one whose whole interval lies above it "
            "withholds the tables.",
            rows=rows,
            heads=("", "Advantage", f"{level_text(LEVEL)} interval", "Threshold"),
            scale=bounds(rows, 0.0),
            factor=100.0,
            suffix="%",
            signed=True,
            key=[("mark", "threshold")],
        )
    )


def _attack(one: AttackFinding, group: str) -> Row:
    low, high = one.interval
    return Row(
        name=one.name,
        note=f"{one.success:.1%} on rows used, {one.control:.1%} on rows set aside",
        bar=Bar(value=one.advantage, low=low, high=high, mark=one.threshold),
        estimate=f"{one.advantage:+.1%}",
        interval=f"{low:+.1%} to {high:+.1%}",
        says=f"{'over' if one.exceeds else 'within'} {one.threshold:.0%}",
        tone="bad" if one.exceeds else "open",
        group=group,
    )


def anonymity(found: Mapping[str, Anonymity]) -> Markup:
    """k, l and t by table; nothing where no quasi-identifier was named."""
    if not found:
        return Markup()
    rows = [cell for name, one in found.items() for cell in _described(name, one)]
    return render(_ANONYMITY) + table(_CLASSES, rows)


def _described(name: str, one: Anonymity) -> list[tuple[str, str, str, str, str, str, str]]:
    """A row for each sensitive column; one without where there is none."""
    own = (
        name,
        ", ".join(one.quasi_identifiers),
        f"{one.k:,}",
        f"{one.below:,} of {one.rows:,} below {one.wanted:,}",
    )
    return [(*own, d.column, f"{d.l}", f"{d.t:.2f}") for d in one.diversity] or [(*own, "", "", "")]


def proven(found: Sequence[LowerBound]) -> Markup:
    """Lower bounds of epsilon beside the claim, and what the instrument could have proven."""
    if not found:
        return Markup()
    rows = []
    for one in found:
        over = "above the claim: a fault" if one.exceeds else "proven"
        figures = (
            ("claimed", one.claimed, "muted"),
            (over, one.bound, ""),
            ("ceiling", one.ceiling, "muted"),
        )
        for place, (name, value, tone) in enumerate(figures):
            group = "" if place else f"{one.path}, with {level_text(one.confidence)} confidence"
            rows.append(Length(name=name, value=value, text=f"{value:.3g}", tone=tone, group=group))
    return lengths(
        Lengths(
            caption="Canaries: lower bounds of the epsilon that each release path gives away, "
            "beside what is claimed for it. A bound of zero proves nothing; one above the claim "
            "proves a fault. The instrument's ceiling is about what it can prove at most of a "
            "release that keeps its promise: a bound a little above it is luck.",
            rows=rows,
        )
    )
