"""The terminal summary of a run: a measurement team reads this first."""

from __future__ import annotations

from twinweave.analysis.overlap import Overlap
from twinweave.report.contents import Contents, RunFacts
from twinweave.report.display import shown_epsilon, shown_finding
from twinweave.report.terminal.audit import audit_section
from twinweave.report.terminal.lift import lift_section
from twinweave.report.terminal.selection import selection_section
from twinweave.report.terminal.stakes import stakes_section
from twinweave.report.terminal.synthetic import synthetic_section
from twinweave.report.terminal.text import WIDTH, paragraph, rule, table, whole

_NAMED = 5
"""Left out tables that the summary names; run.log names them all."""


def summary(contents: Contents, *, told: bool = False) -> str:
    """The whole summary, lines of at most WIDTH characters (paths may be longer).

    told: without what was measured, which stands above since before the training.
    """
    facts = contents.facts
    lines = _heading(facts)
    if not told:
        lines += _measured(contents)
    if contents.synthetic is not None:
        lines += synthetic_section(contents.synthetic)
    if contents.audit is not None:
        lines += audit_section(contents.audit)
    lines += _privacy(facts) + _files(facts)
    return "\n".join([*lines, rule("═"), ""])


def _measured(contents: Contents) -> list[str]:
    """What the noisy tables say of the overlap, the lift and the columns chosen."""
    lines: list[str] = []
    for overlap in contents.overlaps:
        lines += paragraph(_in_common(overlap), " ")
    if contents.lift is not None:
        lines += lift_section(contents.lift, contents.facts)
        lines += stakes_section(contents.lift)
    if contents.choice is not None:
        lines += selection_section(contents.scores, contents.choice)
    return lines


def _heading(facts: RunFacts) -> list[str]:
    """Which run, on what, how large."""
    right = f"{facts.data} · run {facts.run}"
    sizes = ", ".join(f"{party} {n:,} rows" for party, n in facts.sizes.items())
    took = "" if facts.seconds is None else f"; {facts.seconds:.0f} s"
    return [
        rule("═"),
        f" TWINWEAVE{right:>{WIDTH - 11}} ",
        rule("═"),
        *paragraph(f"{sizes}; {facts.tables} tables of {facts.cells:,} cells measured{took}", " "),
        *_set_aside(facts),
        *_not_asked(facts),
        *_too_large(facts),
    ]


def _set_aside(facts: RunFacts) -> list[str]:
    """That figures are of a part of the users."""
    if not facts.set_aside:
        return []
    used = 1 - facts.set_aside
    return paragraph(
        f"{facts.set_aside:.0%} of the users are set aside for the audit: counts, what is "
        f"incremental and what it cost are of the other {used:.0%}",
        " ",
    )


def _not_asked(facts: RunFacts) -> list[str]:
    """That other tables were left out, and how to have them."""
    if facts.scope == "all":
        return []
    return paragraph(
        "the analyses' tables alone, at the least noise; workload=all adds others", " "
    )


def _too_large(facts: RunFacts) -> list[str]:
    """Which tables were not asked for, and the option; the first few of many."""
    if not facts.too_large:
        return []
    count, shown = len(facts.too_large), ", ".join(facts.too_large[:_NAMED])
    more = f" and {count - _NAMED} more (all are in the log)" if count > _NAMED else ""
    return paragraph(
        f"left out for more than {facts.max_cells:,} cells (workload.max_cells): {shown}{more}",
        " ",
    )


def _in_common(found: Overlap) -> str:
    """What the noisy tables tell of two parties' users in common."""
    users = shown_finding(found.users)
    low, high = users.interval
    names = " and ".join(" + ".join(members) for members in (found.first, found.second))
    text = f"{names}: about {whole(users.value)} users in common ({whole(low)} to {whole(high)})"
    if found.hardly_any:
        text += (
            ". HARDLY ANY: check that both spell the ids alike (leading zeros, case, blanks, "
            "dashes, prefixes, hashes)"
        )
    return text


def _privacy(facts: RunFacts) -> list[str]:
    """The budget: asked for, spent, and whether guards add up the runs."""
    stages = facts.ledger.get("epsilon_by_stage", {})
    parties = facts.ledger.get("epsilon_by_party", {})
    rows = [
        ["privacy, per user", "epsilon", "delta"],
        ["budget", f"{facts.epsilon:g}", f"{facts.delta:g}"],
        ["spent in all", shown_epsilon(facts.ledger.get("epsilon")), f"{facts.delta:g}"],
        *([f"  stage {stage}", shown_epsilon(e)] for stage, e in stages.items()),
        *([f"  users of {party}", shown_epsilon(e)] for party, e in parties.items()),
    ]
    trained = paragraph(f"training: {facts.training.why}", " ") if facts.training else []
    return ["", rule(), *table(rows, indent=" "), *trained, *paragraph(_guards(facts), " ")]


def _guards(facts: RunFacts) -> str:
    if off := [party for party, state in facts.guards.items() if state == "off"]:
        return (
            f"guard: off ({', '.join(off)}): nothing stops the next run on the same data from "
            "spending again. Right for public or simulated data only."
        )
    if single := [party for party, state in facts.guards.items() if state == "this run"]:
        return (
            f"guard: this run only ({', '.join(single)}): its file ends with the run's directory, "
            "and runs do not add up. Name a file that lasts: privacy.guard.path."
        )
    return "guard: on at every party; runs on the same dataset add up."


def _files(facts: RunFacts) -> list[str]:
    """One line a file: what it is, and its path (which may be longer than the page)."""
    synthetic = {f"synthetic {name}": path for name, path in facts.synthetic.items()}
    files = {**facts.files, **synthetic}
    if not files:
        return []
    width = max(len(what) for what in files)
    return ["", rule(), *(f" {what:<{width}}   {path}" for what, path in files.items())]
