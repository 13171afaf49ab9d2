"""An outcome's lift level by level, with correction for looking at many of them.

Intervals hold for all shown levels at once (Bonferroni), p-values carry Holm's correction, and
one test of interaction asks whether the levels differ at all (Cochran's Q, 1954, Biometrics 10,
with the covariance of levels that share noise).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import chi2

from twinweave.analysis.finding import Interval
from twinweave.analysis.lift.compare import compare, verdict
from twinweave.analysis.lift.estimate import Counts, Segment
from twinweave.analysis.lift.intervals import Estimate
from twinweave.analysis.lift.multiplicity import holm
from twinweave.analysis.lift.reconcile import Floats
from twinweave.analysis.lift.results import Breakdown, Cell, Comparison, Interaction, Verdict
from twinweave.tables.column import Column
from twinweave.workload.analyses import LiftConf

RATES = (0.0, 1.0)

Pair = tuple[str, str]
"""What is compared: an arm, and against which."""


def shown(n: float, var_n: float, k: int) -> bool:
    """Whether a noisy size may be shown: at least k, and three standard deviations of noise."""
    return n >= max(k, 3 * var_n**0.5) and n > 0


def by_conversion(counts: Counts, column: Column, conversion: str, pair: Pair) -> Breakdown:
    """Compare two arms' conversion rates at every level of `column` that is not suppressed."""

    def rate(arm: str, segment: Segment) -> Estimate:
        return counts.rate(arm, conversion, segment=segment)

    def noise(arm: str, segments: Sequence[Segment], rates: Sequence[float]) -> Floats:
        return counts.noise(arm, segments, rates, conversion)

    return broken_down(counts, column, pair, rate, noise, RATES)


def broken_down(
    counts: Counts,
    column: Column,
    pair: Pair,
    mean: Callable[[str, Segment], Estimate | None],
    noise: Callable[[str, Sequence[Segment], Sequence[float]], Floats],
    possible: Interval,
) -> Breakdown:
    """Compare two arms at every level of `column` at which both are large enough to be shown.

    mean: an arm's at a level; None where it cannot be shown. noise: covariance of the noise in an
    arm's means, given them, over several levels. possible: smallest and largest mean.
    """
    conf = counts.conf
    segments: dict[int, Segment] = {i: {column.name: i} for i in range(column.size)}
    both = {
        i: [mean(arm, at) for arm in pair]
        for i, at in segments.items()
        if all(shown(*counts.size(arm, at), conf.k) for arm in pair)
    }
    kept = {i: (one, other) for i, (one, other) in both.items() if one and other}
    joint = 1 - (1 - conf.level) / max(len(kept), 1)
    found = {i: compare(*means, level=joint, possible=possible) for i, means in kept.items()}
    each = (
        noise(arm, [segments[i] for i in kept], [means[place].mean for means in kept.values()])
        for place, arm in enumerate(pair)
    )
    return Breakdown(
        column=column.name,
        among=counts.among(column.name),
        level=conf.level,
        cells=_corrected(conf, column, found),
        interaction=interaction(list(found.values()), sum(each, np.zeros((1, 1)))),
    )


def _corrected(conf: LiftConf, column: Column, found: Mapping[int, Comparison]) -> tuple[Cell, ...]:
    """A cell for every level, by its code; those that `found` lacks are suppressed."""
    p_holm = dict(zip(found, holm([c.p_value for c in found.values()]), strict=True))
    return tuple(
        _cell(label, found.get(i), p_holm.get(i), 1 - conf.level)
        for i, label in enumerate(column.labels)
    )


def _cell(label: str, found: Comparison | None, p: float | None, alpha: float) -> Cell:
    outcome = Verdict.INCONCLUSIVE
    if found is not None and p is not None:
        outcome = verdict(found.absolute.value, p, alpha)
    return Cell(level=label, comparison=found, p_holm=p, verdict=outcome)


def interaction(found: Sequence[Comparison], noise: Floats) -> Interaction | None:
    """Cochran's Q over the levels' absolute lifts; None with fewer than two.

    noise: covariance of the lifts' noise, (levels, levels).
    """
    if len(found) < 2:
        return None
    lifts = np.array([c.absolute.value for c in found])
    precision = np.linalg.inv(noise + np.diag([c.sampling_error**2 for c in found]))
    away = lifts - (precision.sum(axis=0) @ lifts) / precision.sum()
    q, df = float(away @ precision @ away), len(found) - 1
    return Interaction(q=q, df=df, p_value=float(chi2.sf(q, df)))
