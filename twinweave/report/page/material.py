"""What a page is drawn from: a run's own files. No row of a party is among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinweave.analysis.audit.report import AuditReport
from twinweave.analysis.examine import SyntheticFindings
from twinweave.analysis.fairness.audit import LEVEL
from twinweave.analysis.fairness.measured import measured_parity
from twinweave.analysis.finding import Finding
from twinweave.analysis.lift.results import LiftReport
from twinweave.analysis.overlap import Overlap
from twinweave.errors import ConfigError, SourceError
from twinweave.parsing import parse
from twinweave.report.contents import Contents
from twinweave.report.record import VERSION, report_record
from twinweave.rundir import Run
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import FairnessConf
from twinweave.workload.measurement import Measurement

_WRITTEN = {"traffic", "versions", "set_aside"}
"""Fields without which no section may be asked."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """report, ledger, configuration: as the run's files have them. The others: what the report
    has of them, as the types that were written; None or empty where it has none.

    pairs: the two columns, each with its party, of every table of two columns, by table's name.
    parity: where there are no synthetic rows, how far groups differ in the measured tables, by
    sensitive column.
    """

    report: Mapping[str, Any] = field(repr=False)
    ledger: Mapping[str, Any] = field(repr=False)
    configuration: Mapping[str, Any] = field(repr=False)
    lift: LiftReport | None
    overlaps: tuple[Overlap, ...]
    synthetic: SyntheticFindings | None
    audit: AuditReport | None
    pairs: Mapping[str, tuple[str, str]] = field(repr=False)
    parity: Mapping[str, Finding] = field(default_factory=dict)

    @classmethod
    def made(
        cls,
        contents: Contents,
        *,
        ledger: Mapping[str, Any],
        configuration: Mapping[str, Any],
        schema: JointSchema,
        measurements: Sequence[Measurement],
    ) -> Material:
        """Of a run that has just found all this. ledger, configuration: as its files have them,
        plain JSON."""
        return cls(
            report=report_record(contents),
            ledger=ledger,
            configuration=configuration,
            lift=contents.lift,
            overlaps=contents.overlaps,
            synthetic=contents.synthetic,
            audit=contents.audit,
            pairs=_pairs(schema, measurements) if contents.synthetic else {},
            parity={} if contents.synthetic else _parity(configuration, schema, measurements),
        )

    @classmethod
    def of(cls, run: Run) -> Material:
        """The same from the run's files. Raises SourceError where one is missing, or of another
        release."""
        report = run.report
        try:
            found = _findings(report)
            tables = run.schema, run.measurements
            pairs = _pairs(*tables) if found["synthetic"] else {}
            parity = {} if found["synthetic"] else _parity(run.configuration, *tables)
        except (ConfigError, KeyError):
            raise SourceError(
                f"{run.path}: its report.json is of another release. Use the one that wrote it."
            ) from None
        return cls(
            report=report,
            ledger=run.ledger,
            configuration=run.configuration,
            pairs=pairs,
            parity=parity,
            **found,
        )

    @property
    def data(self) -> str:
        return str(self.report["data"])


def _findings(report: Mapping[str, Any]) -> dict[str, Any]:
    """What report.json has found, by field. Raises ConfigError or KeyError for another form."""
    if report["version"] != VERSION or not set(report) >= _WRITTEN:
        raise KeyError("version")
    lift, synthetic, audit = report["lift"], report["synthetic"], report["audit"]
    return {
        "lift": None if lift is None else parse(LiftReport, lift),
        "overlaps": tuple(parse(Overlap, one) for one in report["in_common"]),
        "synthetic": None if synthetic is None else parse(SyntheticFindings, synthetic),
        "audit": None if audit is None else parse(AuditReport, audit),
    }


def _parity(
    configuration: Mapping[str, Any], schema: JointSchema, measurements: Sequence[Measurement]
) -> dict[str, Finding]:
    """Of sensitive columns whose table with the label was measured, and has groups to compare."""
    asked = configuration["data"].get("fairness")
    if asked is None:
        return {}
    conf, k = parse(FairnessConf, asked), configuration["privacy"]["k"]
    found = {}
    for column in conf.sensitive:
        rng = np.random.default_rng(configuration["seed"])
        told = measured_parity(schema, (column,), conf, measurements, k, LEVEL, rng)
        if told is not None and told.finding is not None:
            found[column] = told.finding
    return found


def _pairs(schema: JointSchema, measurements: Sequence[Measurement]) -> dict[str, tuple[str, str]]:
    """Columns that several parties hold have the party's name with them."""
    found = {}
    for one in measurements:
        held = [(c, side.label) for side in one.query.sides for c in side.columns]
        if one.query.weight is None and len(held) == 2:
            (a, at_a), (b, at_b) = held
            several = {n for n in (a, b) if len(schema.holders(n)) > 1}
            first, second = (
                f"{c} · {at}" if c in several else c for c, at in ((a, at_a), (b, at_b))
            )
            found[one.query.name] = (first, second)
    return found
