"""A party's audit of synthetic rows: everything that its own rows can tell, for its own eyes."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from twinweave.workload.audit import COUNTED

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from twinweave.analysis.audit.results import AttackFinding, Gate, UtilityFinding
    from twinweave.protocols.evaluation.interface import Audited, Evidence

log = logging.getLogger("twinweave.party")


def audit(evidence: Evidence) -> Audited:
    """Attacks and utility on the party's own rows, those used beside those set aside.

    Deterministic under the evidence's seed. What leaves the party of it is decided elsewhere.
    """
    import numpy as np

    from twinweave.analysis.audit.copies import NAME, copied
    from twinweave.analysis.audit.gate import decide
    from twinweave.analysis.audit.rates import finding_of_hits, hit_table
    from twinweave.parsing import to_plain
    from twinweave.protocols.evaluation.interface import Audited

    started = time.perf_counter()
    rng = np.random.default_rng([evidence.seed, 8])
    used, aside = (copied(rows, evidence.synthetic) for rows in (evidence.used, evidence.aside))
    hits = {NAME: hit_table(used, aside)}
    assert set(hits) == set(COUNTED)
    threshold = evidence.plan.threshold
    counted = [finding_of_hits(n, table, threshold=threshold) for n, table in hits.items()]
    attacks = [found for found in counted if found is not None]
    attacks += attacked(evidence, rng)
    gate = decide({evidence.party: attacks})
    utility = measured(evidence, rng)
    lines = list(told(attacks, utility, gate))
    for line in lines:
        log.info("audit: %s", line)
    report: dict[str, Any] = {
        "mode": evidence.plan.mode,
        "rows": {
            "used": len(evidence.used),
            "set_aside": len(evidence.aside),
            "synthetic": len(evidence.synthetic),
        },
        "attacks": to_plain(attacks),
        "utility": to_plain(utility),
        "gate": to_plain(gate),
        "lines": lines,
        "seconds": time.perf_counter() - started,
    }
    return Audited(report=report, withheld=gate.withheld, hits=hits)


def attacked(
    evidence: Evidence,  # noqa: ARG001
    rng: np.random.Generator,  # noqa: ARG001
) -> list[AttackFinding]:
    """Attacks beside the counted ones."""
    return []


def measured(evidence: Evidence, rng: np.random.Generator) -> list[UtilityFinding]:
    """How like the party's own rows the synthetic ones are; none where it has no such row."""
    from twinweave.analysis.fidelity.classifiers import told_apart, trained_on
    from twinweave.analysis.fidelity.quality import quality
    from twinweave.analysis.fidelity.real import distances, similarities

    used, aside, synthetic = evidence.used, evidence.aside, evidence.synthetic
    if not len(synthetic):
        return []
    apart = told_apart(used, synthetic, rng)
    found = [
        *distances(used, aside, synthetic, evidence.sizes, rng),
        *([apart] if apart is not None else []),
        *trained_on(evidence.columns, used, aside, synthetic, rng),
        *similarities(used, synthetic, evidence.sizes),
    ]
    if evidence.plan.mode == "full":
        found.append(quality(evidence.columns, used, synthetic, rng))
    return found


def told(attacks: list[AttackFinding], utility: list[UtilityFinding], gate: Gate) -> Iterator[str]:
    """The findings as lines, for the party's own log."""
    for one in attacks:
        low, high = one.interval
        yield (
            f"attack {one.name}: {one.success:.1%} of rows used, {one.control:.1%} of rows set "
            f"aside; apart by {one.advantage:+.1%} ({low:+.1%} to {high:+.1%}), which may be "
            f"{one.threshold:.1%}"
        )
    for measure in utility:
        against = "" if measure.against is None else f" (against {measure.against:.4g})"
        yield f"{measure.name}: {measure.value:.4g}{against}" + (" [weak]" if measure.weak else "")
    for reason in gate.reasons:
        yield f"WITHHELD: {reason.what}"
