"""report.html: everything about a run in one file that needs nothing else, in reading order."""

from __future__ import annotations

from collections.abc import Callable

from twinweave.report.page.head import head
from twinweave.report.page.html import render
from twinweave.report.page.material import Material
from twinweave.report.page.section import Section
from twinweave.report.page.sections import (
    agreement,
    audit,
    breakdowns,
    budget,
    configuration,
    deciding,
    effects,
    enforced,
    fairness,
    fidelity,
    learned,
    matching,
    money,
    notices,
    selection,
    traffic,
)
from twinweave.report.page.style import STYLE

SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    notices.section,
    effects.section,
    money.section,
    matching.section,
    breakdowns.section,
    deciding.section,
    budget.section,
    learned.section,
    selection.section,
    fidelity.section,
    agreement.section,
    fairness.section,
    enforced.section,
    audit.section,
    traffic.section,
    configuration.section,
)
"""In the page's order: what to beware of, what was found, what it cost, how it came about."""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<link rel="icon" href="data:,">
<style>{{ style }}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the findings</a>
<div class="frame">
<nav aria-label="Contents"><ol>
{% for s in sections %}<li><a href="#{{ s.name }}">{{ s.short }}</a></li>
{% endfor %}
</ol></nav>
<main id="main">
{{ head }}
{% for s in sections %}
<section id="{{ s.name }}" aria-labelledby="{{ s.name }}-title">
<h2 id="{{ s.name }}-title">{{ s.title }}</h2>
{{ s.body }}
</section>
{% endfor %}
<footer>{{ foot }}</footer>
</main>
</div>
</body>
</html>
"""


def run_page(material: Material) -> str:
    """The page of a run."""
    sections = [made for make in SECTIONS if (made := make(material)) is not None]
    return page(
        title=f"{material.data} · Twinweave",
        top=head(material),
        sections=sections,
        foot="Drawn from report.json, ledger.json and the measured tables of this run, all of "
        "them public by differential privacy. No row of a party was read.",
    )


def page(*, title: str, top: str, sections: list[Section], foot: str) -> str:
    """A whole document."""
    made = render(TEMPLATE, title=title, style=STYLE, head=top, sections=sections, foot=foot)
    return f"{made}\n"
