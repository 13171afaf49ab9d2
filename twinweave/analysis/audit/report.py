"""What the server knows of a run's audit, for report and summary: public by the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from twinweave.analysis.anonymity import Anonymity
from twinweave.analysis.audit.gate import decide, without_noise
from twinweave.analysis.audit.rates import finding_of_hits
from twinweave.analysis.audit.results import AttackFinding, Gate, LowerBound
from twinweave.privacy.noise import OwnGaussian
from twinweave.protocols.evaluation.messages import EvaluateReply
from twinweave.protocols.evaluation.party import WITHHELD
from twinweave.workload.audit import AuditPlan


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """attacks: by party, of noisy counts; empty where the evaluation stage has no share.

    looked, silent: parties that looked at the synthetic rows, and that did not answer. words:
    exact ones, by party, where they were asked for. bounds: what canaries prove. anonymity: by
    synthetic table, over the quasi-identifiers that it has.
    """

    mode: str
    holdout: float
    threshold: float
    gate: Gate
    attacks: Mapping[str, tuple[AttackFinding, ...]]
    looked: tuple[str, ...]
    silent: tuple[str, ...]
    words: Mapping[str, str]
    bounds: tuple[LowerBound, ...] = ()
    anonymity: Mapping[str, Anonymity] = field(default_factory=dict)


def audit_report(
    plan: AuditPlan,
    gate: str,
    parties: Sequence[str],
    replies: Mapping[str, EvaluateReply],
    bounds: Sequence[LowerBound] = (),
    anonymity: Mapping[str, Anonymity] | None = None,
    *,
    unsafe: bool = False,
) -> AuditReport:
    """From the parties' answers to what is known, and to whether the tables are handed out.

    gate: of AuditConf. unsafe: the generator was trained without noise, and no gate opens.
    """
    attacks = {party: _attacks(plan, reply) for party, reply in replies.items()}
    words = {party: reply.verdict for party, reply in replies.items() if reply.verdict}
    silent = tuple(p for p in parties if p not in replies)
    unseen = [f"{party} did not answer." for party in silent]
    if not plan.counted and not words:
        unseen.append(
            "What attacks found stays with the parties (privacy.shares.evaluation is 0); each has "
            "it in its own audit.json."
        )
    unseen += [
        f"{party}: {name}: too few rows beside the noise."
        for party, own in attacks.items()
        for name in plan.counted
        if name not in {found.name for found in own}
    ]
    refused = [party for party, word in words.items() if word == WITHHELD]
    decided = (
        Gate(state="off")
        if gate == "off"
        else decide(attacks, bounds, refused=refused, unseen=unseen)
    )
    if unsafe:
        decided = without_noise(decided)
    return AuditReport(
        mode=plan.mode,
        holdout=plan.holdout,
        threshold=plan.threshold,
        gate=decided,
        attacks={party: own for party, own in attacks.items() if own},
        looked=tuple(p for p in parties if p in replies),
        silent=silent,
        words=words,
        bounds=tuple(bounds),
        anonymity=anonymity or {},
    )


NOBODY_ASKED = "Nobody was asked to look at the synthetic rows (audit=off)."
"""Of an audit whose mode is off."""


def unaudited() -> AuditReport:
    """Of rows that were trained without noise, and that nobody was asked to look at."""
    return AuditReport(
        mode="off",
        holdout=0.0,
        threshold=0.0,
        gate=without_noise(),
        attacks={},
        looked=(),
        silent=(),
        words={},
    )


def _attacks(plan: AuditPlan, reply: EvaluateReply) -> tuple[AttackFinding, ...]:
    if plan.noise_multiplier is None:
        return ()
    variance = OwnGaussian(noise_multiplier=plan.noise_multiplier).variance(1)
    found = (
        finding_of_hits(name, reply.hits[name], threshold=plan.threshold, variance=variance)
        for name in plan.counted
    )
    return tuple(f for f in found if f is not None)
