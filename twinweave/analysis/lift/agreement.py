"""The lift that the synthetic tables tell, beside the measured one.

No interval of its own: a naive interval on synthetic rows covers far less than it claims, so
the question is whether the tables' figure lies inside the measured interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.finding import Interval
from twinweave.analysis.lift.arms import POSITIVE
from twinweave.analysis.lift.results import Comparison, ConversionLift, LiftReport
from twinweave.generators.union import Rows
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class SyntheticEffect:
    """One lift in the synthetic rows.

    n: rows in (the arm, what it is compared with). rates: conversion rate or mean value in each,
    and lift their difference, None where an arm is empty or the measured report hides it.
    interval: the measured one, and inside whether the lift lies in it; None where nothing was
    measured.
    """

    n: tuple[int, int]
    rates: tuple[float, float] | None
    lift: float | None
    interval: Interval | None
    inside: bool | None


@dataclass(frozen=True, kw_only=True)
class SyntheticLevel:
    """A conversion's lift at one level of a breakdown; intervals are joint over its levels."""

    column: str
    level: str
    effect: SyntheticEffect


@dataclass(frozen=True, kw_only=True)
class SyntheticOutcome:
    """A conversion or a value in one arm, over all users and by each measured breakdown."""

    name: str
    arm: str
    against: str
    kind: Literal["conversion", "value"]
    overall: SyntheticEffect
    levels: tuple[SyntheticLevel, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SyntheticLift:
    """Every outcome, in the measured report's order."""

    outcomes: tuple[SyntheticOutcome, ...]


def synthetic_lift(
    schema: JointSchema, conf: LiftConf, rows: Rows, joint: pd.DataFrame, measured: LiftReport
) -> SyntheticLift:
    """Lift of every conversion and value that `measured` has.

    joint: the rows' decoded table (`synthetic_tables.decode_rows`), which values are read
    from. A row of an arm whose conversion's party is absent has not converted; one without a
    value has 0.
    """
    arms = {
        name: _arm(schema, rows, conf.membership, levels) for name, levels in conf.all_arms.items()
    }
    conversions = (
        _conversion(schema, rows, (arms[c.arm], arms[c.against]), c) for c in measured.conversions
    )
    values = (
        SyntheticOutcome(
            name=v.column,
            arm=v.arm,
            against=v.against,
            kind="value",
            overall=_effect(_amounts(v.column, joint), (arms[v.arm], arms[v.against]), v.overall),
        )
        for v in measured.values
    )
    return SyntheticLift(outcomes=(*conversions, *values))


def _conversion(
    schema: JointSchema, rows: Rows, arms: tuple[Mask, Mask], found: ConversionLift
) -> SyntheticOutcome:
    converted = _codes(schema, rows, found.conversion) == POSITIVE
    levels = []
    for breakdown in found.breakdowns:
        codes = _codes(schema, rows, breakdown.column)
        for code, cell in enumerate(breakdown.cells):
            at = codes == code
            effect = _effect(converted, (arms[0] & at, arms[1] & at), cell.comparison)
            levels.append(SyntheticLevel(column=breakdown.column, level=cell.level, effect=effect))
    return SyntheticOutcome(
        name=found.conversion,
        arm=found.arm,
        against=found.against,
        kind="conversion",
        overall=_effect(converted, arms, found.overall),
        levels=tuple(levels),
    )


def _effect(
    amounts: NDArray[np.bool_] | NDArray[np.float64],
    arms: tuple[Mask, Mask],
    measured: Comparison | None,
) -> SyntheticEffect:
    n = int(arms[0].sum()), int(arms[1].sum())
    if measured is None or not all(n):
        return SyntheticEffect(n=n, rates=None, lift=None, interval=None, inside=None)
    rates = float(amounts[arms[0]].mean()), float(amounts[arms[1]].mean())
    lift, found = rates[0] - rates[1], measured.absolute
    return SyntheticEffect(
        n=n, rates=rates, lift=lift, interval=found.interval, inside=found.covers(lift)
    )


def _arm(schema: JointSchema, rows: Rows, membership: str, levels: Sequence[str]) -> Mask:
    labels = schema.column(membership).labels
    return np.isin(_codes(schema, rows, membership), [labels.index(level) for level in levels])


def _codes(schema: JointSchema, rows: Rows, name: str) -> NDArray[np.int32]:
    return rows.codes[:, schema.names.index(name)]


def _amounts(column: str, joint: pd.DataFrame) -> NDArray[np.float64]:
    return np.nan_to_num(joint[column].to_numpy(dtype=np.float64, na_value=np.nan))
