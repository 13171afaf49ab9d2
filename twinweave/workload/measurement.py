"""Measurements: noisy linear counting queries, the only facts about joint data that leave.

Everything on the server (lift, fit, raking, report) is post-processing of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinweave.tables.contingency import Contingency
from twinweave.tables.schema import JointSchema
from twinweave.workload.queries import Query, cells_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """A query's noisy table.

    values: float64, of the shape of the query's cells; unbiased; counts of users, or value units
        (0..VALUE_UNITS a user) for a weighted query.
    variance: of the noise in each cell, in the square of the same unit; known and public.
    """

    query: Query
    values: NDArray[np.float64] = field(repr=False)
    variance: float

    def table(self, schema: JointSchema) -> Contingency:
        """As a contingency table with its columns for axes."""
        cells = cells_of(schema, self.query)
        return Contingency(cells=cells, values=self.values, variance=self.variance)

    @property
    def by_sides(self) -> Contingency:
        """As a contingency table whose sides' columns are not told apart: needs no schema."""
        cells = self.query.sides_alone(self.values.shape)
        return Contingency(cells=cells, values=self.values, variance=self.variance)


def of_rows(found: Iterable[Measurement], names: Sequence[str]) -> tuple[Measurement, ...]:
    """The tables of columns that a row of the union has: all but those of random groups."""
    return tuple(m for m in found if set(m.query.columns) <= set(names))


def of_levels(found: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """The tables of columns' own levels: all but coarse ones, which count groups of levels."""
    return tuple(m for m in found if not m.query.is_coarse)


def one_way_tables(found: Iterable[Measurement]) -> dict[str, NDArray[np.float64]]:
    """Noisy one-way table of every column, summed over its holders where several have it."""
    tables: dict[str, NDArray[np.float64]] = {}
    for measurement in found:
        query = measurement.query
        alone = not query.is_cross and len(query.columns) == 1
        if alone and query.weight is None and not query.is_coarse:
            name = query.columns[0]
            tables[name] = tables.get(name, 0) + measurement.values
    return tables
