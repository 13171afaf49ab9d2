"""A run directory gives back what was written into it, and says when the run did not finish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import twinweave
from tests.analysis.lift.lift_world import SCHEMA, WORKLOAD, exact, noisy, people
from twinweave import folder, rundir
from twinweave.errors import SourceError


def test_measurements_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    users = people(500, rng)
    written = [noisy(q, exact(users, q), 2.0, rng) for q in WORKLOAD]
    rundir.write_json(tmp_path / rundir.SPEC, {"schema": SCHEMA})
    rundir.write_json(tmp_path / rundir.STATUS, {"state": "finished"})
    rundir.write_measurements(tmp_path / rundir.MEASUREMENTS, SCHEMA, written)
    run = twinweave.load(tmp_path)
    for found, expected in zip(run.measurements, written, strict=True):
        assert (found.query, found.variance) == (expected.query, expected.variance)
        np.testing.assert_array_equal(found.values, expected.values)
    cells = run.cells()
    assert len(cells) == sum(m.values.size for m in written)
    assert "query" not in cells


@pytest.mark.parametrize("torn", [True, False])
def test_measurements_that_are_gone_or_damaged_are_named(tmp_path: Path, torn: bool) -> None:
    path = tmp_path / rundir.MEASUREMENTS
    if torn:
        path.write_bytes(b"PAR1")
    with pytest.raises(SourceError, match=r"is missing or damaged. Bring it back"):
        rundir.read_measurements(path, SCHEMA)


def test_a_status_that_is_damaged_is_of_a_run_that_died(tmp_path: Path) -> None:
    (tmp_path / rundir.STATUS).write_text('{"state": ')
    assert twinweave.load(tmp_path).status == "died"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a run directory"):
        twinweave.load(tmp_path)


def test_a_run_that_died_is_not_one_that_runs(tmp_path: Path) -> None:
    folder.set_status(tmp_path, "running")
    run = twinweave.load(tmp_path)
    assert run.status == "died"
    with folder.held(tmp_path, new=False):
        assert run.status == "running"
    assert run.status == "died"
    with pytest.raises(SourceError, match=r"report.json: is not there. The run did not finish"):
        _ = run.report
    folder.set_status(tmp_path, "failed", error="one clear line", exit_code=15)
    with pytest.raises(SourceError, match="did not finish: one clear line"):
        run.cells()
