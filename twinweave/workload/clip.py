"""Where the amounts of a value column are clipped: chosen from its noisy one-way table.

One user changes a sum by its clip at most, so a sum's noise is in proportion to it; but what the
few amounts above a clip add to a mean is soon small. The choice is post-processing of tables that
a first pass has released, of the planned noise and of public facts, so it costs no privacy; the
mean compared is then that of clipped amounts, and the report says so. (Amin et al. 2019, "Bounding
user contributions", weigh bias against noise alike; here the aim is to tell an effect from none.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twinweave.tables.column import Column, Kind, value_unit
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import Analyses, LiftConf
from twinweave.workload.measurement import Measurement, one_way_tables
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query, query_over

Floats = NDArray[np.float64]

MOST_CLIPPED = 0.1
"""Of the positive amounts: no clip is chosen that more of them lie above."""

_WITHIN = 4
"""Clips that are tried in a bin."""

_POINTS = 16
"""At which a bin's amounts stand: as if they were uniform in it."""

_SEEN = 3.0
"""Standard deviations of its noise that a count must exceed to be used."""


def clip_queries(analyses: Analyses) -> tuple[Query, ...]:
    """The tables that clips are chosen from: the arms, and each column whose clip is chosen."""
    lift = analyses.lift
    if lift is None or not lift.chosen_clips:
        return ()
    wanted = (lift.membership, *lift.chosen_clips)
    found = (query_over(analyses.schema, name, priority=True) for name in wanted)
    return tuple(query for query in found if query is not None)


def choose_clips(
    found: Sequence[Measurement], tables: Sequence[PlannedQuery], analyses: Analyses
) -> dict[str, float]:
    """{column: its clip, below the upper bound}, for columns whose clip is to be chosen.

    found: the tables of `clip_queries`. tables: the sums with the noise planned for them, in units,
    which is the same whatever a unit is worth. A column stays at its upper bound where nothing
    below it is better, or where its amounts or an arm are lost in the noise.
    """
    lift, one_way = analyses.lift, one_way_tables(found)
    if lift is None or lift.membership not in one_way:
        return {}
    variance = {m.query.columns[0]: m.variance for m in found}
    arms = one_way[lift.membership], variance[lift.membership]
    clips: dict[str, float] = {}
    for planned in tables:
        name = planned.query.weight
        alone = planned.query.columns == (lift.membership,)  # and not by a breakdown too
        if name not in lift.chosen_clips or name not in one_way or not alone:
            continue
        column = analyses.schema.column(name)
        contrast = _contrast(analyses.schema, lift, *arms, planned.variance)
        if contrast is None:
            continue
        clip = choose_clip(column, one_way[name], variance[name], contrast)
        if clip < column.span[1]:
            clips[name] = clip
    return clips


def clipped(tables: Sequence[PlannedQuery], clips: Mapping[str, float]) -> tuple[PlannedQuery, ...]:
    """The same tables with the same noise in units, sums up to these clips."""
    return tuple(
        replace(
            planned,
            query=replace(
                planned.query,
                sides=tuple(
                    replace(side, clip=clips.get(side.weight, side.clip)) if side.weight else side
                    for side in planned.query.sides
                ),
            ),
        )
        for planned in tables
    )


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Of the difference between two arms' means, as its variance follows from one user's.

    sampling: factor on the variance of one user's amount. noise: of privacy, in units squared.
    """

    sampling: float
    noise: float


def _contrast(
    schema: JointSchema, lift: LiftConf, users: Floats, variance: float, noise: float
) -> Contrast | None:
    """Of two arms as large as they are on average. users: noisy, by level of the membership, with
    noise of `variance`. noise: variance of the sum of a level. None where an arm is lost in it."""
    labels = schema.column(lift.membership).labels
    sampling, total, arms = 0.0, 0.0, lift.all_arms.values()
    for levels in arms:
        n = float(sum(users[labels.index(level)] for level in levels))
        if n <= _SEEN * (variance * len(levels)) ** 0.5:
            return None
        sampling += 1 / n
        total += noise * len(levels) / n**2
    return Contrast(sampling=2 * sampling / len(arms), noise=2 * total / len(arms))


def choose_clip(column: Column, counts: Floats, variance: float, contrast: Contrast) -> float:
    """The clip at which an effect in proportion to the amounts is told best from none.

    Of c at the bins' edges and at points between them, the one with the largest

        E[min(v, c)] / sqrt(sampling Var[min(v, c)] + noise unit(c)**2)

    of those that at most MOST_CLIPPED of the positive amounts lie above. Deterministic.

    counts: (column.size,) noisy users by bin, each with noise of `variance`. Amounts are taken as
    uniform in their bin, but as 0 in the bin that holds 0 (unless 0 is special); so are those that
    are missing.
    """
    users = non_negative(counts)
    amounts, positive = _amounts(column)
    held = users[: len(amounts)]
    mass, seen = float(held[positive].sum()), int(positive.sum())
    if mass <= _SEEN * (variance * seen) ** 0.5:
        return column.span[1]
    lows, highs = (ends[positive] for ends in _ends(column))
    steps = np.arange(1, _WITHIN + 1) / _WITHIN
    tried = np.unique(lows[:, None] + (highs - lows)[:, None] * steps)
    above = amounts[None] > tried[:, None, None]
    share = (above.mean(axis=2) * np.where(positive, held, 0)).sum(axis=1) / mass
    tried = tried[share <= MOST_CLIPPED]
    score = _signal_to_noise(column, users, amounts, tried, contrast)
    return float(tried[int(np.argmax(score))])


def _signal_to_noise(
    column: Column, users: Floats, amounts: Floats, tried: Floats, contrast: Contrast
) -> Floats:
    """(tried,) what `choose_clip` maximises."""
    share = users / users.sum()
    cut = np.minimum(amounts[None], tried[:, None, None])
    mean, square = (
        (moment.mean(axis=2) * share[: len(amounts)]).sum(axis=1) for moment in (cut, cut**2)
    )
    units = np.array([value_unit(column, float(clip)) for clip in tried])
    error = contrast.sampling * (square - mean**2) + contrast.noise * units**2
    found: Floats = mean / np.sqrt(error)
    return found


def _ends(column: Column) -> tuple[Floats, Floats]:
    """(bins and special numbers,) lower and upper end of each: of an integer column its least and
    highest number."""
    low, high = column.span
    lows, highs = np.array((low, *column.edges)), np.array((*column.edges, high))
    if column.kind is Kind.INTEGER:
        highs[:-1] -= 1
    return np.append(lows, column.special), np.append(highs, column.special)


def _amounts(column: Column) -> tuple[Floats, NDArray[np.bool_]]:
    """(bins and special numbers, _POINTS) amounts that stand for each, and which are positive:
    (bins and special numbers,)."""
    low, high = column.span
    lows, highs = _ends(column)
    places = (np.arange(_POINTS) + 0.5) / _POINTS
    amounts = lows[:, None] + (highs - lows)[:, None] * places
    positive = lows > 0
    if low <= 0 <= high and 0 not in column.special:
        amounts[int(np.searchsorted(column.edges, 0.0, side="right"))] = 0.0
    return amounts, positive


def non_negative(counts: Floats) -> Floats:
    """The nearest table of the same sum without a negative cell (Wang et al. 2020, "Locally
    differentially private frequency estimation with consistency", Norm-Sub); zeros where the sum is
    negative."""
    total = float(counts.sum())
    if total <= 0:
        return np.zeros_like(counts)
    ordered = np.sort(counts)[::-1]
    excess = (np.cumsum(ordered) - total) / np.arange(1, len(ordered) + 1)
    last = int(np.flatnonzero(ordered > excess)[-1])
    found: Floats = np.maximum(counts - excess[last], 0.0)
    return found
