"""Raking against slow oracles: weights meet the tables as their noise deserves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.synthesis.experiment import LAYOUT, PAIRS, measured, world
from twinweave.synthesis import rake as raking
from twinweave.synthesis.conf import RakeConf
from twinweave.synthesis.rake import constraints, rake
from twinweave.synthesis.tilting import Constraint
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side


def iterative_proportional_fitting(
    table: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any]
) -> NDArray[np.float64]:
    for _ in range(500):
        table = table * (rows / table.sum(axis=1))[:, None]
        table = table * (columns / table.sum(axis=0))
    return table


def test_weights_under_exact_margins_are_those_of_proportional_fitting() -> None:
    rng = np.random.default_rng(3)
    codes = rng.choice(6, 5000, p=[0.3, 0.1, 0.1, 0.1, 0.2, 0.2])
    first, second = codes // 2, codes % 2
    rows, columns = np.array([0.5, 0.2, 0.3]), np.array([0.6, 0.4])
    wanted = [
        Constraint(name=n, cells=c.astype(np.int32), target=t, variance=np.full(len(t), 1e-12))
        for n, c, t in (("rows", first, rows), ("columns", second, columns))
    ]
    found = rake(wanted, 5000, 5000, RakeConf(strength=1.0, steps=200))
    table = np.bincount(codes, found.weights, 6).reshape(3, 2)
    start = np.bincount(codes, minlength=6).reshape(3, 2) / 5000
    assert np.allclose(table, iterative_proportional_fitting(start, rows, columns), atol=1e-5)
    assert found.effective < 5000


def test_raking_weighs_misfit_by_the_noise_it_knows() -> None:
    """Two measurements of one table that disagree: the result sits nearer the precise one."""
    cells = np.repeat(np.arange(2, dtype=np.int32), 500)
    precise = Constraint(
        name="p", cells=cells, target=np.array([0.7, 0.3]), variance=np.full(2, 1e-6)
    )
    vague = Constraint(
        name="v", cells=cells, target=np.array([0.3, 0.7]), variance=np.full(2, 1e-2)
    )
    found = rake([precise, vague], 1000, 1000, RakeConf(strength=1e-3, steps=200))
    assert found.weights[:500].sum() == pytest.approx(0.7, abs=1e-3)
    assert found.misfit["p"] < 1.5 < found.misfit["v"]
    kept = rake([precise, vague], 1000, 1000, RakeConf(strength=1e6, steps=200))
    assert kept.weights[:500].sum() == pytest.approx(0.5, abs=1e-3)
    assert kept.effective == pytest.approx(1000, rel=1e-3)


def test_a_table_that_the_candidates_contradict_is_met_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three rows in a hundred hold a pair that the table says nobody has; their own distribution
    counts for as much as the table. The variant that trusts it alike for every table is caught."""
    cells = np.zeros(2000, np.int32)
    cells[::33] = 1
    empty = Constraint(
        name="pair", cells=cells, target=np.array([1.0, 0.0]), variance=np.full(2, 30.0 / 2000**2)
    )

    def misfit() -> float:
        return rake([empty], 2000, 2000, RakeConf(strength=1.0)).misfit["pair"]

    assert misfit() < 2
    monkeypatch.setattr(raking, "CONTRADICTED", np.inf)
    assert misfit() > 4


def test_a_linear_constraint_takes_signed_amounts() -> None:
    """Demographic parity as one functional: rate at group 1 less rate at group 0 is zero."""
    rng = np.random.default_rng(4)
    group = rng.integers(0, 2, 4000)
    label = rng.random(4000) < 0.3 + 0.3 * group
    amount = label * np.where(group == 1, 1 / group.mean(), -1 / (1 - group.mean()))
    groups = Constraint(
        name="group",
        cells=group.astype(np.int32),
        variance=np.full(2, 1e-9),
        target=np.bincount(group) / 4000,
    )
    parity = Constraint(
        name="parity",
        cells=np.zeros(4000, np.int32),
        target=np.zeros(1),
        variance=np.full(1, 1e-9),
        amount=amount,
    )

    def gap(wanted: list[Constraint]) -> float:
        w = rake(wanted, 4000, 4000, RakeConf(strength=0.1, steps=200)).weights
        rates = [np.average(label[group == g], weights=w[group == g]) for g in (0, 1)]
        return float(rates[1] - rates[0])

    assert gap([groups]) > 0.25
    assert abs(gap([groups, parity])) < 1e-3


def test_value_sums_and_the_corner_are_no_targets() -> None:
    rows = world(300, seed=16)
    tables = measured(rows, PAIRS, 0, 17)
    weighted = Query(
        sides=(Side(party="ads", columns=("arm",)), Side(party="shop", weight="spend"))
    )
    extra = Measurement(query=weighted, values=np.zeros((3, 1)), variance=1.0)
    wanted = constraints([*tables, extra], LAYOUT, rows, 300)
    assert len(wanted) == len(tables)
    assert [len(c.target) for c in wanted][-2:] == [8, 20]
    exact = rake(wanted, 300, 300, RakeConf(steps=5))
    assert np.allclose(exact.weights, 1 / 300)
    assert exact.effective == pytest.approx(300)


def test_broken_raking_that_forgets_the_variance_is_caught() -> None:
    """Every constraint taken as equally noisy: the precise one is no longer met."""
    cells = np.repeat(np.arange(2, dtype=np.int32), 500)
    wanted = [
        Constraint(name=str(v), cells=cells, target=np.array([t, 1 - t]), variance=np.full(2, v))
        for t, v in ((0.7, 1e-6), (0.3, 1e-2))
    ]
    equal = [replace(c, variance=np.full(2, 1e-4)) for c in wanted]
    assert rake(wanted, 1000, 1000, RakeConf(steps=200)).weights[:500].sum() > 0.69
    assert rake(equal, 1000, 1000, RakeConf(steps=200)).weights[:500].sum() < 0.55
