"""One-way tables of the synthetic rows beside the measured ones, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.population import row_counts
from twinweave.tables.schema import JointSchema
from twinweave.workload.measurement import Measurement


@dataclass(frozen=True, kw_only=True)
class Margin:
    """One column at one party, or pool: its users by level.

    measured: noisy counts, unbiased; noise_sd: of each. synthetic: users that the rows stand for.
    """

    column: str
    party: str
    noise_sd: float
    levels: tuple[str, ...] = field(repr=False)
    measured: tuple[float, ...] = field(repr=False)
    synthetic: tuple[float, ...] = field(repr=False)


def margins(
    schema: JointSchema, rows: Rows, measurements: Sequence[Measurement], users: float
) -> tuple[Margin, ...]:
    """Of every column of a row whose one-way table was measured, in the order of measurement.

    users: of the union, whom all rows together stand for. Post-processing.
    """
    layout = UnionLayout.of(schema)
    each = users / max(len(rows), 1)
    found = []
    for one in measurements:
        query = one.query
        if query.is_cross or query.weight is not None or len(query.columns) != 1:
            continue
        (column,), (side,) = query.columns, query.sides
        if column not in layout.names or side.groups:
            continue
        counts = row_counts(query, layout, rows) * each
        found.append(
            Margin(
                column=column,
                party=side.label,
                noise_sd=one.variance**0.5,
                levels=schema.column(column).labels,
                measured=tuple(one.values.tolist()),
                synthetic=tuple(counts.tolist()),
            )
        )
    return tuple(found)
