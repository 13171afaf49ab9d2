"""A party's part of the tables of pools: sums over the members, opened as sums alone.

A pool's own tables are sums of the members' tables (`pooled_tables`). A table across is the sum of
the products of all pairs of members, whose shares each party adds up before anything leaves
(`across`). For two members m, n of a pool and a party B, with presence p_m of a user at m:

    X_pool^T X_B = X_m^T X_B + X_n^T X_B,    but    1 - p_pool = (1 - p_m) + (1 - p_n) - 1,

since a user is at one member at most. So the row of users absent at the pool comes out too large
by (members - 1) times B's own table, which B takes off its part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.privacy.guard import Receipt
from twinweave.privacy.mechanisms import draw
from twinweave.protocols.counting import counted
from twinweave.protocols.party import Party
from twinweave.protocols.pools.masks import mask
from twinweave.protocols.ring import Ring, to_ring
from twinweave.spec import RunSpec
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query, cells_of


def pooled_tables(party: Party, spec: RunSpec, phase: str, receipt: Receipt) -> dict[str, Ring]:
    """This member's part of its pool's tables, by index in the plan, with noise and masks.

    spec: with the tables of the pass. phase: names the pass, so that no mask serves twice.
    """
    planned = spec.tables.pooled(party.name)
    if not planned:
        return {}
    pool = party.spec.schema.unit(party.name)
    secrets = {
        peer: party.pair_secret(peer, "pooled tables") for peer in pool if peer != party.name
    }
    parts = {}
    for i, p in planned.items():
        exact = counted(party, p.query.sides[0])
        noisy = exact.ravel() + draw(exact.size, p.event, receipt, sharers=p.noise.sharers)
        label = f"{spec.digest} {phase} {i}"
        masked = mask(noisy, own=party.name, pool=pool, secrets=secrets, label=label)
        parts[str(i)] = masked.reshape(exact.shape)
    return parts


def across(party: Party, planned: PlannedQuery, shares: Sequence[Ring], receipt: Receipt) -> Ring:
    """This party's part of a pooled table across: all its shares, its noise, in one.

    shares: of every product that the table takes part in here, masked, without noise.
    Raises ProtocolError where one lacks: fewer would show one pair's table.
    """
    query = planned.query
    own = next(i for i, side in enumerate(query.sides) if party.name in side.members)
    others = len(query.sides[1 - own].members)
    if len(shares) != others or len({s.dtype for s in shares}) != 1:
        raise ProtocolError(f"table {query.name!r} needs a product with every member of the pool.")
    surplus = _surplus(party, query, own) * (others - 1)
    addend = draw(surplus.size, planned.event, receipt, sharers=planned.noise.sharers) - surplus
    total: Ring = np.sum(shares, axis=0, dtype=shares[0].dtype)
    return total + to_ring(addend, total.dtype.itemsize * 8)


def _surplus(party: Party, query: Query, own: int) -> NDArray[np.int64]:
    """What a product too many adds: this party's own table where the other side is absent.

    int64 (opened cells,); a weighted other side has no absent position.
    """
    cells = cells_of(party.spec.schema, query)
    return cells.opened(cells.alone(own, counted(party, query.sides[own])))
