"""What there is to say of a run's synthetic data, beside its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from twinweave.analysis.fairness.audit import FairnessReport, audit
from twinweave.analysis.fairness.trade import Trade, trade
from twinweave.analysis.fidelity.evidence import Unmeasured, unmeasured
from twinweave.analysis.fidelity.margins import Margin, margins
from twinweave.analysis.fidelity.tables import FidelityReport, fidelity
from twinweave.analysis.lift.agreement import SyntheticLift, synthetic_lift
from twinweave.analysis.lift.results import LiftReport
from twinweave.generators.union import UnionLayout
from twinweave.synthesis.decode import SyntheticTables
from twinweave.synthesis.fairness.enforce import Enforced
from twinweave.synthesis.synthesise import SynthesisResult
from twinweave.workload.analyses import FairnessConf, LiftConf
from twinweave.workload.measurement import Measurement, of_levels


@dataclass(frozen=True, kw_only=True)
class SyntheticFindings:
    """The synthetic data of a run, for report and summary.

    rows: of the union; present: of them at each party. effective: candidates without weights
    that the weighted ones are worth: of the sampling, not of what an interval may count on.
    unmeasured: by outcome, columns whose relation with the lift comes from the generator.
    suppressed: rows that were left out, since too few had the same quasi-identifiers.
    margins: one-way tables, synthetic beside measured.
    enforced: what was made fair in the labels, with `original`, the audit of the rows as measured,
    and `trade`, what that costs; None where nothing was.
    """

    generator: str
    rows: int
    present: Mapping[str, int]
    effective: float
    fidelity: FidelityReport
    lift: SyntheticLift | None
    fairness: FairnessReport | None
    unmeasured: tuple[Unmeasured, ...] = ()
    suppressed: int = 0
    margins: tuple[Margin, ...] = field(default=(), repr=False)
    enforced: Enforced | None = None
    original: FairnessReport | None = None
    trade: Trade | None = None


def examine(
    result: SynthesisResult,
    decoded: SyntheticTables,
    measurements: Sequence[Measurement],
    *,
    generator: str,
    seed: int,
    k: int,
    lift: LiftReport | None = None,
    lift_conf: LiftConf | None = None,
    fairness_conf: FairnessConf | None = None,
) -> SyntheticFindings:
    """Compare the rows with the measurements; audit their fairness. decoded: the same rows.

    lift: the measured report; with `lift_conf`, the tables' own lift stands beside it.
    Coarse tables are left aside. Deterministic under the seed. All of it is post-processing: no
    privacy cost.
    """
    rows, schema, measurements = result.rows, decoded.schema, of_levels(measurements)
    effective = min(result.effective, float(len(rows)))
    told = None
    if lift is not None and lift_conf is not None:
        told = synthetic_lift(schema, lift_conf, rows, decoded.joint, lift)
    fairness, original, cost = None, None, None
    if fairness_conf is not None:
        fairness = audit(
            schema, fairness_conf, rows, measurements, k=k, seed=seed, effective=effective
        )
        if result.original is not None:
            was, worth = result.original, effective / max(len(rows), 1)
            original = audit(schema, fairness_conf, was, measurements, k=k, seed=seed)
            cost = trade(schema, fairness_conf, was, rows, k=k, seed=seed, worth=worth)
    users = float(result.population.users.sum())
    return SyntheticFindings(
        generator=generator,
        rows=len(rows),
        present={p: int(rows.presence[:, i].sum()) for i, p in enumerate(schema.parties)},
        effective=effective,
        fidelity=fidelity(UnionLayout.of(schema), rows, result.aimed or measurements, users),
        lift=told,
        fairness=fairness,
        unmeasured=() if lift_conf is None else unmeasured(schema, lift_conf, measurements),
        suppressed=result.suppressed,
        margins=margins(schema, rows, measurements, users),
        enforced=result.enforced,
        original=original,
        trade=cost,
    )
