"""A party's own tables, counted exactly: what leaves of them leaves with noise only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twinweave.protocols.party import Party
from twinweave.tables.contingency import Cells
from twinweave.workload.queries import Side, axis_of, side_positions


def counted(party: Party, side: Side) -> NDArray[np.int64]:
    """The exact table over one side at this party, one axis a column (of none, one cell).

    Of a pooled side, this member's part.
    """
    schema, table = party.site.schema, party.table
    cells = Cells(axes=axis_of(schema, side).split())
    places = side_positions(schema, side, table.codes)
    amounts = party.units(side.summed) if side.summed else None
    exact: NDArray[np.int64] = np.rint(cells.count(places, amounts)).astype(np.int64)
    return exact
