"""Two parties with 60 features each, of which five drive a conversion: three at a, two at b.

Party a holds a randomised arm too, party b the conversion; 60,000 users are at both and 20,000
at each one alone. `measured` gives exact tables with noise of a given sd, as a run would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query

BOTH, ALONE, FEATURES, RATE = 60_000, 20_000, 60, 0.08
LIFT = LiftConf(membership="arm", test=("t",), control=("c",), conversions=("bought",), k=10)

Push = Callable[[NDArray[np.float64]], NDArray[np.float64]]
DRIVERS: dict[str, Push] = {
    "a1": lambda middle: middle,
    "a2": lambda middle: middle**2,
    "a41": np.sin,
    "b1": lambda middle: -middle,
    "b42": np.cos,
}
"""What drives the conversion: how a level pushes, by its place on a normal scale."""


def _levels(number: int) -> int:
    """40 features of 16 levels, 15 of 3 to 8, 5 of two."""
    return 16 if number <= 40 else 3 + (number - 41) % 6 if number <= 55 else 2


def _column(name: str, levels: Sequence[str], role: Role = Role.FEATURE) -> Column:
    return Column(name=name, kind=Kind.CATEGORICAL, role=role, levels=tuple(levels))


def _party(name: str, own: Column) -> Schema:
    numbers = range(1, FEATURES + 1)
    features = (_column(f"{name}{i}", [str(level) for level in range(_levels(i))]) for i in numbers)
    key = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
    return Schema(party=name, columns=(key, own, *features))


SCHEMA = JointSchema(
    schemas=(
        _party("a", _column("arm", ("t", "c", "none"), Role.MEMBERSHIP)),
        _party("b", Column(name="bought", kind=Kind.BOOLEAN, role=Role.CONVERSION)),
    )
)
AT = {
    "a": np.arange(BOTH + 2 * ALONE) < BOTH + ALONE,
    "b": (np.arange(BOTH + 2 * ALONE) < BOTH) | (np.arange(BOTH + 2 * ALONE) >= BOTH + ALONE),
}


def draw(effect: float, rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """Codes of every column, (users,). effect: log-odds for one sd of a driver's push."""
    n = BOTH + 2 * ALONE
    codes = {"arm": rng.choice(3, n, p=(0.4, 0.4, 0.2))}
    logit = np.log(RATE / (1 - RATE)) + 0.2 * (codes["arm"] == 0)
    for column in SCHEMA.with_role(Role.FEATURE):
        mass = np.maximum(rng.dirichlet(np.full(column.size, 3.0)), 0.01)
        mass /= mass.sum()
        codes[column.name] = np.searchsorted(mass.cumsum()[:-1], rng.random(n))
        if column.name in DRIVERS:
            push = DRIVERS[column.name](norm.ppf(mass.cumsum() - mass / 2))
            push = (push - mass @ push) / np.sqrt(mass @ push**2 - (mass @ push) ** 2)
            logit = logit + effect * push[codes[column.name]]
    codes["bought"] = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return codes


def measured(
    codes: dict[str, NDArray[np.int64]],
    queries: Sequence[Query],
    sd: float,
    rng: np.random.Generator,
) -> Iterator[Measurement]:
    """Tables of a feature by a target; users that a party lacks are in its last place."""
    known: dict[tuple[str, object], tuple[NDArray[np.int64], int]] = {}

    def places(name: str, query: Query) -> tuple[NDArray[np.int64], int]:
        """Every user's place along a column, and how many places there are."""
        side = next(s for s in query.sides if name in s.columns)
        if (name, side.groups) not in known:
            group = np.array(side.groups[side.columns.index(name)])
            size = int(group[-1]) + 2
            at = np.where(AT[side.party], group[codes[name]], size - 1)
            known[name, side.groups] = at, size
        return known[name, side.groups]

    for query in queries:
        (row, rows), (column, columns) = (places(name, query) for name in query.columns)
        counts = np.bincount(row * columns + column, minlength=rows * columns)
        values = (counts + np.rint(rng.normal(0, sd, counts.shape))).reshape(rows, columns)
        values[-1, -1] = 0
        values = values if query.is_cross else values[:-1, :-1]
        yield Measurement(query=query, values=values, variance=sd**2)
