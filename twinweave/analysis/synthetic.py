"""What there is to say of a run's synthetic data, found and written in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinweave.analysis.fairness.audit import FairnessReport, audit
from twinweave.analysis.fidelity.tables import FidelityReport, fidelity
from twinweave.analysis.lift import LiftReport
from twinweave.analysis.lift.synthetic import SyntheticLift, synthetic_lift
from twinweave.generators.union import UnionLayout
from twinweave.synthesis.decode import decode_rows, write_decoded
from twinweave.synthesis.synthesise import SynthesisResult
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import FairnessConf, LiftConf
from twinweave.workload.measurement import Measurement


@dataclass(frozen=True, kw_only=True)
class SyntheticFindings:
    """The synthetic data of a run, for report and summary.

    rows: of the union; present: of them at each party. effective: independent rows that the
    raked ones are worth. tables: {name: path of its Parquet file}.
    """

    generator: str
    rows: int
    present: Mapping[str, int]
    effective: float
    fidelity: FidelityReport
    lift: SyntheticLift | None
    fairness: FairnessReport | None
    tables: Mapping[str, str]


def examine(
    result: SynthesisResult,
    schema: JointSchema,
    measurements: Sequence[Measurement],
    folder: Path,
    *,
    generator: str,
    seed: int,
    k: int,
    lift: LiftReport | None = None,
    lift_conf: LiftConf | None = None,
    fairness_conf: FairnessConf | None = None,
    csv: bool = False,
) -> SyntheticFindings:
    """Write the tables into `folder`; compare them with the measurements; audit fairness.

    lift: the measured report; with `lift_conf`, the tables' own lift stands beside it.
    Deterministic under the seed. All of it is post-processing: no privacy cost.
    """
    rows = result.rows
    decoded = decode_rows(schema, rows, seed)
    written = write_decoded(folder, decoded, csv=csv)
    effective = min(result.effective, float(len(rows)))
    told = None
    if lift is not None and lift_conf is not None:
        told = synthetic_lift(schema, lift_conf, rows, decoded.joint, lift)
    fairness = None
    if fairness_conf is not None:
        fairness = audit(
            schema, fairness_conf, rows, measurements, k=k, seed=seed, effective=effective
        )
    users = float(result.population.users.sum())
    return SyntheticFindings(
        generator=generator,
        rows=len(rows),
        present={p: int(rows.presence[:, i].sum()) for i, p in enumerate(schema.parties)},
        effective=effective,
        fidelity=fidelity(UnionLayout.of(schema), rows, measurements, users),
        lift=told,
        fairness=fairness,
        tables={name: str(path) for name, path in written.items()},
    )
