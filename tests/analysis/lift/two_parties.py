"""Two arms and one conversion whose true lift is known, drawn as tables and not as users: fast.

Each replicate draws a new experiment from the scenario's true rates and adds noise to its tables.
`experiments.py` has whole runs' tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.results import Comparison
from twinweave.privacy.accountant import gaussian_mu
from twinweave.tables.column import VALUE_UNITS, Column, Kind, Role
from twinweave.tables.encoding import column_codes, value_units
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side

Sampler = Callable[[Generator, int], NDArray[np.float64]]

DELTA = 1e-5
SPEND_BOUND = 500.0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """An experiment whose truth is known.

    n: users in control and in test; rates: of the conversion in each. known: share of users
    whom the conversion's party holds. spend: amount of one converted user, or None.
    """

    name: str
    n: tuple[int, int]
    rates: tuple[float, float]
    known: float = 0.7
    spend: Sampler | None = None


def _spend(rng: Generator, size: int) -> NDArray[np.float64]:
    """Skewed amounts like Hillstrom's: median about 80, clipped at the bound."""
    return np.minimum(29 + rng.gamma(0.8, 110.0, size), SPEND_BOUND)


SCENARIOS = (
    Scenario(name="hillstrom visit", n=(21_300, 21_300), rates=(0.106, 0.183)),
    Scenario(name="hillstrom conversion", n=(21_300, 21_300), rates=(0.0057, 0.0125)),
    Scenario(name="campaign", n=(7_000, 7_000), rates=(0.06, 0.09)),
    Scenario(name="small", n=(900, 600), rates=(0.02, 0.03)),
    Scenario(name="hillstrom spend", n=(21_300, 21_300), rates=(0.0057, 0.0125), spend=_spend),
)

SCHEMA = JointSchema(
    schemas=(
        Schema(
            party="a",
            columns=(
                Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY),
                Column(
                    name="segment",
                    kind=Kind.CATEGORICAL,
                    role=Role.MEMBERSHIP,
                    levels=("control", "test", "neither"),
                ),
            ),
        ),
        Schema(
            party="b",
            columns=(
                Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY),
                Column(name="converted", kind=Kind.BOOLEAN, role=Role.CONVERSION),
                Column(
                    name="spend", kind=Kind.CONTINUOUS, role=Role.VALUE, bounds=(0.0, SPEND_BOUND)
                ),
            ),
        ),
    )
)

CONF = LiftConf(
    membership="segment",
    test=("test",),
    control=("control",),
    conversions=("converted",),
    values=("spend",),
    k=20,
)

SEGMENT = Side(party="a", columns=("segment",))
CROSS = Query(sides=(SEGMENT, Side(party="b", columns=("converted",))), priority=True)
SIZES = Query(sides=(SEGMENT,))
SPENT = Query(sides=(SEGMENT, Side(party="b", weight="spend")), priority=True)
AMOUNTS = Query(sides=(Side(party="b", columns=("spend",)),), priority=True)


def priority_sigma(epsilon: float, *, share: float = 0.25, tables: int = 4) -> float:
    """Noise multiplier of each of `tables` releases that together have `share` of 1/sigma**2.

    The whole is one Gaussian release of (epsilon, DELTA) (Balle & Wang 2018).
    """
    return sqrt(tables / share) / gaussian_mu(epsilon, DELTA)


def replicate(scenario: Scenario, sigma: float, rng: Generator) -> list[Measurement]:
    """One experiment and its noisy tables, every one with noise multiplier `sigma`."""
    counts, spent, amounts = _experiment(scenario, rng)
    tables = [
        _binomial(CROSS, counts, sigma, rng),
        _gaussian(SIZES, counts[:-1].sum(axis=1), sigma, rng),
    ]
    if scenario.spend:
        tables += [
            _gaussian(SPENT, spent, sigma * VALUE_UNITS, rng),
            _gaussian(AMOUNTS, amounts, sigma, rng),
        ]
    return tables


def truth(scenario: Scenario) -> float:
    """True difference of what `finding` reports."""
    lift = scenario.rates[1] - scenario.rates[0]
    if scenario.spend is None:
        return lift
    return lift * float(scenario.spend(np.random.default_rng(0), 4_000_000).mean())


def finding(scenario: Scenario, tables: Sequence[Measurement]) -> Comparison | None:
    """What the report says of the scenario's outcome; None when it is suppressed."""
    report = analyse(SCHEMA, tables, CONF)
    return report.values[0].overall if scenario.spend else report.conversions[0].overall


def _experiment(
    scenario: Scenario, rng: Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Exact tables: counts (4, 3), sums of amounts (4, 1), and amounts by bin (bins,)."""
    counts = np.zeros((4, 3), dtype=np.int64)
    counts[2:] = [[5_000, 500, 2_000], [3_000, 300, 0]]
    column = SCHEMA.column("spend")
    sums, bins = np.zeros((4, 1), dtype=np.int64), np.zeros(column.size, dtype=np.int64)
    for arm, (n, rate) in enumerate(zip(scenario.n, scenario.rates, strict=True)):
        converted = rng.binomial(n, rate)
        unknown = min(rng.binomial(n, 1 - scenario.known), n - converted)
        counts[arm] = n - converted - unknown, converted, unknown
        if scenario.spend:
            spent = scenario.spend(rng, converted)
            draws = rng.integers(0, 1 << 64, converted, dtype=np.uint64)
            sums[arm] = value_units(column, spent, None, draws).sum()
            bins += np.bincount(column_codes(column, pd.Series(spent)), minlength=column.size)
            bins[0] += n - converted - unknown
    return counts, sums, bins


def _binomial(query: Query, exact: NDArray[np.int64], sigma: float, rng: Generator) -> Measurement:
    """Shared coins: Binomial(coins, 1/2) - coins/2, of variance coins/4."""
    coins = round(4 * sigma**2)
    values = exact + rng.binomial(coins, 0.5, exact.shape) - coins / 2
    if query.is_cross:
        values[-1, -1] = 0.0
    return Measurement(query=query, values=values, variance=coins / 4)


def _gaussian(query: Query, exact: NDArray[np.int64], scale: float, rng: Generator) -> Measurement:
    values = exact + np.rint(rng.normal(0, scale, exact.shape))
    return Measurement(query=query, values=values, variance=scale**2 + 1 / 12)
