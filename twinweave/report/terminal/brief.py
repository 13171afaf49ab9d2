"""A run in one screen: verdicts, what to beware of, what it cost, where the rest is."""

from __future__ import annotations

from collections.abc import Iterator

from twinweave.analysis.lift.results import Comparison
from twinweave.report.display import shown_comparison, shown_epsilon, shown_finding
from twinweave.report.page.material import Material
from twinweave.report.page.outcomes import Lift, Outcome, outcomes
from twinweave.report.page.sections.notices import Notice, notices
from twinweave.report.terminal.stakes import decision_figures
from twinweave.report.terminal.text import (
    WIDTH,
    p_is,
    paragraph,
    percent,
    rule,
    shortened,
    table,
    whole,
)

LINES = 34
"""Of a screen, at most."""

_VERDICTS, _WARNINGS = 9, 3
"""Lines of each kind before the rest is in the report."""

_NONE = ": NO GUARANTEE AT ALL"

_GATE = {"open": "tables handed out", "withheld": "TABLES WITHHELD", "off": "no gate"}


def brief(m: Material) -> str:
    """Text of at most LINES lines of WIDTH characters, but for paths longer than a line."""
    right = f"{m.data} · run {m.report['run']}"
    lines = [
        rule("═"),
        f" TWINWEAVE{right:>{WIDTH - 11}} ",
        rule("═"),
        *paragraph(_what(m), " ")[:2],
        *_verdicts(m),
        "",
        *table(list(_facts(m)), left=2, indent=" "),
        *_warnings(notices(m)),
        "",
        *_files(m),
        rule("═"),
    ]
    return "\n".join([*lines, ""])


def _what(m: Material) -> str:
    sizes = m.report["sizes"]
    told = ", ".join(f"{party} {n:,} rows" for party, n in list(sizes.items())[:3])
    if len(sizes) > 3:
        told += f" and {len(sizes) - 3} more parties"
    common = [shown_finding(one.users).value for one in m.overlaps]
    if len(common) == 1:
        told += f"; about {whole(common[0])} users in common"
    measured, seconds = m.report["measured"], m.report["seconds"]
    took = "" if seconds is None else f"; {seconds:.0f} s"
    return f"{told}; {measured['tables']:,} noisy tables{took}"


def _verdicts(m: Material) -> list[str]:
    """One line a comparison and a decision."""
    lines = _lines(m, relative=True)
    return lines if all(len(line) <= WIDTH for line in lines) else _lines(m, relative=False)


def _lines(m: Material, *, relative: bool) -> list[str]:
    rows = [_verdict(o, one, found, relative) for o in outcomes(m) for one, found in o.shown]
    rows += [
        [o.name, "", "not shown", "too few users, or noise", ""] for o in outcomes(m) if not o.shown
    ]
    for decision in m.lift.decisions if m.lift is not None else ():
        assert m.lift is not None
        what, value, interval = decision_figures(decision, m.lift)
        ruling = "no ruling" if decision.doubts else decision.ruling.value
        rows.append([shortened(what, 28), ruling.upper(), value, interval, ""])
    if not rows:
        return []
    more = len(rows) - _VERDICTS
    lines = ["", *table(rows[:_VERDICTS], left=2, indent=" ")]
    return lines if more <= 0 else [*lines, f" and {more} more in the report"]


def _verdict(o: Outcome, one: Lift, found: Comparison, relative: bool) -> list[str]:
    assert o.points is not None
    told = shown_comparison(found)
    p = found.p_value if found.p_adjusted is None else found.p_adjusted
    beside = ""
    if relative and told.relative is not None and told.relative.value is not None:
        beside = f" ({percent(told.relative.value)})"
    return [
        shortened(f"{o.name}, {one.arm} vs {one.against}", 28),
        found.verdict.value.upper(),
        f"{o.points.signed(told.absolute.value)}{o.points.suffix}{beside}",
        o.points.between(told.absolute.interval),
        p_is(p),
    ]


def _facts(m: Material) -> Iterator[list[str]]:
    """What else is to be known, in a line each."""
    privacy = m.report["privacy"]
    spent, budget = privacy["spent"], privacy["budget"]
    of = f"of {budget['epsilon']:g}, delta {budget['delta']:g}"
    yield ["privacy", f"epsilon {shown_epsilon(spent)} {of}{_NONE if spent is None else ''}"]
    if training := privacy.get("training"):
        share = training["share"]
        told = f"{share:g} of the shares" if share else "none: fitted to the tables alone"
        told = "WITHOUT NOISE (privacy.unsafe)" if training.get("unsafe") else told
        yield ["training", told]
    if m.synthetic is not None:
        found = m.synthetic
        agrees = "agree with" if found.fidelity.agrees else "DIFFER from"
        says = f"{agrees} the measured tables, misfit {found.fidelity.chi2:.2f}"
        yield ["synthetic", f"{found.rows:,} rows by {found.generator} {says}"]
        for audit in found.fairness.audits[:1] if found.fairness is not None else ():
            assert found.fairness is not None
            if audit.label_parity is not None:
                name = f"{found.fairness.label} by {' x '.join(audit.columns)}"
                says = f"parity difference {audit.label_parity.value:.3f} of {shortened(name, 40)}"
                yield ["fairness", says]
    if m.audit is not None:
        unseen = "; not all could be looked at, see the report" if m.audit.gate.unseen else ""
        yield ["audit", f"{_GATE[m.audit.gate.state]}{unseen}"]


def _warnings(found: list[Notice]) -> list[str]:
    """What is wrong, or weaker than it looks, cut to a line or two each."""
    loud = [one for one in found if one.tone]
    lines = [""] if loud else []
    for one in loud[:_WARNINGS]:
        told = paragraph(f"! {one.title} {one.text}", " ")
        lines += told if len(told) <= 2 else [told[0], shortened(told[1], WIDTH - 4) + " …"]
    if len(loud) > _WARNINGS:
        lines.append(f" ! and {len(loud) - _WARNINGS} more in the report")
    return lines


def _files(m: Material) -> list[str]:
    files = dict(m.report["files"])
    told = {"everything": files["page"], "figures": files["report"]}
    if checkpoint := files.get("checkpoint"):
        told["checkpoint"] = checkpoint
    tables = (m.report["synthetic"] or {}).get("tables") or {}
    if tables:
        told["tables"] = str(next(iter(tables.values()))).rpartition("/")[0]
    return [f" {what:<12}{path}" for what, path in told.items()]
