"""The end of a run: synthetic rows, shown to the parties before anybody else, then the report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from strategies.exchange import Exchange
from strategies.measuring import Findings
from twinweave.config import RunConf
from twinweave.protocols.evaluation import server as evaluation

if TYPE_CHECKING:
    from strategies.weave import Stages

log = logging.getLogger("twinweave.run")


def hand_over(
    conf: RunConf,
    findings: Findings,
    stages: Stages,
    join: Callable[[int, int], Exchange],
    gone: Collection[str] = (),
) -> None:
    """Finish a run; where it audits its synthetic rows, the parties look at them first.

    join: finds the parties that are wanted, or at least so many. gone: parties that answer no
    more. Whoever does not answer is not waited for twice, and the report says so.
    """
    if conf.audits and findings.spec.audit is not None and stages.synthesise is not None:
        findings = replace(findings, synthetic=stages.synthesise(findings))
        findings = evaluate(conf, findings, stages, join, gone)
    stages.finish(findings)


def evaluate(
    conf: RunConf,
    findings: Findings,
    stages: Stages,
    join: Callable[[int, int], Exchange],
    gone: Collection[str],
) -> Findings:
    """The findings with what the parties say of the synthetic rows. Raises the party's own
    AppError, or ProtocolError for an answer that is none."""
    spec, result = findings.spec, findings.synthetic
    present = [p for p in spec.parties if p not in gone]
    if result is None or not present:
        return findings
    parties = join(len(present), 0)
    asked = [p for p in present if p in parties.nodes]
    ledger = findings.ledger.charge(*evaluation.released(spec, asked))
    stages.spent(ledger)
    question = evaluation.asked(spec, result.rows, conf.seed, asked)
    replies = parties.ask(question, least=0) if asked else {}
    evaluation.check(spec, replies)
    if silent := sorted(set(spec.parties) - set(replies)):
        log.warning("the synthetic tables were not looked at by %s", ", ".join(silent))
    return replace(findings, ledger=ledger, evaluated=replies)
