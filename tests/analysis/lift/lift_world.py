"""A small experiment in the clear, and its tables with as little or as much noise as asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows, UnionLayout
from twinweave.tables.column import VALUE_UNITS, Column, Kind, Role
from twinweave.tables.contingency import ABSENT
from twinweave.tables.encoding import column_codes
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side, cells_of

KEY = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)

SCHEMA = JointSchema(
    schemas=(
        Schema(
            party="a",
            columns=(
                KEY,
                Column(
                    name="arm",
                    kind=Kind.CATEGORICAL,
                    role=Role.MEMBERSHIP,
                    levels=("t1", "c", "t2", "none"),
                ),
                Column(name="region", kind=Kind.CATEGORICAL, levels=("n", "s", "w")),
                Column(name="age", kind=Kind.INTEGER, bounds=(18.0, 90.0), bins=2),
            ),
        ),
        Schema(
            party="b",
            columns=(
                KEY,
                Column(name="bought", kind=Kind.BOOLEAN, role=Role.CONVERSION),
                Column(name="visited", kind=Kind.BOOLEAN, role=Role.CONVERSION),
                Column(name="channel", kind=Kind.CATEGORICAL, levels=("web", "store")),
                Column(name="spend", kind=Kind.CONTINUOUS, role=Role.VALUE, bounds=(0.0, 200.0)),
            ),
        ),
    )
)

CONF = LiftConf(
    membership="arm",
    test=("t1", "t2"),
    control=("c",),
    conversions=("bought",),
    values=("spend",),
    breakdowns=("region",),
    k=20,
    ratio=8 / 7,
)
"""`ratio` is that of the arms in `people`."""


def people(n: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Codes of every column of n users of the union, and who holds them (`at_a`, `at_b`)."""
    arm = rng.choice(4, n, p=(0.25, 0.35, 0.15, 0.25))
    rate = np.where((arm == 0) | (arm == 2), 0.3, 0.2)
    bought = (rng.random(n) < rate).astype(int)
    presence = rng.choice(3, n, p=(0.25, 0.15, 0.6))
    return {
        "at_a": presence != 1,
        "at_b": presence != 0,
        "arm": arm,
        "region": rng.choice(3, n, p=(0.6, 0.395, 0.005)),
        "age": rng.integers(0, 2, n),
        "bought": bought,
        "visited": np.maximum(bought, rng.integers(0, 2, n)),
        "channel": rng.integers(0, 2, n),
        "spend": bought * rng.integers(VALUE_UNITS // 10, VALUE_UNITS, n),
    }


def union(users: dict[str, NDArray[Any]]) -> Rows:
    """The people as rows."""
    spend = SCHEMA.column("spend")
    import pandas as pd

    binned = column_codes(spend, pd.Series(users["spend"] / VALUE_UNITS * 200.0))
    presence = np.stack([users["at_a"], users["at_b"]], axis=1)
    codes = np.stack([binned if n == "spend" else users[n] for n in SCHEMA.names], axis=1)
    codes = codes.astype(np.int32)
    codes[~UnionLayout.of(SCHEMA).visible(presence)] = ABSENT
    return Rows(codes=codes, presence=presence)


def codes_of(users: dict[str, NDArray[Any]], column: str) -> NDArray[Any]:
    """A column's codes; of "spend", which `users` has in units, the bins."""
    if column != "spend":
        return users[column]
    size = SCHEMA.column("spend").size
    return np.minimum(users["spend"] * size // VALUE_UNITS, size - 1)


def exact(users: dict[str, NDArray[Any]], query: Query) -> NDArray[Any]:
    """The table in the clear, one user at a time: slow and obvious."""
    table = np.zeros(cells_of(SCHEMA, query).shape)
    for u in range(len(users["arm"])):
        held = [bool(users[f"at_{s.party}"][u]) for s in query.sides]
        if not (any(held) if query.is_cross else held[0]):
            continue
        cell, amount = [], 1
        for side, present in zip(query.sides, held, strict=True):
            sizes = [SCHEMA.column(c).size for c in side.columns]
            codes = [int(codes_of(users, c)[u]) for c in side.columns]
            if side.weight:
                amount = int(users[side.weight][u]) * present
            if not query.is_cross:
                cell += codes
            else:
                inside = int(np.ravel_multi_index(codes, sizes)) if codes else 0
                cell.append(inside if present or side.weight else int(np.prod(sizes)))
        table[tuple(cell)] += amount
    return table


def counted(users: dict[str, NDArray[Any]], query: Query) -> NDArray[Any]:
    """The same table as `exact`, fast."""
    shape = cells_of(SCHEMA, query).shape
    held = [users[f"at_{s.party}"] for s in query.sides]
    amount = np.ones(len(users["arm"]))
    for side, present in zip(query.sides, held, strict=True):
        if side.weight:
            amount = users[side.weight] * present
    places = []
    for side, present in zip(query.sides, held, strict=True):
        place = np.zeros(len(present), dtype=np.int64)
        for column in side.columns:
            place = place * SCHEMA.column(column).size + codes_of(users, column)
        size = int(np.prod([SCHEMA.column(c).size for c in side.columns]))
        places.append(
            place if side.weight or not query.is_cross else np.where(present, place, size)
        )
    flat = places[0] if len(places) == 1 else np.ravel_multi_index(tuple(places), shape)
    inside = np.any(held, axis=0)
    sums = np.bincount(flat[inside], weights=amount[inside], minlength=int(np.prod(shape)))
    return sums.reshape(shape)


def noisy(query: Query, table: NDArray[Any], sd: float, rng: np.random.Generator) -> Measurement:
    return Measurement(query=query, values=table + rng.normal(0, sd, table.shape), variance=sd**2)


def a(*columns: str) -> Side:
    return Side(party="a", columns=columns)


def b(*columns: str, weight: str | None = None, clip: float | None = None) -> Side:
    return Side(party="b", columns=columns, weight=weight, clip=clip)


def cross(*sides: Side) -> Query:
    return Query(sides=sides)


SPREAD = cross(b("spend"))
WORKLOAD = (
    cross(a("arm")),
    cross(a("arm"), b("bought")),
    cross(a("arm"), b(weight="spend")),
    SPREAD,
    cross(a("arm", "region"), b("bought")),
)
