"""The files of a small finished run, as a page is drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.analysis.lift.lift_world import (
    CONF,
    SCHEMA,
    WORKLOAD,
    a,
    b,
    counted,
    cross,
    noisy,
    people,
    union,
)
from tests.report.facts import FACTS
from tests.report.selected import CHOICE, SCORES
from twinweave import rundir
from twinweave.analysis.anonymity import Anonymity
from twinweave.analysis.audit.report import AuditReport
from twinweave.analysis.audit.results import AttackFinding, Gate, LowerBound, Reason
from twinweave.analysis.examine import examine
from twinweave.analysis.fairness.trade import Judged, Trade
from twinweave.analysis.finding import Finding
from twinweave.analysis.lift.conclusions import conclude
from twinweave.analysis.overlap import overlaps_found
from twinweave.privacy.events import (
    DiscreteGaussian,
    Event,
    Mechanism,
    PoissonSgd,
    SharedBinomial,
    Stage,
)
from twinweave.privacy.ledger import event_to_record
from twinweave.report.contents import Contents, PhaseTraffic
from twinweave.report.page.material import Material
from twinweave.report.page.page import run_page
from twinweave.report.record import report_record
from twinweave.rundir import Run
from twinweave.synthesis.decode import decode_rows
from twinweave.synthesis.draw import Source
from twinweave.synthesis.fairness.curve import TradePoint
from twinweave.synthesis.fairness.enforce import Enforced, GroupDifference
from twinweave.synthesis.population import population
from twinweave.synthesis.synthesise import SynthesisResult
from twinweave.workload.analyses import FairnessConf
from twinweave.workload.decisions import DecisionConf, MoneyConf
from twinweave.workload.measurement import Measurement

CONFIGURATION: dict[str, Any] = {
    "seed": 0,
    "output": "/secret/place",
    "privacy": {"epsilon": 1.0, "guard": {"mode": "on", "path": "/secret/guard"}},
    "data": {
        "name": "toys",
        "root": "/secret",
        "parties": [
            {"name": "a", "source": {"kind": "sql", "url": "postgresql://me:secret@place"}}
        ],
    },
}

MECHANISMS: tuple[Mechanism, ...] = (
    DiscreteGaussian(noise_multiplier=41.75),
    SharedBinomial(coins=27_334),
    PoissonSgd(noise_multiplier=61.2, sampling_rate=0.16, steps=500),
)


def measured(seed: int = 2) -> list[Measurement]:
    rng = np.random.default_rng(seed)
    users = people(3000, rng)
    singles = (cross(a("age")), cross(a("region")), cross(b("bought")))
    queries = dict.fromkeys((*WORKLOAD, cross(a("age"), b("bought")), *singles))
    return [noisy(q, counted(users, q), 3.0, rng) for q in queries]


def contents(tables: Sequence[Measurement]) -> Contents:
    """Everything that a run of two parties can have."""
    rows = union(people(3000, np.random.default_rng(2)))
    sizes = dict(zip(SCHEMA.parties, rows.presence.sum(axis=0).tolist(), strict=True))
    conf = replace(
        CONF,
        ratio=8 / 7,
        money=MoneyConf(cost=900.0, value=8.0, currency="EUR"),
        decisions=(DecisionConf(metric="lift", at=0.09, outcome="bought"),),
    )
    lift = conclude(SCHEMA, tables, conf, epsilon=1.0, delta=1e-5)
    result = SynthesisResult(
        rows=rows,
        population=population(SCHEMA.parties, sizes, tables),
        effective=2800.0,
        misfit={},
        trace=(),
        source=Source(),
    )
    synthetic = examine(
        result,
        decode_rows(SCHEMA, rows, 0),
        tables,
        generator="tvae",
        seed=0,
        k=10,
        lift=lift,
        lift_conf=conf,
        fairness_conf=FairnessConf(sensitive=("region",), label="bought", positive="1"),
    )
    waited = PhaseTraffic(
        phase="query.share",
        requests=2,
        answers=2,
        bytes_sent=4_200_000,
        bytes_received=900,
        seconds=2.5,
    )
    return Contents(
        facts=replace(FACTS, sizes=sizes, traffic=(waited,), versions={"python": "3.12.1"}),
        overlaps=overlaps_found(SCHEMA.parties, sizes, tables),
        lift=lift,
        scores=SCORES,
        choice=CHOICE,
        synthetic=synthetic,
        audit=audited(Gate(state="open", unseen=("b did not answer.",))),
    )


def audited(gate: Gate) -> AuditReport:
    attack = AttackFinding(
        name="copies", success=0.31, control=0.05, interval=(0.15, 0.37), threshold=0.1
    )
    bound = LowerBound(path="training: tvae", claimed=1.0, bound=0.4, ceiling=0.9, confidence=0.99)
    described = Anonymity(quasi_identifiers=("region",), rows=90, classes=3, k=2, wanted=5, below=2)
    return AuditReport(
        mode="quick",
        holdout=0.1,
        threshold=0.1,
        gate=gate,
        attacks={"a": (attack,)},
        looked=("a",),
        silent=("b",),
        words={},
        bounds=(bound,),
        anonymity={"joint": described},
    )


def withheld(found: Contents) -> Contents:
    """The same run, whose tables were not handed out."""
    why = Reason(source="a", what="copies: 26 points better", remedy="Run with a smaller epsilon")
    return replace(found, audit=audited(Gate(state="withheld", reasons=(why,))))


def made_fair(found: Contents) -> Contents:
    """The same run with labels that were made fair, as far as could be."""

    def judged(parity: float) -> tuple[Judged]:
        told = Finding(value=parity, interval=(parity / 2, parity * 2))
        return (Judged(columns=("region",), parity=told, odds=None, opportunity=told),)

    difference = GroupDifference(
        columns=("region",),
        before=0.21,
        aimed=0.0,
        reached=0.13,
        missed=0.02,
        pooled=("w",),
        left_out=(),
    )
    enforced = Enforced(
        constraint="demographic_parity",
        way="rake",
        strength=1.0,
        label="bought",
        positive="1",
        admissible=(),
        tolerance=0.01,
        changed=0.043,
        differences=(difference,),
        met=False,
        curve=tuple(
            TradePoint(strength=s, accuracy=0.8 - s / 50, labels=0, parity=0.2 - s / 10, odds=0.1)
            for s in (0.0, 0.5, 1.0)
        ),
    )
    cost = Trade(
        rows=900,
        accuracy_before=0.81,
        accuracy_after=0.79,
        before=judged(0.2),
        after=judged(0.02),
    )
    assert found.synthetic is not None
    synthetic = replace(found.synthetic, enforced=enforced, trade=cost)
    return replace(found, synthetic=synthetic)


def pooled(found: Contents) -> Contents:
    """Five offices that hold the same columns of different people: nothing is matched."""
    offices = {f"office_{i}": 450 + i for i in range(1, 6)}
    ledger = {**found.facts.ledger, "epsilon_by_party": dict.fromkeys(offices, 0.99)}
    guards = dict.fromkeys(offices, "on")
    facts = replace(found.facts, sizes=offices, ledger=ledger, guards=guards)
    return replace(found, facts=facts, overlaps=())


def releases() -> list[dict[str, Any]]:
    """One by every kind of mechanism, as ledger.json has them."""
    return [
        event_to_record(
            Event(label=f"table {i}", stage=Stage.MEASUREMENT, parties=("a", "b"), mechanism=m)
        )
        for i, m in enumerate(MECHANISMS)
    ]


def drawn(run: Run) -> str:
    return run_page(Material.of(run))


def written(folder: Path, found: Contents, tables: Sequence[Measurement]) -> Run:
    """The run's directory with what a page reads."""
    ledger = {"events": releases(), "accountant": "PLD"}
    rundir.write_json(folder / rundir.REPORT, report_record(found))
    rundir.write_json(folder / rundir.LEDGER, ledger)
    rundir.write_json(folder / rundir.CONFIGURATION, CONFIGURATION)
    rundir.write_json(folder / rundir.SPEC, {"schema": SCHEMA})
    rundir.write_measurements(folder / rundir.MEASUREMENTS, SCHEMA, tables)
    return Run(folder)
