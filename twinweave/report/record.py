"""report.json: what a run found, what it cost and who saw what; versioned, JSON-ready.

The exact size of the overlap is not in it: the parties read this file and must not learn it.
What it has is what the noisy tables tell.
"""

from __future__ import annotations

from typing import Any

from twinweave.parsing import to_plain
from twinweave.privacy.events import NonPrivate
from twinweave.report.contents import Contents, RunFacts
from twinweave.workload.selection import LEVEL

VERSION = 1

WHO_SEES_WHAT = (
    "Each party keeps its rows. What the server reads of the joint data are noisy tables, every "
    "one of them in the ledger; this report is computed from those tables alone.",
    "The server also sees table sizes and which blinded ids match, and so the exact size of the "
    "overlap. That is outside the (epsilon, delta) claim.",
    "A party sees table sizes and this report. Parties that pool what they know, or the server and "
    "a party, learn more (docs/security.md): where the server deals the masks, the default, it and "
    "a party together have the other party's rows as coded for the run.",
)


WITHOUT_NOISE = (
    "Each party keeps its rows. The server reads noisy tables, every one of them in the ledger. "
    "But the generator is trained without noise (privacy.unsafe): the sums of updates that the "
    "server reads, the weights that every party gets, and all that is computed from them may tell "
    "of single rows. None of it has a guarantee."
)
"""In the place of the first sentence of WHO_SEES_WHAT."""


def report_record(contents: Contents) -> dict[str, Any]:
    """The content of report.json; what the run did not do is null.

    Numbers are finite; an infinite end of an interval, or epsilon, is null.
    """
    facts = contents.facts
    return {
        "version": VERSION,
        "run": facts.run,
        "data": facts.data,
        "seconds": facts.seconds,
        "sizes": dict(facts.sizes),
        "set_aside": facts.set_aside,
        "measured": {
            "tables": facts.tables,
            "cells": facts.cells,
            "scope": facts.scope,
            "left_out": {"max_cells": facts.max_cells, "tables": list(facts.too_large)},
        },
        "in_common": to_plain(contents.overlaps),
        "privacy": _privacy(facts),
        "lift": to_plain(contents.lift),
        "selection": _selection(contents),
        "synthetic": _synthetic(contents),
        "audit": to_plain(contents.audit),
        "truth": {"absolute_lift": to_plain(facts.truth), "by": to_plain(facts.truth_by)},
        "who_sees_what": _who_sees_what(facts),
        "traffic": to_plain(facts.traffic),
        "versions": dict(facts.versions),
        "files": dict(facts.files),
    }


def _privacy(facts: RunFacts) -> dict[str, Any]:
    return {
        "unit": "user",
        "budget": {"epsilon": facts.epsilon, "delta": facts.delta},
        "spent": facts.ledger.get("epsilon"),
        "spent_by_stage": dict(facts.ledger.get("epsilon_by_stage", {})),
        "spent_by_party": dict(facts.ledger.get("epsilon_by_party", {})),
        "notes": list(facts.ledger.get("notes", ())),
        "guards": dict(facts.guards),
        "training": to_plain(facts.training),
    }


def _who_sees_what(facts: RunFacts) -> list[str]:
    """A run that ends without its generator may have trained before: its ledger knows."""
    kinds = {event["mechanism"]["kind"] for event in facts.ledger.get("events", ())}
    asked = facts.training is not None and facts.training.unsafe
    first = WITHOUT_NOISE if asked or NonPrivate.__name__ in kinds else WHO_SEES_WHAT[0]
    return [first, *WHO_SEES_WHAT[1:]]


def _synthetic(contents: Contents) -> dict[str, Any] | None:
    if contents.synthetic is None:
        return None
    return {**to_plain(contents.synthetic), "tables": dict(contents.facts.synthetic)}


def _selection(contents: Contents) -> dict[str, Any] | None:
    """Every score, and what was chosen; rank_level: of the intervals of ranks."""
    if contents.choice is None:
        return None
    return {
        "rank_level": LEVEL,
        "scores": to_plain(contents.scores),
        "choice": to_plain(contents.choice),
    }
