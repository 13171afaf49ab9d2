"""What a run leaves behind: one directory with everything that is public about it.

`server.lifecycle` writes the configuration, the status and the log; the others are written
here once the parties have answered, in this order:

1. spec.json, ledger.json, measurements.parquet, first_pass.parquet where others were chosen in
   view of its tables, and report.json: what was paid for is on disk, and told, before any
   training;
2. generator.npy where a generator was trained, mixture.npz, which more rows are drawn from,
   and the synthetic tables in synthetic/, with a README of what they are no evidence for; none
   of it where the audit's gate withholds the tables; fine-tuned/, the checkpoint of a language
   model that was trained without noise;
3. ledger.json and report.json again, with the training in them.

report.html is drawn from these files whenever report.json is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from server.generator import synthetic_rows, write_fine_tuned
from strategies.measuring import Findings
from twinweave import rundir
from twinweave.analysis.anonymity import of_tables
from twinweave.analysis.audit.report import AuditReport, audit_report, unaudited
from twinweave.analysis.examine import SyntheticFindings, examine
from twinweave.analysis.lift.conclusions import conclude
from twinweave.analysis.lift.results import LiftReport
from twinweave.analysis.overlap import overlaps_found
from twinweave.config import RunConf
from twinweave.planning import too_large
from twinweave.privacy.ledger import Ledger
from twinweave.report.contents import Contents, PhaseTraffic, RunFacts
from twinweave.report.page.material import Material
from twinweave.report.page.page import run_page
from twinweave.report.readme import synthetic_readme
from twinweave.report.terminal.brief import brief
from twinweave.report.terminal.summary import summary
from twinweave.report.versions import versions
from twinweave.synthesis.decode import decode_rows
from twinweave.workload.analyses import LiftConf
from twinweave.workload.audit import EXACT_WORDS

log = logging.getLogger("twinweave.run")


def write_measured(conf: RunConf, findings: Findings) -> None:
    """What was paid for, into conf.output."""
    out, schema = Path(conf.output), findings.spec.schema
    rundir.write_json(out / rundir.SPEC, findings.spec)
    write_ledger(conf, findings.ledger)
    rundir.write_measurements(out / rundir.MEASUREMENTS, schema, findings.measurements)
    if findings.first is not None:
        found = findings.first.measurements
        rundir.write_measurements(out / rundir.FIRST_PASS, schema, found)


def write_ledger(conf: RunConf, ledger: Ledger) -> None:
    """What was released, or is about to be, and what it costs."""
    rundir.write_json(Path(conf.output) / rundir.LEDGER, _ledger_report(conf, ledger))


def _ledger_report(conf: RunConf, ledger: Ledger) -> dict[str, Any]:
    """With a note of what no event can stand for: a run that asks for exact words may have had
    them, however it ends."""
    report = ledger.report(conf.privacy.delta)
    accepted = rundir.Run(Path(conf.output)).spec.audit
    if accepted is not None and accepted.verdict:
        report["notes"].append(EXACT_WORDS)
    return report


def write_report(
    conf: RunConf,
    findings: Findings,
    seconds: Callable[[], float],
    traffic: Callable[[], tuple[PhaseTraffic, ...]],
    *,
    synthesis: bool,
    told: bool,
) -> str:
    """Analyse, write into conf.output, and return the summary for the terminal.

    seconds: since the run began. traffic: until now. synthesis: make the synthetic tables first,
    where the run has a generator. told: a summary in full leaves out what was measured, for it
    has been printed.
    """
    out = Path(conf.output)
    ledger = _ledger_report(conf, findings.ledger)
    data, first = conf.data, findings.first
    selected = first.selected if first else None
    lift = _lift(conf, findings)
    synthetic, audited, written = (
        _synthetic(conf, findings, lift) if synthesis else (None, None, {})
    )
    checkpoint = write_fine_tuned(conf, findings) if synthesis else None
    facts = _facts(conf, findings, ledger, written, seconds())
    if checkpoint is not None:
        facts = replace(facts, files={**facts.files, "checkpoint": str(checkpoint)})
    contents = Contents(
        facts=replace(facts, traffic=traffic()),
        overlaps=overlaps_found(data.schema.parties, findings.rows, findings.measurements),
        lift=lift,
        scores=selected.scores if selected else (),
        choice=selected.choice if selected else None,
        synthetic=synthetic,
        audit=audited,
    )
    material = Material.made(
        contents,
        ledger=ledger,
        configuration=rundir.Run(out).configuration,
        schema=findings.spec.schema,
        measurements=findings.measurements,
    )
    rundir.write_json(out / rundir.REPORT, material.report)
    _draw(out / rundir.PAGE, material)
    return summary(contents, told=told) if conf.report.verbose else brief(material)


def _draw(path: Path, material: Material) -> None:
    """The page. A run that has paid for its findings does not end for want of a picture of them."""
    try:
        page = run_page(material)
    except Exception as error:
        log.warning(
            "%s could not be drawn (%s): please report it. All of it is in %s.",
            *(path.name, type(error).__name__, rundir.REPORT),
        )
        return
    rundir.write_text(path, page)


def _lift(conf: RunConf, findings: Findings) -> LiftReport | None:
    lift = _lift_conf(conf, findings)
    if lift is None:
        return None
    return conclude(
        findings.spec.schema,
        findings.measurements,
        lift,
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
    )


def _lift_conf(conf: RunConf, findings: Findings) -> LiftConf | None:
    """The experiment of those who are not set aside."""
    used = 1 - findings.spec.holdout
    return None if conf.data.lift is None else conf.data.lift.of_part(used)


def _synthetic(
    conf: RunConf, findings: Findings, lift: LiftReport | None
) -> tuple[SyntheticFindings | None, AuditReport | None, dict[str, Path]]:
    """What there is to say of the synthetic tables and of their audit, and where they lie:
    {name: file}; {}, and nothing written that they could be drawn from, where they are withheld.
    """
    if conf.generator is None:
        return None, None, {}
    out = Path(conf.output)
    result = findings.synthetic or synthetic_rows(conf, findings)
    decoded = decode_rows(findings.spec.schema, result.rows, conf.seed)
    found = examine(
        result,
        decoded,
        findings.measurements,
        generator=conf.generator.name,
        seed=conf.seed,
        k=conf.privacy.k,
        lift=lift,
        lift_conf=_lift_conf(conf, findings),
        fairness_conf=conf.audited_fairness,
    )
    audited = _audit(conf, findings)
    if audited is not None and audited.gate.withheld:
        return found, audited, {}
    if findings.weights is not None:
        rundir.write_array(out / rundir.WEIGHTS, findings.weights)
    rundir.write_source(out, result.source)
    csv = conf.synthesis.csv
    written = rundir.write_synthetic(out / rundir.SYNTHETIC, decoded, csv=csv)
    if result.original is not None and conf.fairness.keep_original:
        as_measured = decode_rows(findings.spec.schema, result.original, conf.seed)
        rundir.write_synthetic(out / rundir.SYNTHETIC / rundir.ORIGINAL, as_measured, csv=csv)
    rundir.write_text(out / rundir.SYNTHETIC / "README.md", synthetic_readme(found))
    return found, audited, written


def _audit(conf: RunConf, findings: Findings) -> AuditReport | None:
    """What is known of the synthetic rows' audit; None where no party was asked, unless the
    generator was trained without noise: then that alone withholds them."""
    plan = findings.spec.audit
    if plan is None or findings.synthetic is None:
        return unaudited() if findings.spec.unsafe else None
    from twinweave.analysis.canaries.run import lower_bounds

    spec = findings.spec
    rows = findings.synthetic.rows
    bounds = lower_bounds(conf, spec, findings.rows, plan.mode)
    return audit_report(
        plan,
        conf.audit.gate,
        spec.parties,
        findings.evaluated,
        bounds=bounds,
        anonymity=of_tables(spec.schema, rows, plan.quasi_identifiers, plan.k),
        unsafe=spec.unsafe,
    )


def _facts(
    conf: RunConf,
    findings: Findings,
    ledger: Mapping[str, Any],
    written: Mapping[str, Path],
    seconds: float,
) -> RunFacts:
    out, first = Path(conf.output), findings.first
    chosen = first.clips if first else {}
    truth = conf.data.true_lift(chosen)
    return RunFacts(
        run=findings.spec.run[:8],
        data=conf.data.name,
        sizes=findings.rows,
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        ledger=ledger,
        set_aside=findings.spec.holdout,
        guards=_guards(conf, findings),
        too_large=too_large(conf, first),
        max_cells=conf.workload.max_cells,
        scope="priority" if conf.settled_workload.scope == "priority" else "all",
        tables=len(findings.measurements),
        cells=sum(m.values.size for m in findings.measurements),
        files={
            "page": str(out / rundir.PAGE),
            "report": str(out / rundir.REPORT),
            "ledger": str(out / rundir.LEDGER),
            "measurements": str(out / rundir.MEASUREMENTS),
        },
        training=conf.training,
        synthetic={name: str(path) for name, path in written.items()},
        seconds=seconds,
        clips=conf.data.clips(chosen),
        truth=truth.outcomes if truth else {},
        truth_by=truth.breakdowns if truth else {},
        versions=versions(),
    )


def _guards(conf: RunConf, findings: Findings) -> dict[str, str]:
    """Each party's guard as it stated it; "this run" where its file ends with the run's directory.

    So it is in a simulation that names no file. A deployed party's file is its own.
    """
    ends = conf.federation.mode == "simulation" and conf.privacy.guard.path is None
    stated = findings.roster.guards.items()
    return {party: "this run" if ends and state == "on" else state for party, state in stated}
