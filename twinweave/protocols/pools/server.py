"""The server's part of the tables of pools: add up all members' parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.protocols.pools.masks import BITS, add_up
from twinweave.protocols.ring import check_array
from twinweave.protocols.wire import exactly
from twinweave.spec import RunSpec
from twinweave.workload.queries import cells_of

Parts = Mapping[str, NDArray[Any]]
"""A party's parts of tables, by index in the plan, as text."""


def pooled_tables(
    spec: RunSpec, parts: Mapping[str, Parts], shares: Mapping[str, Mapping[int, NDArray[Any]]]
) -> dict[int, NDArray[np.float64]]:
    """Noisy tables of pools by index in the plan: the sums of all their parties' parts.

    parts: party -> its parts of its pool's own tables. shares: party -> of tables across.
    Raises ProtocolError where one lacks, or has another shape or ring.
    """
    for party in spec.parties:
        exactly(
            parts[party],
            map(str, spec.tables.pooled(party)),
            f"parts of pooled tables of {party!r}",
        )
    tables: dict[int, NDArray[np.float64]] = {}
    for i, planned in enumerate(spec.plan):
        query, cells = planned.query, cells_of(spec.schema, planned.query)
        if not query.is_pooled:
            continue
        shape = (cells.n_opened,) if query.is_cross else cells.shape
        own = [shares[p][i] if query.is_cross else parts[p][str(i)] for p in query.parties]
        for part in own:
            bits = 8 * part.dtype.itemsize if query.is_cross else BITS
            check_array(part, shape, bits, "part of a pooled table")
        tables[i] = cells.table(add_up(own).ravel().astype(np.float64))
    return tables
