"""The head of a page: the verdict as a sentence, and the few facts to read it by."""

from __future__ import annotations

from markupsafe import Markup

from twinweave.analysis.lift.results import LiftReport, Verdict
from twinweave.report.display import shown_comparison, shown_epsilon, shown_finding
from twinweave.report.page.html import figures, render
from twinweave.report.page.material import Material
from twinweave.report.page.outcomes import Outcome, outcomes
from twinweave.report.terminal.stakes import decision_figures
from twinweave.report.terminal.text import level_text, whole
from twinweave.workload.analyses import CONTROL

_TEMPLATE = """
<header>
<p class="over">{{ over }}</p>
<h1>{{ title }}</h1>
<p class="lead">{{ lead }}</p>
<dl class="facts">
{% for name, value, more in facts %}
<div><dt>{{ name }}</dt><dd>{{ value|figures }}
{%- if more %}<small>{{ more|figures }}</small>{% endif %}</dd></div>
{% endfor %}
</dl>
</header>
"""


def head(m: Material) -> Markup:
    title, lead = sentence(m)
    return render(
        _TEMPLATE,
        over=f"{m.data} · run {m.report['run']}",
        title=figures(title),
        lead=figures(lead),
        facts=_facts(m),
    )


def sentence(m: Material) -> tuple[str, str]:
    """The finding, and what its interval says, each in a sentence."""
    if (found := outcomes(m)) and m.lift is not None:
        told = next((o for o in found if o.shown), None)
        if told is not None:
            title, lead = _lift(told, m.lift.level)
            return title, lead + _other_arms(told) + _rulings(m.lift)
        hidden = ", ".join(m.lift.hidden) or "an arm"
        return (
            "No lift can be shown.",
            f"Too few users, or lost in the privacy noise: {hidden}. A larger epsilon or larger "
            "tables would show it.",
        )
    if m.synthetic is not None:
        agrees = m.synthetic.fidelity.agrees
        return (
            f"{m.synthetic.rows:,} synthetic rows stand for a table that nobody holds.",
            "They agree with the noisy measured tables as far as the noise lets see."
            if agrees
            else "They differ from the noisy measured tables by more than the noise explains: see "
            "which tables below.",
        )
    measured = m.report["measured"]
    if m.parity:
        return _parity(m)
    return (
        "One noisy table was measured across the parties."
        if measured["tables"] == 1
        else f"{measured['tables']:,} noisy tables were measured across the parties.",
        "What is counted is unbiased, and the variance of its noise is known and public. No lift "
        "was asked for, and no synthetic rows.",
    )


def _parity(m: Material) -> tuple[str, str]:
    """Of a run that asked for the fairness of the real data alone: its widest difference."""
    column, found = max(m.parity.items(), key=lambda one: one[1].value)
    asked = m.configuration["data"]["fairness"]
    low, high = (f"{100 * x:.1f}" for x in found.interval)
    return (
        f"Groups by {column} differ by {100 * found.value:.1f} percentage points in "
        f"{asked['label']} = {asked['positive']}.",
        "The largest difference between two groups in the real data, as the noisy tables tell it: "
        f"with 95% confidence between {low} and {high} percentage points for the people in them.",
    )


def _lift(o: Outcome, level: float) -> tuple[str, str]:
    one, found = o.shown[0]
    assert o.points is not None
    assert o.rates is not None
    told = shown_comparison(found)
    size = o.points.plain(abs(told.absolute.value))
    unit = " percentage points" if o.conversion else " per user"
    low, high = (o.points.signed(x) for x in told.absolute.interval)
    between = f"between {low} and {high}{unit if o.conversion else ''}"
    arms = (
        f"{o.rates.plain(told.test.rate.value)}{o.rates.suffix} in {one.arm}, "
        f"{o.rates.plain(told.control.rate.value)}{o.rates.suffix} in {one.against}"
    )
    match found.verdict:
        case Verdict.LIFT | Verdict.HARM:
            verb = "raised" if found.verdict is Verdict.LIFT else "lowered"
            title = f"{_first(one.arm)} {verb} {o.subject} by {size}{unit}."
        case Verdict.INCONCLUSIVE:
            title = (
                f"Inconclusive: the data does not yet tell whether {one.arm} changes {o.subject}."
            )
        case Verdict.REFUSED:
            title = f"No verdict on {o.subject}: what it would stand on is in doubt."
    surely = f"With {level_text(level)} confidence the true difference lies {between}."
    least, most = found.absolute.interval
    if found.verdict is Verdict.INCONCLUSIVE and not least <= 0 <= most:
        surely += " Beside the other comparisons of this run that is not yet enough."
    return title, f"{_first(o.subject)}: {arms}. {surely}"


def _other_arms(o: Outcome) -> str:
    """The same outcome of the other arms against the control, or nothing."""
    assert o.points is not None
    told = [
        f"{one.arm} {o.points.signed(shown_comparison(found).absolute.value)}{o.points.suffix} "
        f"({found.verdict.value})"
        for one, found in o.shown[1:]
        if one.against == CONTROL
    ]
    return f" The other arms against {CONTROL}: {', '.join(told)}." if told else ""


def _rulings(lift: LiftReport) -> str:
    """What was declared before the run, and what came of it: a sentence each, or nothing."""
    told = []
    for one in lift.decisions:
        what, value, _ = decision_figures(one, lift)
        ruling = "no ruling" if one.doubts else one.ruling.value
        told.append(f" {_first(what)} ({one.arm}): {ruling}, at {value}.")
    return "".join(told)


def _first(text: str) -> str:
    """With a capital, and all others as they are: of an arm called mensE-Mail too."""
    return text[:1].upper() + text[1:]


def _facts(m: Material) -> list[tuple[str, str, str]]:
    privacy, measured = m.report["privacy"], m.report["measured"]
    budget, spent = privacy["budget"], privacy["spent"]
    sizes = m.report["sizes"]
    parties = ", ".join(f"{party} {n:,}" for party, n in sizes.items())
    if len(sizes) > 3:
        parties = f"from {min(sizes.values()):,} to {max(sizes.values()):,} rows each"
    alone = "no guarantee at all; the tables alone " if spent is None else ""
    common = [shown_finding(o.users) for o in m.overlaps]
    facts = [
        ("Parties", f"{len(sizes)}", parties),
        (
            "Privacy spent, per user",
            f"ε = {shown_epsilon(spent)}",
            f"{alone}of {budget['epsilon']:g}, at δ = {budget['delta']:g}",
        ),
        ("Tables measured", f"{measured['tables']:,}", f"{measured['cells']:,} cells"),
    ]
    if len(common) == 1:
        low, high = common[0].interval
        between = f"{whole(low)} to {whole(high)}"
        facts.insert(1, ("Users in common", f"about {whole(common[0].value)}", between))
    if m.synthetic is not None:
        withheld = m.audit is not None and m.audit.gate.withheld
        rows = "withheld" if withheld else f"{m.synthetic.rows:,}"
        facts.append(("Synthetic rows", rows, f"by {m.synthetic.generator}"))
    return facts
