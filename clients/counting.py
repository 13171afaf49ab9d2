"""A party's exact tables, and its own draws of noise: no table leaves without one."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from clients.party import Party
from twinweave.privacy.guard import Receipt
from twinweave.privacy.mechanisms import draw
from twinweave.spec import PlannedQuery
from twinweave.tables.contingency import grouped_size
from twinweave.workload.queries import Side, raised, side_codes


def exact_table(party: Party, side: Side) -> NDArray[np.int64]:
    """The table over one side at this party, int64, one axis a column (of none, one cell).

    Of a pooled side, this member's part.
    """
    schema = party.site.schema
    sizes = tuple(grouped_size(schema.column(c), side.groups) for c in side.columns) or (1,)
    combined = side_codes(schema, side, party.table.codes)
    if side.weight is None:
        return np.bincount(combined, minlength=prod(sizes)).reshape(sizes).astype(np.int64)
    amounts = raised(party.table.units[side.weight], side.power)
    sums = np.bincount(combined, weights=amounts, minlength=prod(sizes))
    return np.rint(sums).astype(np.int64).reshape(sizes)


def own_draw(planned: PlannedQuery, cells: int, receipt: Receipt) -> NDArray[np.int64]:
    """This party's noise for a pooled table, int64 (cells,): coins of its own, or a Gaussian."""
    return draw(cells, planned.event, receipt, sharers=planned.unknown)
