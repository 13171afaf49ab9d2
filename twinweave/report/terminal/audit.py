"""The summary's section on the audit: what attacks reached, what canaries prove, and the gate."""

from __future__ import annotations

from collections.abc import Mapping

from twinweave.analysis.anonymity import Anonymity
from twinweave.analysis.audit.report import NOBODY_ASKED, AuditReport
from twinweave.analysis.audit.results import LEVEL, AttackFinding, Gate, LowerBound
from twinweave.report.terminal.text import headline, level_text, paragraph, table

_STATES = {"open": "TABLES HANDED OUT", "withheld": "TABLES WITHHELD", "off": "no gate"}


def audit_section(found: AuditReport) -> list[str]:
    """Lines of at most WIDTH characters."""
    looked = ", ".join(found.looked) or "nobody"
    says = (
        f"Looked at by {looked}, each on its own rows; {found.holdout:.0%} of the users were "
        "set aside for it, and no release is about them."
    )
    lines = [
        *headline(f"Audit, {found.mode}", _STATES[found.gate.state]),
        *paragraph(NOBODY_ASKED if found.mode == "off" else says),
    ]
    if found.attacks:
        lines += ["", *_attacks(found)]
    if found.bounds:
        lines += ["", *_bounds(found.bounds)]
    if found.anonymity:
        lines += ["", *_anonymity(found.anonymity)]
    return [*lines, *_gate(found.gate)]


def _attacks(found: AuditReport) -> list[str]:
    interval = f"{level_text(LEVEL)} interval"
    rows = [["attack, by noisy counts", "used", "set aside", "advantage", interval, "at most"]]
    for party, own in found.attacks.items():
        rows += [[f"{one.name} at {party}", *_attack(one)] for one in own]
    return table(rows)


def _attack(found: AttackFinding) -> list[str]:
    low, high = found.interval
    return [
        f"{found.success:.1%}",
        f"{found.control:.1%}",
        f"{found.advantage:+.1%}",
        f"{low:+.1%} to {high:+.1%}",
        f"{'over ' if found.exceeds else ''}{found.threshold:.1%}",
    ]


def _bounds(found: tuple[LowerBound, ...]) -> list[str]:
    rows = [["epsilon of", "claimed", "proven", "ceiling", "confidence"]]
    for one in found:
        rows.append(
            [
                one.path,
                f"{one.claimed:.3g}",
                f"{'OVER: ' if one.exceeds else ''}{one.bound:.3g}",
                f"{one.ceiling:.3g}",
                f"{one.confidence:.4g}",
            ]
        )
    return [
        *table(rows),
        *paragraph(
            "By made-up users, each path in a run of its own that spends all of epsilon on it. "
            "More than is claimed would be a mistake in the program; less proves nothing. Ceiling: "
            "what is proven on average where all that is claimed is spent."
        ),
    ]


def _anonymity(found: Mapping[str, Anonymity]) -> list[str]:
    rows = [["synthetic table", "classes", "k", "rows below the k wanted", "l", "t"]]
    for name, one in found.items():
        below = f"{one.below:,} of {one.rows:,} below {one.wanted}"
        least = min((d.l for d in one.diversity), default=None)
        most = max((d.t for d in one.diversity), default=None)
        rows.append(
            [
                name,
                f"{one.classes:,}",
                f"{one.k}",
                below,
                "-" if least is None else f"{least}",
                "-" if most is None else f"{most:.2f}",
            ]
        )
    over = ", ".join(dict.fromkeys(q for one in found.values() for q in one.quasi_identifiers))
    return [
        *table(rows),
        *paragraph(
            f"Over {over}. It describes the tables, and guarantees nothing: a synthetic row that "
            "nobody is like may be of nobody."
        ),
    ]


def _gate(gate: Gate) -> list[str]:
    lines: list[str] = []
    for reason in gate.reasons:
        lines += paragraph(f"WITHHELD, {reason.source}: {reason.what}. {reason.remedy}")
    if gate.unseen:
        lines += paragraph(f"Not seen by the gate: {' '.join(gate.unseen)}")
    return lines
