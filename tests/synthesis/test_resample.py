"""Whole rows from weights: rounded up or down, then exchanged towards the tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.synthesis.experiment import LAYOUT, PAIRS, measured, world
from twinweave.generators.union import Rows
from twinweave.synthesis import resample as module
from twinweave.synthesis.rake import constraints
from twinweave.synthesis.resample import exchange, resample
from twinweave.synthesis.tilting import Constraint, Tables


def all_alike(rows: Rows) -> NDArray[np.bool_]:
    """As if all had the same presence, so that any may be swapped for any."""
    return np.ones((len(rows), 1), dtype=bool)


def test_resampling_rounds_each_weight_up_or_down() -> None:
    rows = world(500, seed=5)
    weights = np.random.default_rng(6).exponential(size=500)
    weights /= weights.sum()
    index = resample(weights, rows, 2000, np.random.default_rng(7))
    count = np.bincount(index, minlength=500)
    assert len(index) == 2000
    assert (np.abs(count - 2000 * weights) < 1).all()
    assert np.array_equal(index, resample(weights, rows, 2000, np.random.default_rng(7)))


def test_an_exchange_keeps_how_many_rows_each_party_has() -> None:
    """The broken variant: any row is swapped for any."""
    rows = world(8000, seed=20)
    wanted = constraints(measured(rows, PAIRS, 10, 21), LAYOUT, rows, 8000)
    weights = np.full(8000, 1 / 8000)
    first = np.random.default_rng(23).choice(8000, 2000)
    kept, broken = (
        exchange(first, weights, presence, wanted, 60, np.random.default_rng(24))
        for presence in (rows.presence, all_alike(rows))
    )
    assert (kept != first).sum() > 20
    assert np.array_equal(rows.presence[kept], rows.presence[first])
    assert not np.array_equal(rows.presence[broken], rows.presence[first])


def chi_square(chosen: NDArray[Any], weights: NDArray[Any], wanted: list[Constraint]) -> float:
    tables, n = Tables(wanted, len(weights)), len(chosen)
    expected = n * tables.sums(weights)
    found = tables.sums(np.bincount(chosen, minlength=len(weights)).astype(float))
    return float(((found - expected) ** 2 / (expected + 1)).mean())


def test_exchanges_bring_the_rows_closer_to_the_weighted_tables() -> None:
    rows = world(8000, seed=20)
    wanted = constraints(measured(rows, PAIRS, 10, 21), LAYOUT, rows, 8000)
    weights = np.random.default_rng(22).gamma(2, size=8000)
    weights /= weights.sum()
    first = np.random.default_rng(23).choice(8000, 2000, p=weights)
    runs = [
        exchange(first, weights, all_alike(rows), wanted, 60, np.random.default_rng(24))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert chi_square(first, weights, wanted) > 0.4  # about 1, less where cells are few
    assert chi_square(runs[0], weights, wanted) < 0.05


def test_exchanges_meet_a_functional_with_signed_amounts() -> None:
    rows = world(8000, seed=25)
    visit = (rows.codes[:, 2] == 1).astype(float)
    amount = visit * np.where(rows.codes[:, 1] == 1, 1.0, -1.0)
    level = Constraint(
        name="level",
        cells=np.zeros(8000, np.int32),
        target=np.zeros(1),
        variance=np.ones(1),
        amount=amount,
    )
    weights = np.full(8000, 1 / 8000)
    first = np.flatnonzero(amount >= 0)[:1000]
    found = exchange(first, weights, all_alike(rows), [level], 60, np.random.default_rng(26))
    assert abs(amount[first].mean() - amount.mean()) > 0.05
    assert amount[found].mean() == pytest.approx(amount.mean(), abs=0.01)


def noise_misfit(swap_all: bool, monkeypatch: pytest.MonkeyPatch) -> float:
    """Chi-square a cell, against noise of 5 rows, of a priority table among many others."""
    if swap_all:
        monkeypatch.setattr(module, "_together", all_at_once)
    rows = world(40_000, seed=27)
    pairs = [replace(q, priority=q.columns == ("arm", "visit")) for q in PAIRS]
    wanted = constraints(measured(rows, tuple(pairs), 5, 28), LAYOUT, rows, 40_000)
    weights = np.full(40_000, 1 / 40_000)
    first = np.random.default_rng(29).choice(40_000, 20_000)
    found = exchange(first, weights, all_alike(rows), wanted, 200, np.random.default_rng(30))
    table = next(c for c in wanted if c.priority)
    share = np.bincount(table.cells[found], minlength=len(table.target)) / len(found)
    return float(((share[: len(table.target)] - table.target) ** 2 / table.variance).mean())


def all_at_once(
    best: Any, missing: Any, worth: Any, old: tuple[Any, Any], new: tuple[Any, Any]
) -> tuple[Any, Any]:
    np.add.at(missing, old[0][:, best], old[1][:, best])
    np.subtract.at(missing, new[0][:, best], new[1][:, best])
    return best, missing


def test_exchanges_meet_a_priority_table_to_within_its_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert noise_misfit(False, monkeypatch) < 2


def test_broken_swaps_that_are_all_made_at_once_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each brings the tables closer by itself; together they go past them."""
    assert noise_misfit(True, monkeypatch) > 2
