"""People of two parties whose rates and regression are known, and intervals held against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.infer import Inference, infer
from twinweave.synthesis.population import row_counts
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.contingency import ABSENT
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, cells_of, query_over

if TYPE_CHECKING:
    import pandas as pd

KEY = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
SCHEMA = JointSchema(
    schemas=(
        Schema(
            party="ads",
            columns=(
                KEY,
                Column(
                    name="arm",
                    kind=Kind.CATEGORICAL,
                    role=Role.MEMBERSHIP,
                    levels=("control", "test"),
                ),
                Column(name="age", kind=Kind.CATEGORICAL, levels=("0", "1", "2")),
            ),
        ),
        Schema(
            party="shop",
            columns=(
                KEY,
                Column(name="bought", kind=Kind.BOOLEAN, role=Role.CONVERSION),
                Column(name="loyal", kind=Kind.BOOLEAN),
            ),
        ),
    )
)
LAYOUT = UnionLayout.of(SCHEMA)

ARM, LOYAL, AGE = 0.5, 0.4, 0.3
"""True coefficients of a logistic regression of bought, beside the world's intercept."""

MEASURED = tuple(
    query
    for columns in (
        ("arm",),
        ("age",),
        ("arm", "age"),
        ("loyal", "bought"),
        ("arm", "bought"),
        ("age", "bought"),
        ("arm", "loyal"),
        ("age", "loyal"),
    )
    if (query := query_over(SCHEMA, *columns, priority=set(columns) == {"arm", "bought"}))
)
"""All pairs, no three columns."""

PAIRS: tuple[str, ...] = ("arm", "age", "loyal", "bought")


@dataclass(frozen=True, kw_only=True)
class World:
    """n: users of the union. intercept: of bought. sigma: of the noise of every cell."""

    name: str
    n: int
    intercept: float
    sigma: float

    def people(self, rng: np.random.Generator) -> Rows:
        arm = rng.integers(0, 2, self.n)
        age = rng.choice(3, self.n, p=(0.5, 0.3, 0.2))
        loyal = (rng.random(self.n) < 0.3 + 0.1 * age).astype(int)
        bought = rng.random(self.n) < _chance(self.intercept, arm, loyal, age)
        kind = rng.choice(3, self.n, p=(0.6, 0.25, 0.15))
        presence = np.stack([kind != 2, kind != 1], axis=1)
        by_name = {"arm": arm, "age": age, "loyal": loyal, "bought": bought}
        codes = np.stack([by_name[n] for n in LAYOUT.names], axis=1).astype(np.int32)
        codes[~LAYOUT.visible(presence)] = ABSENT
        return Rows(codes=codes, presence=presence)

    def measured(self, rows: Rows, rng: np.random.Generator) -> list[Measurement]:
        return [self._noisy(query, row_counts(query, LAYOUT, rows), rng) for query in MEASURED]

    def _noisy(
        self, query: Query, counts: NDArray[np.int64], rng: np.random.Generator
    ) -> Measurement:
        cells = cells_of(SCHEMA, query)
        told = cells.opened(counts + rng.normal(0, self.sigma, counts.shape))
        return Measurement(query=query, values=cells.table(told), variance=self.sigma**2)

    def truth(self) -> dict[str, float]:
        """Of every number of `rates` and `regression`, for the people the users are a sample of."""
        age, loyal = np.meshgrid(np.arange(3), np.arange(2), indexing="ij")
        share = np.array([0.5, 0.3, 0.2])[:, None] * np.where(
            loyal == 1, 0.3 + 0.1 * age, 0.7 - 0.1 * age
        )
        control, test = (
            float((share * _chance(self.intercept, a, loyal, age)).sum()) for a in (0, 1)
        )
        lifts = {"rate": test, "difference": test - control}
        return {**lifts, "arm": ARM, "loyal": LOYAL, "age": AGE}


MILD = World(name="noise below sampling", n=6000, intercept=-2.0, sigma=10.0)
NOISY = World(name="noise above sampling", n=6000, intercept=-2.0, sigma=40.0)
RARE = World(name="rare outcome", n=6000, intercept=-4.0, sigma=10.0)


def _chance(
    intercept: float, arm: int | NDArray[np.int64], loyal: NDArray[np.int64], age: NDArray[np.int64]
) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-(intercept + ARM * arm + LOYAL * loyal + AGE * age))))


def rates(table: pd.DataFrame) -> dict[str, float]:
    """Of those that both parties have: rate of bought in test, and less that in control."""
    both = table.dropna()
    bought = both["bought"].to_numpy(dtype=bool)
    test = both["arm"].to_numpy() == "test"
    high, low = float(bought[test].mean()), float(bought[~test].mean())
    return {"rate": high, "difference": high - low}


def regression(table: pd.DataFrame) -> dict[str, float]:
    """Coefficients of a logistic regression of bought, of those that both parties have."""
    x, y = design(table)
    beta, _ = logistic(x, y)
    return dict(zip(("arm", "loyal", "age"), beta[1:].tolist(), strict=True))


def design(table: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, 4) constant, arm, loyal, age; and bought (n,)."""
    both = table.dropna()
    columns = (
        np.ones(len(both)),
        both["arm"].to_numpy() == "test",
        both["loyal"].to_numpy(dtype=bool),
        both["age"].to_numpy(dtype=float),
    )
    return np.stack(columns, axis=1).astype(float), both["bought"].to_numpy(dtype=float)


def logistic(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Newton's method on distinct rows: coefficients, and their covariance were rows people."""
    kinds, at = np.unique(x, axis=0, return_inverse=True)
    n = np.bincount(at.ravel(), minlength=len(kinds))
    hits = np.bincount(at.ravel(), y, minlength=len(kinds))
    beta = np.zeros(x.shape[1])
    for _ in range(25):
        p = 1 / (1 + np.exp(-kinds @ beta))
        information = (kinds * (n * p * (1 - p))[:, None]).T @ kinds
        step = np.linalg.solve(information, kinds.T @ (hits - n * p))
        beta += step
        if np.abs(step).max() < 1e-9:
            break
    return beta, np.linalg.inv(information)


Asked = tuple[Callable[["pd.DataFrame"], Mapping[str, float]], tuple[str, ...], int | None]
ASKED: tuple[Asked, ...] = ((rates, ("arm", "bought"), None), (regression, PAIRS, 2))


def inferred(
    world: World, rng: np.random.Generator, *, m: int = 20, asked: tuple[Asked, ...] = ASKED
) -> tuple[list[Inference], list[Measurement], Rows]:
    """One replicate: people, noisy tables, and what is inferred from the tables alone."""
    rows = world.people(rng)
    tables = world.measured(rows, rng)
    sizes = dict(zip(LAYOUT.parties, rows.presence.sum(axis=0).tolist(), strict=True))
    seed = int(rng.integers(2**31))
    found = [
        infer(SCHEMA, tables, sizes, what, columns=columns, order=order, m=m, level=0.95, seed=seed)
        for what, columns, order in asked
    ]
    return found, tables, rows
