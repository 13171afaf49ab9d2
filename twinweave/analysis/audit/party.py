"""A party's audit of synthetic rows: everything that its own rows can tell, for its own eyes."""

from __future__ import annotations

import logging
import time
import traceback
from typing import TYPE_CHECKING, Any

from twinweave import progress
from twinweave.workload.audit import COUNTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from twinweave.analysis.anonymity import Anonymity
    from twinweave.analysis.attacks.attack import Attacks
    from twinweave.analysis.audit.results import AttackFinding, Gate, UtilityFinding
    from twinweave.protocols.evaluation.interface import Audited, Evidence

log = logging.getLogger("twinweave.party")


def audit(evidence: Evidence) -> Audited:
    """Attacks and utility on the party's own rows, those used beside those set aside.

    Deterministic under the evidence's seed. What leaves the party of it is decided elsewhere.
    Nothing of the rows or of the synthetic ones can end it with an error: that there was one would
    leave the party, and a server that chooses the rows could have chosen what it tells.
    """
    from twinweave.analysis.audit.copies import NAME, copied
    from twinweave.analysis.audit.rates import hit_table
    from twinweave.protocols.evaluation.interface import Audited

    used, aside = (copied(rows, evidence.synthetic) for rows in (evidence.used, evidence.aside))
    hits = {NAME: hit_table(used, aside)}
    assert set(hits) == set(COUNTED)
    rows = {
        "used": len(evidence.used),
        "set_aside": len(evidence.aside),
        "synthetic": len(evidence.synthetic),
    }
    about = {"mode": evidence.plan.mode, "rows": rows}
    try:
        report, withheld = findings(evidence, hits)
    except Exception as error:
        log.warning("audit: it could not be finished (%s)", type(error).__name__)
        log.info("%s", "".join(traceback.format_exception(error)))
        report, withheld = failed(error), True
    for line in report["lines"]:
        log.info("audit: %s", line)
    return Audited(report={**about, **report}, withheld=withheld, hits=hits)


def failed(error: Exception) -> dict[str, Any]:
    """The report of an audit that came to no end."""
    from twinweave.analysis.audit.gate import unfinished
    from twinweave.parsing import to_plain

    gate = unfinished(type(error).__name__)
    return {
        "attacks": [],
        "not_attacked": [],
        "closest_record": None,
        "utility": [],
        "anonymity": {},
        "gate": to_plain(gate),
        "lines": [f"WITHHELD: {reason.what}. {reason.remedy}" for reason in gate.reasons],
    }


def findings(
    evidence: Evidence, hits: Mapping[str, NDArray[np.int64]]
) -> tuple[dict[str, Any], bool]:
    """The party's report, and its word on the tables. hits: of the attacks that are counted."""
    import numpy as np

    from twinweave.analysis.audit.gate import decide
    from twinweave.analysis.audit.rates import finding_of_hits
    from twinweave.parsing import to_plain

    started = time.perf_counter()
    rng = np.random.default_rng([evidence.seed, 8])
    threshold = evidence.plan.threshold
    counted = [finding_of_hits(n, table, threshold=threshold) for n, table in hits.items()]
    attacks = [found for found in counted if found is not None]
    progress.report("audit", 0, 3)
    played = attacked(evidence)
    attacks += played.findings
    gate = decide({evidence.party: attacks})
    progress.report("audit", 1, 3)
    utility = measured(evidence, rng)
    progress.report("audit", 2, 3)
    anonymity = described(evidence)
    report = {
        "attacks": to_plain(attacks),
        "not_attacked": to_plain(played.left_out),
        "closest_record": to_plain(played.closest),
        "utility": to_plain(utility),
        "anonymity": to_plain(anonymity),
        "gate": to_plain(gate),
        "lines": [*told(attacks, utility, gate), *told_beside(played, anonymity)],
        "seconds": time.perf_counter() - started,
    }
    return report, gate.withheld


def attacked(evidence: Evidence) -> Attacks:
    """Attacks beside the counted ones."""
    from twinweave.analysis.attacks.attack import EFFORTS, attack
    from twinweave.analysis.attacks.rows import Exposed

    plan = evidence.plan
    exposed = Exposed(
        columns=evidence.columns,
        members=evidence.used,
        control=evidence.aside,
        synthetic=evidence.synthetic,
    )
    effort = EFFORTS["full" if plan.mode == "full" else "quick"]
    return attack(exposed, effort, threshold=plan.threshold, seed=evidence.seed)


def described(evidence: Evidence) -> dict[str, Anonymity]:
    """k, l and t of the party's synthetic table, and of its own rows, over the quasi-identifiers
    that it holds; {} without one."""
    from twinweave.analysis.anonymity import of_table

    plan = evidence.plan
    tables = {"synthetic": evidence.synthetic, "own rows": evidence.used}
    found = {
        name: of_table(evidence.columns, codes, plan.quasi_identifiers, plan.k)
        for name, codes in tables.items()
    }
    return {name: one for name, one in found.items() if one is not None}


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
            f"attack {one.name}: {one.success:.1%} on rows used, {one.control:.1%} on rows set "
            f"aside; apart by {one.advantage:+.1%} ({low:+.1%} to {high:+.1%}), which may be "
            f"{one.threshold:.1%}"
        )
    for measure in utility:
        against = "" if measure.against is None else f" (against {measure.against:.4g})"
        yield f"{measure.name}: {measure.value:.4g}{against}" + (" [weak]" if measure.weak else "")
    for reason in gate.reasons:
        yield f"WITHHELD: {reason.what}"


def told_beside(played: Attacks, anonymity: Mapping[str, Anonymity]) -> Iterator[str]:
    """What is no finding of an attack: information, and what was left out."""
    if played.closest is not None:
        near = played.closest
        yield (
            f"closest synthetic record, as information: {near.used:.2f} columns from rows used, "
            f"{near.aside:.2f} from rows set aside (area under the curve {near.area:.3f})"
        )
    for table, one in anonymity.items():
        yield (
            f"{table}: {one.k}-anonymous over {', '.join(one.quasi_identifiers)}; {one.below:,} "
            f"of {one.rows:,} rows share them with fewer than {one.wanted - 1} others"
        )
        for d in one.diversity:
            yield f"{table}: {d.column}: {d.l}-diverse, {d.t:.2f}-close"
    yield from played.left_out
