"""Two parties' tables for tests of the products: at random, and counted in the clear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.privacy.events import Stage
from twinweave.privacy.guard import Receipt
from twinweave.privacy.noise import DealtCoins, OwnGaussian
from twinweave.protocols.products import dealt
from twinweave.protocols.products.blocks import BlockSet, build_blocks
from twinweave.protocols.products.matching import marks_of
from twinweave.protocols.products.opening import Product, open_shares, reconstruct
from twinweave.protocols.products.pair import Pair, pair_of
from twinweave.protocols.ring import Ring
from twinweave.tables.column import VALUE_UNITS, Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query, Side, cells_of

Heads = Mapping[str, Mapping[int, NDArray[np.uint32]]]
"""Shares of coins by party and table."""

DEALER, PAIR = b"\x01" * 32, b"\x02" * 32


def levels(name: str, n: int, **kwargs: Any) -> Column:
    return Column(
        name=name, kind=Kind.CATEGORICAL, levels=tuple(f"l{i}" for i in range(n)), **kwargs
    )


KEY = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
SPEND = Column(name="spend", kind=Kind.CONTINUOUS, role=Role.VALUE, bounds=(0, 100), bins=4)
A = Schema(party="a", columns=(levels("segment", 3), KEY, levels("region", 2, shared=True)))
B = Schema(party="b", columns=(KEY, levels("region", 2, shared=True), levels("visit", 2), SPEND))
JOINT = JointSchema(schemas=(A, B))


def side(party: str, *columns: str, **kwargs: Any) -> Side:
    return Side(party=party, columns=columns, **kwargs)


SEGMENT_VISIT = Query(sides=(side("a", "segment"), side("b", "visit")), priority=True)
SUM_SPEND = Query(sides=(side("a", "segment"), side("b", weight="spend")))
QUERIES = (
    SEGMENT_VISIT,
    Query(sides=(side("b", "visit", "region"), side("a", "region", "segment"))),
    Query(sides=(side("a"), side("b", "spend"))),
    SUM_SPEND,
    Query(sides=(side("b", "region", weight="spend"), side("a", "segment", "region"))),
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """marks: of users whose ids are their slots, so that every match is true."""

    slots: NDArray[np.int64]
    codes: NDArray[np.int32]
    units: dict[Any, Any]
    marks: NDArray[np.uint32]


def random_table(schema: Schema, n_rows: int, n_slots: int, rng: np.random.Generator) -> Table:
    sizes = [c.size for c in schema.data_columns]
    values = [c.name for c in schema.with_role(Role.VALUE)]
    slots = rng.permutation(n_slots)[:n_rows].astype(np.int64)
    return Table(
        slots=slots,
        codes=np.stack([rng.integers(0, s, n_rows) for s in sizes], axis=1).astype(np.int32),
        units={(v, None): rng.integers(0, VALUE_UNITS + 1, n_rows) for v in values},
        marks=marks_of(slots, slots, PAIR),
    )


def in_the_clear(query: Query, tables: Any, n_slots: int) -> NDArray[np.int64]:
    """Slow oracle: one user after the other."""
    total = np.zeros(cells_of(JOINT, query).shape, dtype=np.int64)
    if query.weight is None:
        total[-1, -1] -= n_slots - len(set(tables["a"].slots) | set(tables["b"].slots))
    for slot in range(n_slots):
        cell, amount = [], 1
        for s in query.sides:
            schema, table = JOINT.schema(s.party), tables[s.party]
            found = np.flatnonzero(table.slots == slot)
            if not len(found):
                sizes = [schema.column(c).size for c in s.columns]
                cell.append(int(np.prod(sizes)) if s.weight is None else 0)
                amount *= s.weight is None
                continue
            row, position = found[0], 0
            for c in s.columns:
                code = table.codes[row, schema.names.index(c)]
                position = position * schema.column(c).size + code
            cell.append(position)
            if s.weight:
                amount *= int(table.units[s.summed][row])
        total[tuple(cell)] += amount
    return total


def planned(query: Query, coins: int | None = None, scale: float = 1e-3) -> PlannedQuery:
    """A table with dealt coins or a Gaussian; one so narrow that it is exact by default."""
    units = VALUE_UNITS if query.weight else 1
    gaussian = OwnGaussian(noise_multiplier=scale / units, sensitivity=units)
    noise = DealtCoins(coins=coins, sensitivity=units) if coins else gaussian
    return PlannedQuery(query=query, stage=Stage.MEASUREMENT, noise=noise)


def plan(*tables: Any) -> dict[int, PlannedQuery]:
    return dict(enumerate(tables))


def receipt_of(tables: Any, fresh: bool = True) -> Receipt:
    events = tuple(p.event for p in tables.values())
    return Receipt(
        run="run",
        phase="query.open",
        request_hash="",
        events=events,
        epsilon=1.0,
        fresh=fresh,
        guarded=True,
    )


def product_pair(queries: Sequence[Query], n_slots: int) -> Pair:
    return pair_of(JOINT, queries, n_slots, first="a", second="b")


def blocks_of(pair: Pair, tables: Any) -> dict[str, BlockSet]:
    return {
        s.party: build_blocks(
            s, pair.layout(s.party), n_slots=pair.n_slots, **vars(tables[s.party])
        )
        for s in (A, B)
    }


@dataclass(frozen=True, kw_only=True)
class World:
    """A dealt product with both parties' states in one process; by party."""

    pair: Pair
    blocks: dict[str, BlockSet]
    deal: dealt.Deal
    masked: dict[str, Ring]
    shares: dict[str, Ring]


def play(pair: Pair, tables: Any, secret: bytes = DEALER) -> World:
    blocks, deal = blocks_of(pair, tables), dealt.deal(pair, secret)
    masked = {p: dealt.mask(pair, blocks[p], deal.seeds[p]) for p in pair.parties}
    shares = {
        "a": dealt.finish_first(pair, deal.seeds["a"], masked["b"]),
        "b": dealt.finish_second(pair, blocks["b"], deal.correction, masked["a"]),
    }
    return World(pair=pair, blocks=blocks, deal=deal, masked=masked, shares=shares)


def both_tables(n_slots: int, rows: Sequence[int], seed: int) -> dict[str, Table]:
    rng = np.random.default_rng(seed)
    return {s.party: random_table(s, n, n_slots, rng) for s, n in zip((A, B), rows, strict=True)}


def open_both(
    pair: Pair,
    shares: Mapping[str, Ring],
    tables: Any,
    heads: Heads | None = None,
    secret: bytes = PAIR,
    label: str = "open",
    bound: Mapping[str, bytes] | None = None,
) -> list[dict[int, Ring]]:
    """Both parties' shares as the server sees them, first party first."""
    heads = heads or {party: {} for party in pair.parties}
    return [
        open_shares(
            pair,
            Product(share=shares[p], bound=(bound or {}).get(p, b""), heads=heads[p]),
            tables,
            own=p,
            secret=secret,
            label=label,
            receipt=receipt_of(tables),
        )
        for p in pair.parties
    ]


def opened_tables(
    pair: Pair, shares: Mapping[str, Ring], tables: Any, heads: Heads | None = None
) -> dict[int, NDArray[np.float64]]:
    return reconstruct(pair, tables, *open_both(pair, shares, tables, heads))
