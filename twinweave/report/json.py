"""report.json: what a run found, what it cost and who saw what; versioned, JSON-ready.

The size of the overlap is not in it: the parties read this file and must not learn it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from strategies.planning import Selected
from twinweave.analysis.lift import LiftReport
from twinweave.analysis.synthetic import SyntheticFindings
from twinweave.parsing import to_plain
from twinweave.report.terminal.selection import selection_facts

VERSION = 1

WHO_SEES_WHAT = (
    "Each party keeps its rows. What the server reads of the joint data are noisy tables, every "
    "one of them in the ledger; this report is computed from those tables alone.",
    "The server also sees table sizes and which blinded ids match, and so the exact size of the "
    "overlap. That is outside the (epsilon, delta) claim.",
    "A party sees table sizes and this report. Two colluding parties, or the server and a party "
    "together, learn more: see the threat model in the README.",
)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a report says about its run beside the findings.

    sizes: rows of each party's table after cleaning. delta, epsilon: the budget asked for.
    ledger: `Ledger.report(delta)`. guards: each party's guard, "on" or "off".
    tables, cells: how many were measured. files: what each is, and its path.
    truth: {outcome: true absolute lift} where the data is simulated or known;
    truth_by: {conversion: {column: {level: true absolute lift}}}.
    """

    run: str
    data: str
    sizes: Mapping[str, int]
    epsilon: float
    delta: float
    ledger: Mapping[str, Any] = field(repr=False)
    guards: Mapping[str, str]
    tables: int
    cells: int
    files: Mapping[str, str]
    seconds: float | None = None
    truth: Mapping[str, float] = field(default_factory=dict)
    truth_by: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)


def build_report(
    lift: LiftReport | None,
    facts: RunFacts,
    synthetic: SyntheticFindings | None = None,
    selected: Selected | None = None,
) -> dict[str, Any]:
    """The content of report.json. `lift` is None for data without an experiment, `synthetic`
    for a run without a generator, `selected` for one without feature selection.

    Numbers are finite; an infinite end of an interval, or epsilon, is null.
    """
    return {
        "version": VERSION,
        "run": facts.run,
        "data": facts.data,
        "seconds": facts.seconds,
        "sizes": dict(facts.sizes),
        "measured": {"tables": facts.tables, "cells": facts.cells},
        "privacy": {
            "unit": "user",
            "budget": {"epsilon": facts.epsilon, "delta": facts.delta},
            "spent": facts.ledger.get("epsilon"),
            "spent_by_stage": dict(facts.ledger.get("epsilon_by_stage", {})),
            "spent_by_party": dict(facts.ledger.get("epsilon_by_party", {})),
            "notes": list(facts.ledger.get("notes", ())),
            "guards": dict(facts.guards),
        },
        "lift": to_plain(lift),
        "selection": selection_facts(selected.scores, selected.choice) if selected else None,
        "synthetic": to_plain(synthetic),
        "truth": {"absolute_lift": to_plain(facts.truth), "by": to_plain(facts.truth_by)},
        "who_sees_what": list(WHO_SEES_WHAT),
        "files": dict(facts.files),
    }
