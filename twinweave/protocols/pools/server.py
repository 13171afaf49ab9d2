"""The server's part of the tables of pools: add up all members' parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.pools.masks import add_up
from twinweave.spec import RunSpec
from twinweave.workload.queries import cells_of


def pooled_tables(
    spec: RunSpec,
    shared: Mapping[str, Mapping[str, NDArray[Any]]],
    share_of: Callable[[str, int], NDArray[Any]],
) -> dict[int, NDArray[np.float64]]:
    """Noisy tables of pools by index in the plan: the sums of all their parties' parts.

    shared: party -> its part of its pool's own tables. share_of: a party's share of a table
    across. Raises ProtocolError where one lacks.
    """
    tables: dict[int, NDArray[np.float64]] = {}
    for i, planned in enumerate(spec.plan):
        query = planned.query
        if not query.is_pooled:
            continue
        if query.is_cross:
            parts = [share_of(party, i) for party in query.parties]
        else:
            parts = [_part(shared[party], party, i) for party in query.parties]
        values, cells = add_up(parts), cells_of(spec.schema, query)
        if values.size != cells.n_opened:
            raise ProtocolError(f"table {query.name!r} did not arrive whole.")
        tables[i] = cells.table(values.astype(np.float64))
    return tables


def _part(pooled: Mapping[str, NDArray[Any]], party: str, index: int) -> NDArray[Any]:
    if str(index) not in pooled:
        raise ProtocolError(f"{party!r} sent no part of a pooled table. Start a new run.")
    return pooled[str(index)]
