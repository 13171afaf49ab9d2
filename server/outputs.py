"""What a run leaves behind: one directory with everything that is public about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from strategies.weave import Findings
from twinweave import rundir
from twinweave.analysis.lift import LiftReport, analyse
from twinweave.analysis.synthetic import SyntheticFindings, examine
from twinweave.config import RunConf
from twinweave.report.json import RunFacts, build_report
from twinweave.report.terminal.summary import render
from twinweave.synthesis.generation import synthetic_rows
from twinweave.tables.campaign import TrueLift, true_lift


def write_all(conf: RunConf, findings: Findings, seconds: Callable[[], float]) -> str:
    """Analyse, write every file into conf.output, and return the summary for the terminal.

    seconds: since the run began. What the parties paid for is on disk before synthesis starts.
    """
    out = Path(conf.output)
    schema = findings.spec.schema
    rundir.write_json(out / rundir.SPEC, findings.spec)
    ledger = findings.ledger.report(conf.privacy.delta)
    rundir.write_json(out / rundir.LEDGER, ledger)
    rundir.write_measurements(out / rundir.MEASUREMENTS, schema, findings.measurements)
    if findings.selected is not None:
        coarse = findings.selected.measurements
        rundir.write_measurements(out / rundir.SELECTION, schema, coarse)
    lift = analyse(schema, findings.measurements, conf.data.lift) if conf.data.lift else None
    synthetic = synthesis(conf, findings, lift) if conf.generator else None
    facts = run_facts(conf, findings, ledger, seconds())
    rundir.write_json(out / rundir.REPORT, build_report(lift, facts, synthetic, findings.selected))
    return render(lift, facts, synthetic, findings.selected)


def synthesis(conf: RunConf, findings: Findings, lift: LiftReport | None) -> SyntheticFindings:
    """Synthetic tables into conf.output, and what there is to say of them."""
    assert conf.generator is not None
    if findings.weights is not None:
        np.save(Path(conf.output) / rundir.WEIGHTS, findings.weights)
    return examine(
        synthetic_rows(conf, findings),
        findings.spec.schema,
        findings.measurements,
        Path(conf.output) / rundir.SYNTHETIC,
        generator=conf.generator.name,
        seed=conf.seed,
        k=conf.privacy.k,
        lift=lift,
        lift_conf=conf.data.lift,
        fairness_conf=conf.data.fairness,
        csv=conf.synthesis.csv,
    )


def run_facts(
    conf: RunConf, findings: Findings, ledger: Mapping[str, Any], seconds: float
) -> RunFacts:
    """What report and summary say of the run beside its findings."""
    out = Path(conf.output)
    truth = known_truth(conf) if conf.data.lift else None
    return RunFacts(
        run=findings.spec.run[:8],
        data=conf.data.name,
        sizes=findings.rows,
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        ledger=ledger,
        guards=dict(findings.guards),
        tables=len(findings.measurements),
        cells=sum(m.values.size for m in findings.measurements),
        files={
            "report": str(out / rundir.REPORT),
            "ledger": str(out / rundir.LEDGER),
            "measurements": str(out / rundir.MEASUREMENTS),
        },
        seconds=seconds,
        truth={"converted": truth.absolute, "spend": truth.value} if truth else {},
        truth_by={"converted": {"region": truth.by_region}} if truth else {},
    )


def known_truth(conf: RunConf) -> TrueLift | None:
    """The true lift, where the data are the built-in simulation."""
    for party in conf.data.parties:
        if party.source is not None and party.source.campaign is not None:
            return true_lift(party.source.campaign)
    return None
