"""A party's part of the tables of pools: sums over the members, opened as sums alone.

A pool's own tables are sums of the members' tables (`own_tables`). A table across is the sum of
the products of all pairs of members, whose shares each party adds up before anything leaves
(`across`). For two members m, n of a pool and a party B, with presence p_m of a user at m:

    X_pool^T X_B = X_m^T X_B + X_n^T X_B,    but    1 - p_pool = (1 - p_m) + (1 - p_n) - 1,

since a user is at one member at most. So the row of users absent at the pool comes out too large
by (members - 1) times B's own table, which B takes off its part.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.privacy.guard import Receipt
from twinweave.privacy.mechanisms import draw
from twinweave.protocols.party import Party
from twinweave.protocols.pools.pooled import cover
from twinweave.protocols.ring import Ring, to_ring
from twinweave.spec import PlannedQuery, RunSpec
from twinweave.tables.contingency import grouped_size
from twinweave.workload.queries import Query, Side, raised, shape, side_codes


def exact_table(party: Party, side: Side) -> NDArray[np.int64]:
    """The table over one side at this party, int64, one axis a column (of none, one cell).

    Of a pooled side, this member's part. Exact: it leaves with noise only.
    """
    schema = party.site.schema
    sizes = tuple(grouped_size(schema.column(c), side.groups) for c in side.columns) or (1,)
    combined = side_codes(schema, side, party.table.codes)
    if side.weight is None:
        return np.bincount(combined, minlength=prod(sizes)).reshape(sizes).astype(np.int64)
    amounts = raised(party.table.units[side.weight], side.power)
    sums = np.bincount(combined, weights=amounts, minlength=prod(sizes))
    return np.rint(sums).astype(np.int64).reshape(sizes)


def own_tables(party: Party, spec: RunSpec, phase: str, receipt: Receipt) -> dict[str, Ring]:
    """This member's part of its pool's tables, by index in the plan, with noise and masks.

    spec: with the tables of the pass. phase: names the pass, so that no mask serves twice.
    """
    planned = spec.pooled(party.name)
    if not planned:
        return {}
    pool = party.spec.schema.unit(party.name)
    secrets = {
        peer: party.pair_secret(peer, "pooled tables") for peer in pool if peer != party.name
    }
    parts = {}
    for i, p in planned.items():
        exact = exact_table(party, p.query.sides[0])
        noisy = exact.ravel() + draw(exact.size, p.event, receipt, sharers=p.unknown)
        label = f"{spec.digest} {phase} {i}"
        covered = cover(noisy, own=party.name, pool=pool, secrets=secrets, label=label)
        parts[str(i)] = covered.reshape(exact.shape)
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
    addend = draw(surplus.size, planned.event, receipt, sharers=planned.unknown) - surplus
    total: Ring = np.sum(shares, axis=0, dtype=shares[0].dtype)
    return total + to_ring(addend, total.dtype.itemsize * 8)


def _surplus(party: Party, query: Query, own: int) -> NDArray[np.int64]:
    """What a product too many adds: this party's own table where the other side is absent.

    int64 (opened cells,), row-major; a weighted other side has no absent position.
    """
    table = np.zeros(shape(party.spec.schema, query), dtype=np.int64)
    mine, other = query.sides[own], query.sides[1 - own]
    if other.weight is None:
        held = exact_table(party, mine).ravel()
        oriented = table if own == 0 else table.T
        oriented[: len(held), -1] = held
    flat = table.ravel()
    return flat if query.weight is not None else flat[:-1]
