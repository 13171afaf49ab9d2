"""How a value column's amounts are spread, from its holder's noisy one-way table.

The variance of one user's amount needs a second moment, and the table of the amounts' bins has
it for all users of the party that holds them. Arms differ in how many have an amount far more
than in how large those are, so what is taken from all to an arm is the ratio of second moment to
mean: with kappa = E[w^2] / E[w] an arm of mean m has variance kappa m - m^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from twinweave.analysis.finding import Finding
from twinweave.analysis.lift.intervals import quantile
from twinweave.analysis.lift.reconcile import Floats
from twinweave.tables.column import Column, Kind
from twinweave.tables.schema import JointSchema
from twinweave.workload.measurement import Measurement

AT_BOUND = 0.8
"""Mean amount over the upper bound, weighted by amount, that is surely exceeded where nearly all
lie at the bound: uniform amounts have two thirds."""

_CLEAR = 0.2
"""Standard error of that mean beyond which noise alone may lift it above AT_BOUND."""

_SPOILT = 0.5
"""Relative standard error of the ratio of moments beyond which it is not used."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """A column's noisy one-way table, read as amounts above its lower bound, in its own unit.

    Uniform within a bin. Amounts in the lowest bin, which holds those who have none, count as
    none: that makes the ratio of moments too large, if anything, since what is left out has less
    than the edge above it. A bin of its own for them (an edge just above the bound), or the bound
    among the column's special values, loses nothing.

    counts: users in every bin, not negative. low, high: edges of the bins above the lower bound.
    error: standard deviation of the noise on a count.
    """

    counts: Floats = field(repr=False)
    low: Floats = field(repr=False)
    high: Floats = field(repr=False)
    top: float
    error: float

    @classmethod
    def of(
        cls, schema: JointSchema, measurements: Sequence[Measurement], column: str
    ) -> Spread | None:
        """From the first one-way table of the column; None where none was measured."""
        holders = schema.unit(schema.holders(column)[0])
        for m in measurements:
            (side, *others) = m.query.sides
            if others or m.query.weight or side.groups or side.columns != (column,):
                continue
            if side.party in holders and m.values.sum() > 0:
                return cls._read(schema.column(column), m)
        return None

    @classmethod
    def _read(cls, column: Column, m: Measurement) -> Spread:
        least, most = column.span
        half = 0.5 if column.kind is Kind.INTEGER else 0.0  # a whole number stands in the middle
        points = np.array((least, *column.edges, most + 2 * half)) - half - least
        low, high = points[:-1].copy(), points[1:].copy()
        if least not in column.special:
            low[0] = high[0] = 0.0
        alone = np.array(column.special) - least
        low, high = np.append(low, alone), np.append(high, alone)
        if column.has_missing_level:  # counts as an amount of 0
            low, high = np.append(low, -least), np.append(high, -least)
        return cls(
            counts=_not_negative(m.values.astype(np.float64)),
            low=low,
            high=high,
            top=most - least,
            error=m.variance**0.5,
        )

    def ratio(self, clip: float, unit: float) -> tuple[float, float] | None:
        """E[w^2] / E[w] of amounts clipped at `clip` and dithered to whole units, and what noise
        makes of it (its standard error); None where noise spoils it.

        clip: above the lower bound. The dither adds at most a quarter of a unit, squared, to the
        second moment of whoever has an amount.
        """
        mean, square = _moments(self.low, self.high, clip)
        square = square + np.where(mean > 0, unit**2 / 4, 0.0)
        total = float(self.counts @ mean)
        if total <= 2 * self.error * float(np.linalg.norm(mean)):
            return None
        ratio = float(self.counts @ square) / total
        error = self.error * float(np.linalg.norm(square - ratio * mean)) / total
        return (ratio, error) if error < _SPOILT * ratio else None

    def above(self, clip: float, level: float) -> Finding | None:
        """Share above `clip` of those who have an amount, with an interval for the noise.

        None where the bins do not tell it: for the upper bound, or lost in the noise.
        """
        if clip >= self.top:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            part = (self.high - clip) / (self.high - self.low)
        part = np.where(self.high > self.low, np.clip(part, 0, 1), self.low > clip)
        having = (self.high > 0).astype(np.float64)
        n = float(self.counts @ having)
        if n <= 3 * self.error * float(np.linalg.norm(having)):
            return None
        share = float(self.counts @ part) / n
        half = quantile(level) * self.error * float(np.linalg.norm(part - share * having)) / n
        return Finding(value=share, interval=(max(0.0, share - half), min(1.0, share + half)))

    @property
    def at_bound(self) -> Literal["surely", "maybe", "no"]:
        """Whether nearly all amounts lie at the column's upper bound.

        The second moment is then as large as the mean times the bound. The last bin must be
        narrow to show it.
        """
        found = self.ratio(self.top, 0.0)
        if found is None:
            return "no"
        ratio, error = (x / self.top for x in found)
        if ratio - 3 * error > AT_BOUND:
            return "surely"
        return "maybe" if ratio > AT_BOUND and error < _CLEAR else "no"


def _moments(low: Floats, high: Floats, clip: float) -> tuple[Floats, Floats]:
    """Mean and second moment in each bin of uniform amounts, those above `clip` taken for it."""
    cut = np.clip(clip, low, high)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(high > low, (cut - low) / (high - low), low < clip)
    mean = below * (low + cut) / 2 + (1 - below) * clip
    square = below * (low**2 + low * cut + cut**2) / 3 + (1 - below) * clip**2
    return mean, square


def _not_negative(values: Floats) -> Floats:
    """The nearest counts that are not negative and have the same total (projection on a simplex;
    Duchi et al. 2008): of equal noise in every cell, the likeliest. values: of positive total.
    """
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - values.sum()) / np.arange(1, len(values) + 1)
    shift = excess[np.flatnonzero(ordered > excess)[-1]]
    return np.asarray(np.maximum(values - shift, 0.0))
