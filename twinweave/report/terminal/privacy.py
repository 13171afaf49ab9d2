"""The summary's section on the budget: asked for, spent, and whether guards add up the runs."""

from __future__ import annotations

from twinweave.report.contents import RunFacts
from twinweave.report.terminal.text import paragraph, rule, table


def privacy_section(facts: RunFacts) -> list[str]:
    """Lines of at most WIDTH characters."""
    stages = facts.ledger.get("epsilon_by_stage", {})
    parties = facts.ledger.get("epsilon_by_party", {})
    rows = [
        ["privacy, per user", "epsilon", "delta"],
        ["budget", f"{facts.epsilon:g}", f"{facts.delta:g}"],
        ["spent in all", _epsilon(facts.ledger.get("epsilon")), f"{facts.delta:g}"],
        *([f"  stage {stage}", _epsilon(e)] for stage, e in stages.items()),
        *([f"  users of {party}", _epsilon(e)] for party, e in parties.items()),
    ]
    return ["", rule(), *table(rows, indent=" "), *paragraph(_guards(facts), " ")]


def _guards(facts: RunFacts) -> str:
    if off := [party for party, state in facts.guards.items() if state == "off"]:
        return (
            f"guard: off ({', '.join(off)}): nothing stops the next run on the same data from "
            "spending again. Right for public or simulated data only."
        )
    return "guard: on at every party; runs on the same data add up."


def _epsilon(epsilon: float | None) -> str:
    return "infinite" if epsilon is None else f"{epsilon:.4f}"
