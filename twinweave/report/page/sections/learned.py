"""Who learned what in this run, and what follows about users in common."""

from __future__ import annotations

from twinweave.report.display import shown_finding
from twinweave.report.page.charts.tables import NUMBER, STRONG, TEXT, table
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section
from twinweave.report.terminal.text import whole

_TEMPLATE = """
{{ who }}
<ul class="plain small">{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul>
{% if overlaps %}
<h3>Users in common, as the noisy tables tell it</h3>
{{ overlaps }}
{% endif %}
"""

_WHO = (("Who", TEXT), ("Learned", TEXT), ("Never saw", TEXT))
_OVERLAPS = (("Parties", TEXT), ("Estimate", STRONG), ("95% interval", NUMBER))

_OUTSIDER = "nothing, where nodes talk over TLS; what parties send each other is sealed in any case"


def section(m: Material) -> Section | None:
    body = render(
        _TEMPLATE,
        who=table(_WHO, _rows(m), "who"),
        lines=m.report["who_sees_what"],
        overlaps=table(_OVERLAPS, _overlaps(m)) if m.overlaps else "",
    )
    return Section(name="learned", title="Who learned what", short="Who learned what", body=body)


def _rows(m: Material) -> list[tuple[str, str, str]]:
    measured, sizes = m.report["measured"], m.report["sizes"]
    kinds = {e["mechanism"]["kind"] for e in m.ledger["events"]}
    sums = "; sums of model updates, each with its own noise" if "PoissonSgd" in kinds else ""
    if "NonPrivate" in kinds:
        sums = "; sums of model updates WITHOUT noise, which may tell of single rows"
    matches = "; which blinded ids match, and so how many" if m.overlaps else ""
    tables = measured["tables"]
    noisy = f"{tables:,} noisy table{'' if tables == 1 else 's'}"
    server = f"{noisy}; table sizes{matches}{sums}"
    alike = "another party's rows" + (", or which of its users match" if m.overlaps else "")
    parties = list(sizes) if len(sizes) < 4 else [f"Each of {len(sizes)} parties"]
    return [
        ("Server", server, "a row, an id, a single party's update"),
        *((party, "table sizes; this report", alike) for party in parties),
        ("Outsider", _OUTSIDER, "rows, ids, tables"),
    ]


def _overlaps(m: Material) -> list[tuple[str, str, str]]:
    found = []
    for one in m.overlaps:
        told = shown_finding(one.users)
        low, high = told.interval
        names = " and ".join(" + ".join(members) for members in (one.first, one.second))
        found.append((names, f"about {whole(told.value)}", f"{whole(low)} to {whole(high)}"))
    return found
