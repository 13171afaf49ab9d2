"""The lift report from noisy tables. Post-processing: costs no privacy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from scipy.stats import chi2

from twinweave.analysis.lift.breakdown import break_down, compare_rates, shown
from twinweave.analysis.lift.estimate import CONTROL, TEST, Counts, estimate_counts
from twinweave.analysis.lift.match import (
    SUSPICIOUS,
    among_matched,
    match_notes,
    match_rates,
)
from twinweave.analysis.lift.refusal import refused
from twinweave.analysis.lift.results import ConversionLift, LiftReport, SampleRatio, ValueLift
from twinweave.analysis.lift.values import holder, value_lift
from twinweave.errors import ConfigError
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf, check_lift
from twinweave.workload.measurement import Measurement


def analyse(schema: JointSchema, measurements: Sequence[Measurement], conf: LiftConf) -> LiftReport:
    """Analyse an experiment from its noisy tables alone.

    Needs one count table of membership by each conversion; takes whatever else speaks of the
    arms: sizes at the membership's party, finer tables, value sums. Deterministic.
    Raises ConfigError when `conf` does not fit the schema, or a needed table is missing.
    """
    check_lift(schema, conf)
    counts = estimate_counts(schema, conf, measurements)
    missing = [c for c in conf.conversions if counts is None or c not in counts.conversions]
    if missing or counts is None:
        raise ConfigError(
            "workload",
            f"no table counts {conf.membership!r} by {missing}",
            "Ask for it among the priority queries.",
        )
    notes: list[str] = []
    by_column = _breakdown_counts(schema, conf, measurements, notes)
    values = _values(schema, conf, measurements, counts, notes)
    conversions = tuple(
        _conversion(schema, conf, counts, by_column, name) for name in conf.conversions
    )
    matches = match_rates(schema, conf, counts)
    arms: tuple[tuple[Literal["test", "control"], int], ...] = (
        ("test", TEST),
        ("control", CONTROL),
    )
    hidden = tuple(name for name, arm in arms if not shown(*counts.size(arm), conf.k))
    notes += match_notes(conf, matches)
    report = LiftReport(
        membership=conf.membership,
        test=conf.test,
        control=conf.control,
        level=conf.level,
        k=conf.k,
        conversions=conversions,
        values=values,
        match_rates=matches,
        sample_ratio=sample_ratio(counts, conf.ratio) if len(hidden) < len(arms) else None,
        hidden=hidden,
        notes=tuple(notes),
    )
    outcomes = (*conf.conversions, *conf.values)
    return refused(report, {name: holder(schema, conf, name) for name in outcomes})


def sample_ratio(counts: Counts, declared: float | None) -> SampleRatio | None:
    """Chi-square test of the arms' sizes against the expected ratio, noise included.

    None without one, or with an arm that noise has emptied.
    """
    (n1, v1), (n0, v0) = counts.size(TEST), counts.size(CONTROL)
    if declared is None or n1 <= 0 or n0 <= 0:
        return None
    share = declared / (1 + declared)
    excess = (1 - share) * n1 - share * n0
    variance = (n1 + n0) * share * (1 - share) + (1 - share) ** 2 * v1 + share**2 * v0
    statistic = excess**2 / variance
    p = float(chi2.sf(statistic, 1))
    return SampleRatio(
        declared=declared, observed=n1 / n0, chi2=statistic, p_value=p, suspicious=p < SUSPICIOUS
    )


def _conversion(
    schema: JointSchema, conf: LiftConf, counts: Counts, by_column: dict[str, Counts], name: str
) -> ConversionLift:
    if not all(shown(*counts.size(arm), conf.k) for arm in (TEST, CONTROL)):
        return ConversionLift(conversion=name, overall=None, breakdowns=())
    breakdowns = tuple(
        break_down(conf, schema.column(column), found, name)
        for column, found in by_column.items()
        if name in found.conversions
    )
    return ConversionLift(
        conversion=name,
        overall=compare_rates(counts, name, conf.level),
        breakdowns=breakdowns,
        matched=among_matched(conf, counts, name, holder(schema, conf, name)),
    )


def _breakdown_counts(
    schema: JointSchema, conf: LiftConf, measurements: Sequence[Measurement], notes: list[str]
) -> dict[str, Counts]:
    by_column: dict[str, Counts] = {}
    for column in conf.breakdowns:
        found = estimate_counts(schema, conf, measurements, by=column)
        if found is not None:
            by_column[column] = found
        for name in conf.conversions:
            if found is None or name not in found.conversions:
                notes.append(f"{name} is not broken down by {column}: no table was measured.")
    return by_column


def _values(
    schema: JointSchema,
    conf: LiftConf,
    measurements: Sequence[Measurement],
    counts: Counts,
    notes: list[str],
) -> tuple[ValueLift, ...]:
    found = []
    for column in conf.values:
        lift = value_lift(schema, conf, measurements, counts, column)
        if lift is None:
            notes.append(
                f"{column} is not compared: no table sums it by {conf.membership}, or tells how "
                "many of an arm's users its party holds (its bounds do not begin at 0)."
            )
            continue
        if lift.variance == "bounded":
            notes.append(
                f"The spread of {column} drowned in noise or was not measured; its interval "
                "uses the largest spread its bounds allow, so it is wider than need be."
            )
        if lift.at_bound == "maybe":
            notes.append(
                f"Most amounts of {column} seem to lie at the upper bound; the noise leaves it "
                "open. Check the unit (cents for euros?) and `bounds`."
            )
        found.append(lift)
    return tuple(found)
