"""Arm sizes, conversions and value sums, each from every table that speaks of it.

Generalised least squares with known noise variances (Aitken 1935): the best linear unbiased
estimate, and its exact covariance. Arms never share a cell, so their noise is independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from twinweave.analysis.lift.arms import Floats, arm_sums
from twinweave.analysis.lift.intervals import Rate
from twinweave.errors import ConfigError
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement

TEST, CONTROL = 0, 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Sizes and conversions of both arms at every level of a breakdown (one level without).

    theta: (2, levels, 1 + conversions), the size first. cov: (2, 1 + conversions, same).
    """

    conversions: tuple[str, ...]
    theta: Floats = field(repr=False)
    cov: Floats = field(repr=False)

    def rate(self, arm: int, conversion: str, level: int = 0) -> Rate:
        i = 1 + self.conversions.index(conversion)
        theta, cov = self.theta[arm, level], self.cov[arm]
        return Rate(
            n=float(theta[0]),
            total=float(theta[i]),
            var_n=float(cov[0, 0]),
            var_total=float(cov[i, i]),
            cov=float(cov[0, i]),
        )

    def size(self, arm: int, level: int = 0) -> tuple[float, float]:
        """(n, noise variance of n)."""
        return float(self.theta[arm, level, 0]), float(self.cov[arm, 0, 0])


def estimate_counts(
    schema: JointSchema, conf: LiftConf, measurements: Sequence[Measurement], by: str | None = None
) -> Counts | None:
    """Estimate sizes and conversions; conversions that no table counts by `by` are left out.

    None when no table speaks of the arms by `by` at all.
    """
    found = [
        o
        for m in measurements
        if m.query.weight is None
        for o in _observations(schema, conf, m, by)
    ]
    if not found:
        return None
    counted = {o.conversion for o in found}
    return _least_squares(tuple(c for c in conf.conversions if c in counted), found)


def estimate_sum(
    schema: JointSchema,
    conf: LiftConf,
    measurements: Sequence[Measurement],
    column: str,
    power: int,
) -> tuple[Floats, Floats] | None:
    """Sum of a value column's units**power (/ VALUE_UNITS for power 2) in each arm.

    Returns (sums, noise variances), each of shape (2,), or None when no table has it.
    """
    precision, weighted = np.zeros(2), np.zeros(2)
    for m in measurements:
        if m.query.weight == (column, power):
            sums = arm_sums(schema, conf, m)
            if sums is not None:
                precision += 1 / sums.var_outside[:, 0]
                weighted += sums.outside[:, 0] / sums.var_outside[:, 0]
    if not precision.all():
        return None
    return weighted / precision, 1 / precision


@dataclass(frozen=True, kw_only=True, eq=False)
class _Observation:
    """values = size * n + sign * y[conversion] + noise; values and variances (2, levels)."""

    size: int
    conversion: str | None = None
    sign: int = 0
    values: Floats
    variances: Floats


def _observations(
    schema: JointSchema, conf: LiftConf, m: Measurement, by: str | None
) -> list[_Observation]:
    """What one table of counts says: converted and not, or the size alone."""
    if not m.variance > 0:
        raise ConfigError(
            "measurements",
            f"table {m.query.name!r} has no noise variance",
            "Give the variance of the noise that was added.",
        )
    for name in conf.conversions:
        sums = arm_sums(schema, conf, m, by=by, conversion=name)
        if sums is not None:
            return [
                _Observation(
                    size=0, conversion=name, sign=1, values=sums.inside, variances=sums.var_inside
                ),
                _Observation(
                    size=1,
                    conversion=name,
                    sign=-1,
                    values=sums.outside,
                    variances=sums.var_outside,
                ),
            ]
    sums = arm_sums(schema, conf, m, by=by)
    if sums is None:
        return []
    return [_Observation(size=1, values=sums.outside, variances=sums.var_outside)]


def _least_squares(names: tuple[str, ...], observations: Sequence[_Observation]) -> Counts:
    width, levels = 1 + len(names), observations[0].values.shape[1]
    precision = np.zeros((2, width, width))
    weighted = np.zeros((2, levels, width))
    for o in observations:
        row = np.zeros(width)
        row[0] = o.size
        if o.conversion is not None:
            row[1 + names.index(o.conversion)] = o.sign
        # The variance is the same at every level: it depends on the table's shape alone.
        precision += np.outer(row, row) / o.variances[:, :1, None]
        weighted += row * (o.values / o.variances)[:, :, None]
    cov = np.linalg.inv(precision)
    theta = np.einsum("gij,glj->gli", cov, weighted)
    return Counts(conversions=names, theta=theta, cov=cov)
