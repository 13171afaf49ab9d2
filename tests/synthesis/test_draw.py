"""More rows meet the measurements as a run's own do; given a level, they are the conditional."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from tests.synthesis.experiment import (
    LAYOUT,
    LIFT,
    PAIRS,
    QUICK,
    lift_of,
    measured,
    sizes_of,
    world,
)
from twinweave.errors import SourceError
from twinweave.generators.union import Rows
from twinweave.synthesis import draw
from twinweave.synthesis.population import row_counts
from twinweave.synthesis.rake import Raked
from twinweave.synthesis.synthesise import SynthesisResult, Task, more_rows, synthesise
from twinweave.workload.measurement import Measurement

NOISE = 10.0
ARM = LAYOUT.names.index("arm")


ROUGH = replace(QUICK, fit=replace(QUICK.fit, latents=100, free_steps=40))
"""A fit that leaves something for the weights to do."""


@pytest.fixture(scope="module")
def fitted() -> tuple[Task, SynthesisResult]:
    rows = world(3000, seed=8)
    task = Task(
        layout=LAYOUT,
        measurements=measured(rows, PAIRS, NOISE, 9),
        sizes=sizes_of(rows),
        conf=ROUGH,
        seed=1,
    )
    return task, synthesise(None, task)


def misfit(rows: Rows, measurements: Sequence[Measurement], users: float) -> float:
    """Chi-square a cell of the rows' tables, scaled to the union, against the measured ones."""
    off = [
        (np.ravel(row_counts(m.query, LAYOUT, rows)) * users / len(rows) - m.values.ravel()) / NOISE
        for m in measurements
    ]
    return float((np.concatenate(off) ** 2).mean())


def test_more_rows_meet_the_measurements_as_the_runs_own_do(
    fitted: tuple[Task, SynthesisResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, result = fitted
    users = float(result.population.users.sum())
    own = misfit(result.rows, task.measurements, users)
    for seed, n in ((5, 3000), (6, 15_000)):
        more = more_rows(result.source, replace(task, seed=seed), n, {}).rows
        assert len(more) == n
        assert misfit(more, task.measurements, users) < 1.3 * own
        assert lift_of(more) == pytest.approx(LIFT, abs=0.03)
    # The broken variant: candidates as they were offered, not weighed to meet the tables.
    monkeypatch.setattr(draw, "rake", _even)
    more = more_rows(result.source, replace(task, seed=5), 3000, {}).rows
    assert misfit(more, task.measurements, users) > 3 * own


def test_a_few_rows_are_drawn_from_the_same_distribution(
    fitted: tuple[Task, SynthesisResult],
) -> None:
    """Rows drawn in step vary less than independent ones: at most 1e-4 of honest draws fail."""
    task, result = fitted
    drawn = [more_rows(result.source, replace(task, seed=s), 100, {}).rows for s in range(10)]
    assert agree(Rows.joined(drawn), result.rows)


def test_given_a_level_rows_are_the_conditional_distribution(
    fitted: tuple[Task, SynthesisResult],
) -> None:
    task, result = fitted
    given = {ARM: np.array([1], dtype=np.int32)}
    more = more_rows(result.source, replace(task, seed=7), 3000, given).rows
    assert (more.codes[:, ARM] == 1).all()
    inside = result.rows.take(np.flatnonzero(result.rows.codes[:, ARM] == 1))
    assert agree(more, inside)
    # The broken variant: the other columns as they are in the other arm.
    others = result.rows.take(np.flatnonzero(result.rows.codes[:, ARM] == 0))
    codes = others.codes.copy()
    codes[:, ARM] = 1
    assert not agree(replace(others, codes=codes), inside)


def test_rare_levels_are_offered_for_until_there_are_enough(
    fitted: tuple[Task, SynthesisResult],
) -> None:
    task, result = fitted
    given = {i: np.array([c], dtype=np.int32) for i, c in enumerate((2, 1, 1, 3))}
    more = more_rows(result.source, replace(task, seed=3), 1000, given).rows
    assert len(more) == 1000
    assert (more.codes == (2, 1, 1, 3)).all()


def test_the_seed_decides(fitted: tuple[Task, SynthesisResult]) -> None:
    task, result = fitted
    rows = [more_rows(result.source, replace(task, seed=s), 50, {}).rows.codes for s in (1, 1, 2)]
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


def test_levels_that_nobody_has_together_are_refused(
    fitted: tuple[Task, SynthesisResult],
) -> None:
    task, result = fitted
    with pytest.raises(SourceError, match="no synthetic row"):
        more_rows(result.source, task, 10, {0: np.array([], dtype=np.int32)})


def _even(tables: object, n: int, users: float, conf: object) -> Raked:
    return Raked(weights=np.full(n, 1 / n), effective=float(n), misfit={})


def agree(rows: Rows, other: Rows) -> bool:
    """Two-sample chi-square over all that a row is; p above 1e-4."""
    counts = np.stack([_kinds(rows), _kinds(other)]).astype(np.float64)
    counts = counts[:, counts.sum(axis=0) >= 10]
    n, m = counts.sum(axis=1)
    apart = (np.sqrt(m / n) * counts[0] - np.sqrt(n / m) * counts[1]) ** 2 / counts.sum(axis=0)
    return bool(chi2.sf(apart.sum(), counts.shape[1] - 1) > 1e-4)


def _kinds(rows: Rows) -> NDArray[np.int64]:
    sizes = [s + 1 for s in LAYOUT.sizes]  # absent is a kind of its own
    codes = np.where(rows.codes < 0, np.array(LAYOUT.sizes), rows.codes)
    place = np.ravel_multi_index(tuple(codes.T), sizes)
    found = np.bincount(place, minlength=int(np.prod(sizes)))
    return cast("NDArray[np.int64]", found)
