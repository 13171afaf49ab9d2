"""What a report is written from: a run's findings, and the facts of the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from twinweave.analysis.audit.report import AuditReport
from twinweave.analysis.examine import SyntheticFindings
from twinweave.analysis.lift.results import LiftReport
from twinweave.analysis.overlap import Overlap
from twinweave.generators.earning import TrainingShare
from twinweave.workload.choice import Choice
from twinweave.workload.selection import FeatureScore


@dataclass(frozen=True, kw_only=True)
class PhaseTraffic:
    """Messages of one phase, all its steps, rounds and repeats together.

    bytes_sent, bytes_received: by the server, of the messages' contents. seconds: that it waited.
    """

    phase: str
    requests: int
    answers: int
    bytes_sent: int
    bytes_received: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a report says about its run beside the findings.

    sizes: rows of each party's table after cleaning. delta, epsilon: the budget asked for.
    ledger: `Ledger.report(delta)`. guards: each party's guard, "on", "off", or
    "this run" where it is on and forgets with the run.
    tables, cells: how many were measured. files: what each is, and its path.
    too_large: names of the tables left out for having more than max_cells cells.
    scope: which tables were asked for, `priority` (the analyses' alone) or `all`.
    training: what the generator's private training got, and why; None without a generator.
    synthetic: {name of a synthetic table: path of its Parquet file}.
    set_aside: part of the users whom no release is about.
    clips: {value column: where its amounts are clipped}, where that is below its upper bound.
    truth: {outcome: true absolute lift} where the data is simulated or known;
    truth_by: {conversion: {column: {level: true absolute lift}}}.
    traffic: of every phase in which parties were asked. versions: {package: its release}.
    """

    run: str
    data: str
    sizes: Mapping[str, int]
    epsilon: float
    delta: float
    ledger: Mapping[str, Any] = field(repr=False)
    guards: Mapping[str, str]
    tables: int
    cells: int
    files: Mapping[str, str]
    too_large: tuple[str, ...] = ()
    max_cells: int | None = None
    scope: Literal["priority", "all"] = "all"
    training: TrainingShare | None = None
    synthetic: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    set_aside: float = 0.0
    clips: Mapping[str, float] = field(default_factory=dict)
    truth: Mapping[str, float] = field(default_factory=dict)
    truth_by: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    traffic: tuple[PhaseTraffic, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that the terminal summary and report.json are written from; the page is drawn from
    report.json.

    overlaps: what the noisy tables tell of users in common. lift: None for data without an
    experiment. choice, scores: None and empty for a run without
    feature selection. synthetic: None for a run without a generator; audit: and where no party
    was asked to look at its rows.
    """

    facts: RunFacts
    overlaps: tuple[Overlap, ...] = ()
    lift: LiftReport | None = None
    scores: tuple[FeatureScore, ...] = ()
    choice: Choice | None = None
    synthetic: SyntheticFindings | None = None
    audit: AuditReport | None = None
