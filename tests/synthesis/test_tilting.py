"""Newton's optimum and strata against the slow ways to the same weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.synthesis.experiment import LAYOUT, PAIRS, measured, world
from twinweave.synthesis import rake as module
from twinweave.synthesis.conf import RakeConf
from twinweave.synthesis.rake import constraints, rake
from twinweave.synthesis.tilting import Constraint, Tables, optimum, potentials, strata

FIRST = tuple(
    replace(q, priority=q.columns in (("arm", "visit"), ("region", "arm", "visit"))) for q in PAIRS
)


def wanted(sigma: float) -> list[Constraint]:
    """Tables of one world as constraints of candidates of another."""
    rows = world(4000, seed=51)
    return constraints(measured(rows, FIRST, sigma, 52), LAYOUT, world(3000, seed=53), 4000)


def test_newton_ends_where_many_steps_of_descent_do() -> None:
    tables = Tables(wanted(20.0), 3000)
    target = np.concatenate([c.target for c in tables.wanted])
    slack = 0.3 * 4000 * np.concatenate([c.variance for c in tables.wanted])
    start = np.zeros(len(target))
    newton = tables.tilt(optimum(tables, target, slack, start))[0]
    descent = tables.tilt(potentials(tables, target, slack, start, 2000))[0]
    assert np.abs(newton - descent).max() < 1e-3 * newton.max()


def test_strata_have_the_tables_of_their_rows() -> None:
    first = [c for c in wanted(20.0) if c.priority]
    weights = np.random.default_rng(54).gamma(2.0, size=3000)
    weights /= weights.sum()
    few = strata(first, weights)
    assert few.n < 40
    np.testing.assert_allclose(few.sums(few.base), Tables(first, 3000).sums(weights))


def unmet() -> float:
    """Largest misfit of a priority table after two steps of descent."""
    tables = wanted(2.0)
    found = rake(tables, 3000, 4000, RakeConf(steps=2))
    return max(found.misfit[c.name] for c in tables if c.priority)


def test_priority_tables_are_met_however_few_the_steps() -> None:
    assert unmet() < 2


def test_broken_raking_without_its_last_step_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "optimum", lambda tables, target, slack, start: start)
    assert unmet() > 2
