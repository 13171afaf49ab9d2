"""A party's audit of synthetic rows: everything that its own rows can tell, for its own eyes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twinweave.workload.audit import COUNTED

if TYPE_CHECKING:
    from twinweave.analysis.audit.results import AttackFinding, UtilityFinding
    from twinweave.protocols.evaluation.interface import Audited, Evidence


def audit(evidence: Evidence) -> Audited:
    """Attacks and utility on the party's own rows, those used beside those set aside.

    Deterministic under the evidence's seed. What leaves the party of it is decided elsewhere.
    """
    from twinweave.analysis.audit.copies import NAME, copied
    from twinweave.analysis.audit.gate import decide
    from twinweave.analysis.audit.rates import finding_of_hits, hit_table
    from twinweave.parsing import to_plain
    from twinweave.protocols.evaluation.interface import Audited

    started = time.perf_counter()
    used, aside = (copied(t.codes, evidence.synthetic) for t in (evidence.used, evidence.aside))
    hits = {NAME: hit_table(used, aside)}
    threshold = evidence.plan.threshold
    counted = [finding_of_hits(n, table, threshold=threshold) for n, table in hits.items()]
    attacks = [found for found in counted if found is not None]
    attacks += attacked(evidence)
    gate = decide({evidence.party: attacks})
    assert set(hits) == set(COUNTED)
    report: dict[str, Any] = {
        "mode": evidence.plan.mode,
        "rows": {
            "used": len(evidence.used),
            "set_aside": len(evidence.aside),
            "synthetic": len(evidence.synthetic),
        },
        "attacks": to_plain(attacks),
        "utility": to_plain(measured(evidence)),
        "gate": to_plain(gate),
        "seconds": time.perf_counter() - started,
    }
    return Audited(report=report, withheld=gate.withheld, hits=hits)


def attacked(evidence: Evidence) -> list[AttackFinding]:  # noqa: ARG001
    """Attacks beside the counted ones."""
    return []


def measured(evidence: Evidence) -> list[UtilityFinding]:  # noqa: ARG001
    """How like the party's own rows the synthetic ones are."""
    return []
