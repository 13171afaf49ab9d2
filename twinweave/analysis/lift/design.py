"""What a planned run can find of a lift: from its tables' planned noise and assumptions alone.

The noise is exactly that of the estimates which the report makes of these tables; the sampling
error is that of the assumed arms and rates. No row, and no noisy table, is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, sqrt

from twinweave.analysis.lift.estimate import (
    Counts,
    Segment,
    Sums,
    estimate_sums,
    planned_counts,
    unmeasured,
)
from twinweave.analysis.lift.headlines import levels
from twinweave.analysis.lift.intervals import Mean
from twinweave.analysis.lift.needed import quantiles, users_times
from twinweave.tables.column import Column, value_unit
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.plan import PlannedQuery


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What is taken for granted of the experiment before anybody has looked.

    users: in each arm. rates: base rates to plan for, a conversion. amounts: mean and standard
    deviation of each user's value, those without one included; only of values that were stated.
    design_effect: of clusters, on every sampling variance.
    """

    users: Mapping[str, float]
    rates: Mapping[str, tuple[float, ...]]
    amounts: Mapping[str, tuple[float, float]]
    design_effect: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """What can be found of one outcome between two arms at one base rate.

    rate: whether it is a conversion's, else a value's mean. base: that rate or mean; None for a
        value of which nothing was stated.
    users: in the arm, and in the one it is held against. column: None over all users; else each
        of its `levels` is taken to have an equal part of both.
    quantiles: smallest lift found with 80 % power, in standard errors. Verdicts are corrected as
        in the report: for the arms, and then for all outcomes or for all levels.
    noise_sd, sampling_error: the two parts of the absolute lift's standard error, and noise_ratio,
        the one over the other. smallest: absolute lift found with 80 % power, and
        smallest_without_noise, `quantiles` times the errors. Where nothing is known of the
        sampling error what stands on it is None, and `smallest` of noise alone.
    """

    outcome: str
    arm: str
    against: str
    rate: bool
    base: float | None
    users: tuple[float, float]
    column: str | None
    levels: int
    quantiles: float
    noise_sd: float
    sampling_error: float | None
    noise_ratio: float | None
    smallest: float
    smallest_without_noise: float | None

    def times_for_ratio(self, ratio: float) -> float | None:
        """Times the users at which noise over sampling error is `ratio`, at the same epsilon."""
        return None if self.noise_ratio is None else (self.noise_ratio / ratio) ** 2

    def times_for_lift(self, lift: float) -> float | None:
        """Times the users at which a true lift of this size is found with 80 % power."""
        if self.sampling_error is None:
            return None
        error = abs(lift) / self.quantiles
        return users_times(noise=self.noise_sd, sampling=self.sampling_error, error=error)


def foresee(
    schema: JointSchema, conf: LiftConf, tables: Sequence[PlannedQuery], assumed: Assumed
) -> tuple[Foreseen, ...]:
    """Every outcome between every pair of arms, over all users, then by each breakdown.

    tables: those that the lift is to be read from, with their planned noise.
    """
    counts = planned_counts(schema, conf, tables)
    if counts is None:
        return ()
    blank = unmeasured(schema, tables)
    summed = {n: sums for n in conf.values if (sums := estimate_sums(schema, conf, blank, n))}
    families = 1 if conf.correction == "none" else len(counts.conversions) + len(summed)
    overall = list(_outcomes(conf, counts, summed, assumed, None))
    by_level = [
        outcome
        for column in conf.breakdowns
        for outcome in _outcomes(conf, counts, summed, assumed, schema.column(column))
    ]
    return (
        *(one for outcome in overall for one in _compared(conf, outcome, max(families, 1))),
        *(one for outcome in by_level for one in _compared(conf, outcome, 1)),
    )


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """An outcome's mean in every arm as it is assumed, with the noise as planned.

    spread: whether its variance is known; else it counts as 0.
    """

    name: str
    rate: bool
    base: float | None
    spread: bool
    arms: Mapping[str, Mean]
    column: str | None = None
    levels: int = 1


def _outcomes(
    conf: LiftConf,
    counts: Counts,
    summed: Mapping[str, Sums],
    assumed: Assumed,
    column: Column | None,
) -> Iterator[_Outcome]:
    """What the tables tell over all users, or by the levels of a column, each an equal part."""
    segment = {} if column is None else {column.name: 0}
    at, parts = (None, 1) if column is None else (column.name, column.size)
    users = {arm: assumed.users[arm] / parts for arm in conf.all_arms}
    for name in counts.conversions:
        for base in assumed.rates[name] if counts.tells(name, segment) else ():
            spread = assumed.design_effect * base * (1 - base)
            arms = {
                arm: _rate(counts, arm, name, segment, base, n, spread) for arm, n in users.items()
            }
            yield _Outcome(
                name=name, rate=True, base=base, spread=True, arms=arms, column=at, levels=parts
            )
    for name, sums in summed.items():
        if not (sums.tells(segment) and counts.tells(segment=segment)):
            continue
        stated = assumed.amounts.get(name)
        mean, sd = stated or (0.0, 0.0)
        unit = value_unit(counts.schema.column(name), sums.clip)
        arms = {
            arm: Mean(
                total=mean * n,
                var_total=sums.total(arm, segment)[1] * unit**2,
                n=n,
                var_n=counts.size(arm, segment)[1],
                variance=assumed.design_effect * sd**2,
            )
            for arm, n in users.items()
        }
        known = mean if stated else None
        yield _Outcome(
            name=name,
            rate=False,
            base=known,
            spread=stated is not None,
            arms=arms,
            column=at,
            levels=parts,
        )


def _rate(
    counts: Counts,
    arm: str,
    name: str,
    segment: Segment,
    base: float,
    users: float,
    variance: float,
) -> Mean:
    noisy = counts.rate(arm, name, segment=segment)
    return Mean(
        total=base * users,
        var_total=noisy.var_total,
        n=users,
        var_n=noisy.var_n,
        cov=noisy.cov,
        variance=variance,
    )


def _compared(conf: LiftConf, found: _Outcome, families: int) -> Iterator[Foreseen]:
    """Between every pair of arms. families: outcomes that are corrected for each other."""
    by_pair = dict.fromkeys(conf.pairs, 1 - (1 - conf.level) / found.levels)
    if found.column is None:
        by_pair = levels(conf, found.arms)
    for pair in conf.pairs:
        one, other = (found.arms[arm] for arm in pair)
        errors, noise = quantiles(by_pair[pair], families), sqrt(one.noise + other.noise)
        sampling = sqrt(one.sampling + other.sampling) if found.spread else None
        yield Foreseen(
            outcome=found.name,
            arm=pair[0],
            against=pair[1],
            rate=found.rate,
            base=found.base,
            users=(one.n, other.n),
            column=found.column,
            levels=found.levels,
            quantiles=errors,
            noise_sd=noise,
            sampling_error=sampling,
            noise_ratio=noise / sampling if sampling else None,
            smallest=errors * hypot(noise, sampling or 0.0),
            smallest_without_noise=None if sampling is None else errors * sampling,
        )
