"""Opening tables: of a product of which two parties hold shares, noisy tables at the server.

Each party takes the cells of a table out of its share, and adds noise to them and its end of a
sharing of zero that only the two of them know: so what it sends is uniform by itself, whatever
the server dealt, and the sum of both is the table with its noise and nothing else. The sharing
of zero is drawn under a hash of what the parties sent each other for the product (`bound`): where
somebody hands one of them another message than the other sent, the two ends do not cancel, and
the sum is uniform too.

The noise is what the receipt paid for: coins that the server dealt (`coins`), or a draw of each
party by itself. A table of a pool is opened as the sum of several products: its noise comes in
once they are added up (`pools.party.across`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.parsing import canonical_json
from twinweave.privacy.guard import Receipt
from twinweave.privacy.mechanisms import draw
from twinweave.protocols.keystream import Keystream, hkdf
from twinweave.protocols.products.coins import Coins
from twinweave.protocols.products.pair import Pair
from twinweave.protocols.ring import Ring, check_array, next_words, to_ring, to_signed
from twinweave.tables.column import VALUE_UNITS
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query

Tables = Mapping[int, PlannedQuery]
"""Tables between two parties, by their index in the plan of this pass."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """What a party holds of a product before anything is charged: exact, and its own alone.

    share: ring of `pair.shape`. bound: what both parties sent each other for it, hashed; the
    same at both unless somebody changed a message. heads: shares of the dealt coins of every
    table that has some, uint32 (opened cells,), by index. answer: sealed for the peer, or b"".
    """

    share: Ring = field(repr=False)
    bound: bytes
    heads: Mapping[int, NDArray[np.uint32]] = field(default_factory=dict, repr=False)
    answer: bytes = field(default=b"", repr=False)


def open_shares(
    pair: Pair,
    product: Product,
    tables: Tables,
    *,
    own: str,
    secret: bytes,
    label: str,
    receipt: Receipt,
) -> dict[int, Ring]:
    """A party's share of every table as the server may see it: ring (opened cells,), by index.

    secret: 32 bytes that both parties hold and the server does not. label: names this opening;
    it repeats only with identical inputs. A pooled table still lacks its noise. Raises
    ProtocolError unless the receipt paid for every table.
    """
    opened = without_noise(pair, product, tables, own=own, secret=secret, label=label)
    for index, planned in tables.items():
        receipt.check(planned.event)
        if planned.coins is None and not planned.query.is_pooled:
            opened[index] += _noise(draw(len(opened[index]), planned.event, receipt), pair.bits)
    return opened


def without_noise(
    pair: Pair, product: Product, tables: Tables, *, own: str, secret: bytes, label: str
) -> dict[int, Ring]:
    """The same, but for the noise that the party draws by itself: it must not leave like this.

    So what a party knows of its own answer, and what is left of it is that noise. Dealt coins,
    which it does not know, are inside.
    """
    share, heads, dealt = product.share, product.heads, coins_of(pair, tables)
    check_array(share, pair.shape, pair.bits, "share")
    if set(heads) != set(dealt):
        raise ProtocolError("every table with dealt coins takes its own, and no other table.")
    found = {}
    for index, planned in tables.items():
        values, coins = _cells(pair, share, planned.query), dealt.get(index)
        if coins:
            check_array(heads[index], values.shape, 32, "share of coins")
            # Dropping high bits is a ring homomorphism: shares stay shares.
            values = values.astype(np.uint32) + heads[index]
        key = hkdf(secret, "open", label, product.bound, str(index), canonical_json(planned))
        masked = _rerandomised(values, key, add=pair.is_first(own))
        # The bits that words of coins do not define depend on the signs: they must not leave.
        found[index] = masked & coins.low_bits if coins else masked
    return found


def reconstruct(
    pair: Pair, tables: Tables, first: Mapping[int, Ring], second: Mapping[int, Ring]
) -> dict[int, NDArray[np.float64]]:
    """Server: the noisy tables, float64, unbiased, by index; 0 where a cell is never opened.

    Raises ProtocolError for a share of another shape or ring than the plan says.
    """
    found, dealt = {}, coins_of(pair, tables)
    for index, planned in tables.items():
        cells, coins = pair.cells(planned.query), dealt.get(index)
        for share in (first[index], second[index]):
            check_array(share, (cells.n_opened,), 32 if coins else pair.bits, "share of a table")
        total = first[index] + second[index]
        if coins:
            values = (total & coins.low_bits).astype(np.float64) - coins.rounds / 2
        else:
            values = to_signed(total).astype(np.float64)
        found[index] = cells.table(values)
    return found


def coins_of(pair: Pair, tables: Tables) -> dict[int, Coins]:
    """The coins of every table that takes dealt ones, by index. Raises ProtocolError where a sum
    on so many slots exceeds their words."""
    return {
        index: Coins.of(
            cells=pair.cells(planned.query.between(*pair.parties)).n_opened,
            rounds=planned.coins,
            most=pair.n_slots * (VALUE_UNITS if planned.query.weight else 1),
        )
        for index, planned in tables.items()
        if planned.coins is not None
    }


def _cells(pair: Pair, share: Ring, query: Query) -> Ring:
    """The query's opened cells in a share of the product, sides as the query lists them."""
    part = query.between(*pair.parties)
    sides = {side.party: side for side in part.sides}
    block = share[tuple(pair.layout(p).span(sides[p]) for p in pair.parties)]
    oriented = block if part.sides[0].party == pair.first.party else block.T
    cells: Ring = pair.cells(part).opened(oriented)
    return cells


def _rerandomised(values: Ring, key: bytes, *, add: bool) -> Ring:
    """Add (first party) or subtract (second) the pair's sharing of zero."""
    zero = next_words(Keystream(hkdf(key, "zero")), values.shape, values.dtype.itemsize * 8)
    masked: Ring = values + zero if add else values - zero
    return masked


def _noise(noise: NDArray[np.int64], bits: int) -> Ring:
    limit = 1 << (bits - 3)
    if len(noise) and not -limit < noise.min() <= noise.max() < limit:
        raise ProtocolError("noise exceeds the ring. Use less noise or a larger ring.")
    return to_ring(noise, bits)
