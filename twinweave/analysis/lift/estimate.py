"""Arm sizes, conversions and value sums, each from every table that speaks of it.

Generalised least squares with known noise variances (Aitken 1935): the best linear unbiased
estimate, and its exact covariance. Arms never share a cell, so their noise is independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from twinweave.analysis.lift.arms import Floats, arm_sums, lacking_sums
from twinweave.analysis.lift.intervals import Rate
from twinweave.errors import ConfigError
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement

TEST, CONTROL = 0, 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Sizes and conversions of both arms at every level of a breakdown (one level without).

    holders: parties, the first of each pool, for which the number of an arm's users whom they
        hold is estimated too; only without a breakdown.
    theta: (2, levels, 1 + conversions + holders), the size first. cov: (2, the same twice).
    """

    conversions: tuple[str, ...]
    holders: tuple[str, ...] = ()
    theta: Floats = field(repr=False)
    cov: Floats = field(repr=False)

    def rate(self, arm: int, *conversions: str, level: int = 0, held_by: str | None = None) -> Rate:
        """Conversions of an arm's users, or of those among them whom a party holds.

        Of several conversions the sum: a user who has two of them counts twice.
        """
        counted = [1 + self.conversions.index(c) for c in conversions]
        return self._rate(arm, level, self._held(held_by), counted)

    def held(self, arm: int, party: str) -> Rate:
        """How many of an arm's users the party holds."""
        return self._rate(arm, 0, 0, [self._held(party)])

    def _held(self, party: str | None) -> int:
        return 0 if party is None else 1 + len(self.conversions) + self.holders.index(party)

    def _rate(self, arm: int, level: int, among: int, counted: Sequence[int]) -> Rate:
        theta, cov = self.theta[arm, level], self.cov[arm]
        return Rate(
            n=float(theta[among]),
            total=float(theta[counted].sum()),
            var_n=float(cov[among, among]),
            var_total=float(cov[np.ix_(counted, counted)].sum()),
            cov=float(cov[among, counted].sum()),
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
    counted = {name for o in found for name in o.row}
    conversions = tuple(c for c in conf.conversions if ("converted", c) in counted)
    holders = tuple(p for p in schema.parties if ("held", p) in counted)
    return _least_squares(conversions, holders, found)


def estimate_sum(
    schema: JointSchema,
    conf: LiftConf,
    measurements: Sequence[Measurement],
    column: str,
    clip: float | None,
) -> tuple[Floats, Floats] | None:
    """Sum of a value column's units, amounts clipped at `clip`, in each arm.

    Returns (sums, noise variances), each of shape (2,), or None when no table has it.
    """
    precision, weighted = np.zeros(2), np.zeros(2)
    for m in measurements:
        if (m.query.weight, m.query.clip) == (column, clip):
            sums = arm_sums(schema, conf, m)
            if sums is not None:
                precision += 1 / sums.var_outside[:, 0]
                weighted += sums.outside[:, 0] / sums.var_outside[:, 0]
    if not precision.all():
        return None
    return weighted / precision, 1 / precision


Part = tuple[str, str]
"""What is estimated of an arm: its size, or who "converted" by, or is "held" at, that name."""

SIZE: Part = ("size", "")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Observation:
    """values = the sum of `row`'s parts, each by its factor, + noise.

    values and variances are (2, levels).
    """

    row: dict[Part, int]
    values: Floats
    variances: Floats


def _observations(
    schema: JointSchema, conf: LiftConf, m: Measurement, by: str | None
) -> list[_Observation]:
    """What one table of counts says: converted, held and not converted, and lacking users."""
    if not m.variance > 0:
        raise ConfigError(
            "measurements",
            f"table {m.query.name!r} has no noise variance",
            "Give the variance of the noise that was added.",
        )
    found: list[_Observation] = []
    rest = {SIZE: 1}  # what `outside` is the sum of
    sums, name = None, None
    for name in conf.conversions:
        sums = arm_sums(schema, conf, m, by=by, conversion=name)
        if sums is not None:
            converted: Part = ("converted", name)
            found = [
                _Observation(row={converted: 1}, values=sums.inside, variances=sums.var_inside)
            ]
            rest[converted] = -1
            break
    sums = sums or arm_sums(schema, conf, m, by=by)
    if sums is None:
        return []
    outside, variances = sums.outside, sums.var_outside
    lacking = lacking_sums(schema, conf, m) if by is None else None
    if lacking is not None and (not found or _converts_at(schema, conf, name)):
        party, absent, noise = lacking
        held: Part = ("held", party)
        found.append(
            _Observation(row={SIZE: 1, held: -1}, values=absent[:, None], variances=noise[:, None])
        )
        outside, variances = outside - absent[:, None], variances - noise[:, None]
        rest = {held: 1, **{part: sign for part, sign in rest.items() if part != SIZE}}
    return [*found, _Observation(row=rest, values=outside, variances=variances)]


def _converts_at(schema: JointSchema, conf: LiftConf, name: str | None) -> bool:
    """Whether the conversion is another party's than the membership's."""
    home = schema.holders(conf.membership)[0]
    return name is not None and home not in schema.holders(name)


def _least_squares(
    conversions: tuple[str, ...], holders: tuple[str, ...], observations: Sequence[_Observation]
) -> Counts:
    parts = [SIZE, *(("converted", c) for c in conversions), *(("held", p) for p in holders)]
    width, levels = len(parts), observations[0].values.shape[1]
    precision = np.zeros((2, width, width))
    weighted = np.zeros((2, levels, width))
    for o in observations:
        row = np.array([o.row.get(part, 0) for part in parts], dtype=np.float64)
        # The variance is the same at every level: it depends on the table's shape alone.
        precision += np.outer(row, row) / o.variances[:, :1, None]
        weighted += row * (o.values / o.variances)[:, :, None]
    cov = np.linalg.inv(precision)
    theta = np.einsum("gij,glj->gli", cov, weighted)
    return Counts(conversions=conversions, holders=holders, theta=theta, cov=cov)
