"""The end of a run: synthetic rows, shown to the parties before anybody else, then the report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from strategies.exchange import Exchange
from strategies.measuring import Findings
from twinweave.checkpoint import Checkpoint, Shown
from twinweave.config import RunConf
from twinweave.protocols.evaluation import server as evaluation

if TYPE_CHECKING:
    from strategies.weave import Stages

log = logging.getLogger("twinweave.run")
Join = Callable[[int, int], Exchange]


def hand_over(
    conf: RunConf,
    findings: Findings,
    stages: Stages,
    kept: Checkpoint,
    join: Join,
    gone: Collection[str] = (),
) -> None:
    """Finish a run; where it audits its synthetic rows, the parties look at them first.

    join: finds the parties that are wanted, or at least so many. gone: parties that answer no
    more. Who does not answer ends no run; the report says so.
    """
    if conf.audits and findings.spec.audit is not None and stages.synthesise is not None:
        findings = replace(findings, synthetic=stages.synthesise(findings))
        findings = evaluate(conf, findings, stages, kept, join, gone)
    else:
        findings = charged(findings, kept, ())
    stages.finish(findings)


def evaluate(
    conf: RunConf,
    findings: Findings,
    stages: Stages,
    kept: Checkpoint,
    join: Join,
    gone: Collection[str],
) -> Findings:
    """The findings with what the parties say of the synthetic rows. Raises the party's own
    AppError, or ProtocolError for an answer that is none."""
    spec, result = findings.spec, findings.synthetic
    present = [p for p in spec.parties if p not in gone]
    if result is None or not present:
        return charged(findings, kept, ())
    parties = join(len(present), 0)
    asked = [p for p in present if p in parties.nodes]
    findings = charged(findings, kept, asked)
    stages.spent(findings.ledger)
    log.info("auditing the synthetic rows")
    question = evaluation.asked(spec, result.rows, conf.seed, asked)
    replies = parties.ask(question, least=0) if asked else {}
    evaluation.check(spec, replies)
    if silent := sorted(set(spec.parties) - set(replies)):
        log.warning("the synthetic tables were not looked at by %s", ", ".join(silent))
    return replace(findings, evaluated=replies)


def charged(findings: Findings, kept: Checkpoint, asked: Collection[str]) -> Findings:
    """The findings with what the parties are asked to release now, or were before the run was cut
    short, in the ledger: whoever was asked once may have answered."""
    before = kept.last(Shown)
    parties = {*asked, *(before.parties if before else ())}
    if asked:
        kept.keep(Shown(parties=dict.fromkeys(sorted(parties), True)))
    ledger = findings.ledger.charge(*evaluation.released(findings.spec, parties))
    return replace(findings, ledger=ledger)
