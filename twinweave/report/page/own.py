"""A party's own page: what was released about its users, what cleaning changed, its own audit.

It has exact counts of the party's rows in it, and is for nobody else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from twinweave import durable
from twinweave.analysis.anonymity import Anonymity
from twinweave.analysis.audit.results import AttackFinding, Gate, UtilityFinding
from twinweave.parsing import parse
from twinweave.privacy.book import EVERY, Book, Spend
from twinweave.privacy.guard import path_of
from twinweave.privacy.ledger import event_to_record
from twinweave.report.display import shown_epsilon
from twinweave.report.page.charts.bars import Length, Lengths, lengths
from twinweave.report.page.charts.tables import NUMBER, STRONG, TEXT, table
from twinweave.report.page.html import render
from twinweave.report.page.page import page
from twinweave.report.page.section import Section
from twinweave.report.page.sections.audit import anonymity, attacks, refused
from twinweave.report.page.sections.budget import RELEASES, grouped
from twinweave.report.page.sections.notices import Notice, drawn
from twinweave.site import PARTY_LOG, Site

PAGE = "report.html"

_HEAD = """
<header>
<p class="over">{{ dataset }}</p>
<h1>For {{ party }} alone.</h1>
<p class="lead">Exact counts of its rows are on this page. Forward the run's page instead.</p>
</header>
"""

_CLEANED = """
<ul class="plain">{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul>
"""

_BESIDE = """
<ul class="plain small">{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul>
"""

_RUNS = (("Run", TEXT), ("First charge (UTC)", TEXT), ("Charges", NUMBER), ("ε in all", STRONG))
_UTILITY = (("Measure", TEXT), ("Value", STRONG), ("Nothing left to win", NUMBER), ("", TEXT))
_MOST_RUNS = 200


def write_own_page(site: Site) -> Path:
    """Draw the page into the party's own folder, readable by its owner alone."""
    path = Path(site.work) / PAGE
    durable.write_whole(path, own_page(site).encode())
    return path


def own_page(site: Site) -> str:
    """Sections for which the party has nothing yet are absent. Raises ConfigError for a guard's
    file of another version."""
    audit, cleaned = _latest(site), list(_cleaning(Path(site.work) / PARTY_LOG))
    made = (
        drawn(list(_notices(site, audit, cleaned))),
        _spent(site),
        _cleaned(cleaned),
        _audited(site, audit),
    )
    return page(
        title=f"{site.party}, for itself alone · Twinweave",
        top=render(_HEAD, party=site.party, dataset=site.dataset),
        sections=[section for section in made if section is not None],
        foot="Drawn from the guard's file, the party's own log and its own audits.",
    )


def _notices(
    site: Site, audit: Mapping[str, Any] | None, cleaned: Sequence[tuple[bool, str]]
) -> Iterator[Notice]:
    """What to beware of, what is wrong first."""
    for reason in parse(Gate, audit["gate"]).reasons if audit is not None else ():
        yield Notice(
            tone="bad",
            title="The synthetic tables are withheld.",
            text=f"{reason.source}: {reason.what}. {reason.remedy}".replace("`", ""),
        )
    if site.unsafe:
        yield Notice(
            tone="warn",
            title="Runs may train without noise:",
            text="the site file says unsafe, and such a run has no guarantee at all.",
        )
    if site.guard.mode == "off":
        yield Notice(
            tone="warn",
            title="The guard is off:",
            text="nothing adds up what runs on this dataset cost. Right for public data only.",
        )
    for loud, line in cleaned:
        if loud:
            yield Notice(tone="warn", title="Cleaning:", text=line)


def _spent(site: Site) -> Section | None:
    file = path_of(site.guard, site.work)
    if not file.exists():
        return None
    spends = [
        s
        for s in Book(path=file).rows()
        if s.party == site.party and s.dataset in (site.dataset, EVERY)
    ]
    if not spends:
        return None
    runs = [(run, list(own)) for run, own in groupby(spends, key=lambda s: s.run)]
    limit = site.guard.epsilon if site.guard.mode == "on" else None
    last = [event_to_record(event) for spend in runs[-1][1] for event in spend.events]
    body = (
        _figure(runs, limit)
        + table(_RUNS, [_run(run, own) for run, own in runs[-_MOST_RUNS:]])
        + render("<h3>Releases of the last run</h3>")
        + table(RELEASES, grouped(last))
    )
    title = "What was released about its users"
    return Section(name="spent", title=title, short="Released", body=body)


def _figure(runs: Sequence[tuple[str, Sequence[Spend]]], limit: float | None) -> Markup:
    rows = [
        Length(name=run[:8], value=own[-1].epsilon, text=shown_epsilon(own[-1].epsilon))
        for run, own in runs[-_MOST_RUNS:]
    ]
    caption = (
        "The guard is off: nothing adds up, and each bar is one run's epsilon."
        if limit is None
        else "Epsilon of everything released about this dataset once each run was charged."
    )
    told = [] if limit is None else [("limit", f"limit over all runs: {limit:g}")]
    line = None if limit is None else (limit, "limit")
    return lengths(Lengths(caption=caption, rows=rows, limit=line, key=told))


def _run(run: str, own: Sequence[Spend]) -> tuple[str, str, str, str]:
    began = own[0].at.replace("T", " ").partition("+")[0] or "unknown"
    return run[:8], began, f"{len(own)}", shown_epsilon(own[-1].epsilon)


def _cleaned(found: Sequence[tuple[bool, str]]) -> Section | None:
    """Its warnings stand at the top of the page."""
    lines = [line for loud, line in found if not loud]
    if not lines:
        return None
    body = render(_CLEANED, lines=lines)
    title = "What cleaning changed in its table"
    return Section(name="cleaning", title=title, short="Cleaning", body=body)


def _cleaning(log: Path) -> Iterator[tuple[bool, str]]:
    """(whether it is a warning, line) of the last time that the table was read."""
    found: list[tuple[bool, str]] = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        stamp, _, text = line.partition("cleaning: ")
        if text.endswith(" kept") and " rows read, " in text:
            found = []
        if text:
            found.append(("WARNING" in stamp, text))
    yield from found


def _latest(site: Site) -> Mapping[str, Any] | None:
    """What the latest of its audits found."""
    files = sorted(Path(site.work).glob("audit*.json"), key=lambda file: file.stat().st_mtime)
    found: Mapping[str, Any] | None = json.loads(files[-1].read_text()) if files else None
    return found


def _audited(site: Site, found: Mapping[str, Any] | None) -> Section | None:
    if found is None:
        return None
    own = [parse(AttackFinding, one) for one in found["attacks"]]
    utility = [parse(UtilityFinding, one) for one in found["utility"]]
    rows = found["rows"]
    said = (
        f"Run {found['run'][:8]}: {rows['used']:,} rows used, {rows['set_aside']:,} set aside, "
        f"{rows['synthetic']:,} synthetic ones. Exact, without noise."
    )
    body = (
        render("<p>{{ said }}</p>", said=said)
        + refused(parse(Gate, found["gate"]))
        + attacks({site.party: own})
        + _beside(found)
        + table(_UTILITY, [_utility(one) for one in utility])
    )
    title = "Its own audit of the synthetic rows"
    return Section(name="audit", title=title, short="Own audit", body=body)


def _beside(found: Mapping[str, Any]) -> Markup:
    """What is no attack's finding: information, what was not played, classes of both tables."""
    described = {name: parse(Anonymity, one) for name, one in found["anonymity"].items()}
    near = found["closest_record"]
    lines = list(found["not_attacked"])
    if near is not None:
        lines.append(
            f"Closest synthetic record, as information: {near['used']:.2f} columns from rows "
            f"used, {near['aside']:.2f} from rows set aside. It decides nothing."
        )
    return render(_BESIDE, lines=lines) + anonymity(described)


def _utility(found: UtilityFinding) -> tuple[str, str, str, str]:
    value = f"{found.value:.4g}"
    if found.interval is not None:
        low, high = found.interval
        value += f" ({low:.4g} to {high:.4g})"
    against = "" if found.against is None else f"{found.against:.4g}"
    weak = "weak: hardly tells good tables from bad ones. " if found.weak else ""
    return found.name, value, against, weak + found.detail
