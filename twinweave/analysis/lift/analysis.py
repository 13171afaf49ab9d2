"""The lift report from noisy tables. Post-processing: costs no privacy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twinweave.analysis.lift import headlines
from twinweave.analysis.lift.breakdown import RATES, by_conversion, shown
from twinweave.analysis.lift.clusters import clustering
from twinweave.analysis.lift.compare import compare
from twinweave.analysis.lift.estimate import Counts, estimate_counts
from twinweave.analysis.lift.intervals import Rate
from twinweave.analysis.lift.match import among_matched, match_notes, match_rates
from twinweave.analysis.lift.ratio import sample_ratio
from twinweave.analysis.lift.refusal import refused
from twinweave.analysis.lift.results import ConversionLift, LiftReport, ValueLift
from twinweave.analysis.lift.values import Value, holder
from twinweave.errors import ConfigError
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf, check_lift
from twinweave.workload.measurement import Measurement, of_levels


def analyse(schema: JointSchema, measurements: Sequence[Measurement], conf: LiftConf) -> LiftReport:
    """Analyse an experiment from its noisy tables alone.

    Needs one count table of membership by each conversion; takes whatever else speaks of the
    arms: sizes at the membership's party, finer tables, value sums, but no coarse ones.
    Deterministic.
    Raises ConfigError when `conf` does not fit the schema, or a needed table is missing.
    """
    check_lift(schema, conf)
    measurements = of_levels(measurements)
    counts = estimate_counts(schema, conf, measurements)
    missing = [c for c in conf.conversions if counts is None or not counts.tells(c)]
    if missing or counts is None:
        raise ConfigError(
            "workload",
            f"no table counts {conf.membership!r} by {missing}",
            "Ask for it among the priority queries.",
        )
    arms = [counts.arm_rates(a) for a in conf.all_arms if shown(*counts.size(a), conf.k)]
    effects, clusters = clustering(schema, conf, measurements, arms)
    counts = replace(counts, effects=effects)
    notes: list[str] = []
    conversions = [
        one for name in conf.conversions for one in _conversions(schema, conf, counts, name, notes)
    ]
    values = _values(schema, conf, measurements, counts, notes)
    matches = match_rates(schema, conf, counts)
    hidden = tuple(a for a in conf.all_arms if not shown(*counts.size(a), conf.k))
    notes += match_notes(conf, matches)
    told, amounts, correction = headlines.corrected(conf, conversions, values)
    report = LiftReport(
        membership=conf.membership,
        arms=conf.all_arms,
        level=conf.level,
        k=conf.k,
        conversions=told,
        values=amounts,
        match_rates=matches,
        sample_ratio=None
        if len(hidden) == len(conf.all_arms)
        else sample_ratio(counts, conf.ratios),
        clusters=clusters,
        hidden=hidden,
        correction=correction,
        notes=tuple(notes),
    )
    outcomes = (*conf.conversions, *conf.values)
    return refused(report, {name: holder(schema, conf, name) for name in outcomes})


def _conversions(
    schema: JointSchema, conf: LiftConf, counts: Counts, name: str, notes: list[str]
) -> list[ConversionLift]:
    told = _segmented(conf, counts, name, notes)
    home, rates = holder(schema, conf, name), _shown_rates(conf, counts, name)
    levels = headlines.levels(conf, rates)
    found = []
    for pair in conf.pairs:
        test, control = (rates[arm] for arm in pair)
        one = ConversionLift(conversion=name, arm=pair[0], against=pair[1], overall=None)
        if test is not None and control is not None:
            one = replace(
                one,
                overall=compare(test, control, level=levels[pair], possible=RATES),
                breakdowns=tuple(
                    by_conversion(counts, schema.column(by), name, pair) for by in told
                ),
                matched=among_matched(conf, counts, name, home, pair),
            )
        found.append(one)
    return found


def _shown_rates(conf: LiftConf, counts: Counts, name: str) -> dict[str, Rate | None]:
    """By arm; None for one that is too small to show."""
    return {
        arm: counts.rate(arm, name) if shown(*counts.size(arm), conf.k) else None
        for arm in conf.all_arms
    }


def _segmented(conf: LiftConf, counts: Counts, name: str, notes: list[str]) -> list[str]:
    """Columns that a conversion is broken down by; of the others it is noted why not."""
    told = []
    for column in conf.breakdowns:
        if not counts.tells(name, [column]):
            notes.append(f"{name} is not broken down by {column}: no table was measured.")
        elif conf.holds.get(counts.among(column) or "") == "converters":
            notes.append(f"{name} is not broken down by {column}: it is known of converters alone.")
        else:
            told.append(column)
    return told


def _values(
    schema: JointSchema,
    conf: LiftConf,
    measurements: Sequence[Measurement],
    counts: Counts,
    notes: list[str],
) -> list[ValueLift]:
    found: list[ValueLift] = []
    for column in conf.values:
        value = Value.of(schema, conf, measurements, counts, column)
        if value is None:
            notes.append(
                f"{column} is not compared: no table sums it by {conf.membership}, or tells how "
                "many of an arm's users its party holds (its bounds do not begin at 0)."
            )
            continue
        lifts = _of_value(conf, value)
        found += lifts
        notes += [
            f"{column} is not broken down by {by}: no table was measured."
            for by in conf.breakdowns
            if by not in value.segmented
        ]
        if any(one.variance == "bounded" for one in lifts):
            notes.append(
                f"The spread of {column} drowned in noise or was not measured; its interval "
                "uses the largest spread its bounds allow, so it is wider than need be."
            )
        if any(one.at_bound == "maybe" for one in lifts):
            notes.append(
                f"Most amounts of {column} seem to lie at the upper bound; the noise leaves it "
                "open. Check the unit (cents for euros?) and `bounds`."
            )
    return found


def _of_value(conf: LiftConf, value: Value) -> list[ValueLift]:
    """One value's lifts, each at the level at which the intervals of all hold at once."""
    means = {arm: found and found[0] for arm in conf.all_arms for found in [value.mean(arm)]}
    levels = headlines.levels(conf, means)
    return [value.lift(pair, levels[pair]) for pair in conf.pairs]
