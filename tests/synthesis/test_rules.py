"""Synthetic rows keep the rules between columns, and the tables that agree with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.synthesis.experiment import LAYOUT, PAIRS, QUICK, measured, sizes_of, world
from twinweave.errors import SourceError
from twinweave.generators.union import Rows
from twinweave.synthesis.synthesise import Task, more_rows, synthesise
from twinweave.tables.rules import Combination, Derived, Rules

SPEND_OF_VISITORS = Combination(columns=("visit", "spend"), codes=((0,), (1, 2, 3)))
VISITORS_SPEND = Combination(columns=("visit", "spend"), codes=((1,), (0,)))
ARM_BY_REGION = Combination(columns=("arm", "region"), codes=((1,), (2,)))
"""The world keeps the first two; the third, across parties, is made true of it."""

RULES = Rules(
    impossible=(SPEND_OF_VISITORS, VISITORS_SPEND, ARM_BY_REGION),
    derived=(Derived(column="spend", follows="visit", codes=(0, -1)),),
)
RULED = replace(LAYOUT, rules=RULES)


def people() -> Rows:
    rows = world(3000, seed=8)
    at = [LAYOUT.names.index(n) for n in ("region", "arm")]
    kept = ~((rows.codes[:, at[0]] == 2) & (rows.codes[:, at[1]] == 1))
    return rows.take(np.flatnonzero(kept))


def task(layout: object = RULED) -> Task:
    rows = people()
    quick = replace(QUICK, fit=replace(QUICK.fit, free_steps=20))
    return Task(
        layout=layout,  # type: ignore[arg-type]
        measurements=measured(rows, PAIRS, 10, 9),
        sizes=sizes_of(rows),
        conf=quick,
        seed=1,
    )


def test_no_row_breaks_a_rule() -> None:
    """The broken variant: the same tables without the rules."""
    ruled, free = synthesise(None, task()), synthesise(None, task(LAYOUT))
    assert RULES.possible(LAYOUT.names, ruled.rows.codes).all()
    assert not RULES.possible(LAYOUT.names, free.rows.codes).all()
    assert sizes_of(ruled.rows) == task().sizes
    assert max(ruled.misfit.values()) < 2
    more = more_rows(ruled.source, task(), 500, {}).rows
    assert len(more) == 500
    assert RULES.possible(LAYOUT.names, more.codes).all()


def test_rules_that_no_row_keeps_end_the_run_by_name() -> None:
    never = tuple(
        Combination(columns=("visit", "spend"), codes=((visit,), (0, 1, 2, 3))) for visit in (0, 1)
    )
    nobody = tuple(
        Combination(columns=("region", "arm"), codes=((0, 1, 2), (arm,))) for arm in (0, 1)
    )
    layout = replace(LAYOUT, rules=Rules(impossible=never + nobody))
    with pytest.raises(SourceError, match="rules between columns"):
        synthesise(None, task(layout))
