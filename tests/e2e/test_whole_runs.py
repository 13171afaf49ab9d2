"""A whole run with every generator, through the server's own end: tables, report, ledger."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import twinweave
from scripts import sample
from server import outputs
from tests.campaigns import GENERATORS, mapping
from tests.whole_run import serve
from twinweave import rundir
from twinweave.errors import SourceError
from twinweave.parsing import parse
from twinweave.tables.loading import load_cleaned
from twinweave.tables.sources import Source

EPSILON = 4.0


def configured(folder: Path, name: str | None) -> dict[str, Any]:
    data = mapping(folder / "out", f"privacy.epsilon={EPSILON}", "protocol.alignment=prf")
    # Every row in every batch: the accounting of a sampled batch takes longer than the run.
    data["generator"] = GENERATORS[name] | {"expected_batch": 300} if name else None
    data["synthesis"]["fit"] |= {"latents": 64, "network_steps": 5, "free_steps": 30}
    return data


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that ended well."""

    generator: str
    folder: Path
    run: rundir.Run


@pytest.fixture(scope="module", params=sorted(GENERATORS))
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = serve(configured(tmp_path_factory.mktemp(request.param), request.param))
    return Ended(generator=request.param, folder=folder, run=twinweave.load(folder))


def test_the_synthetic_tables_are_tables_of_the_schema(ended: Ended) -> None:
    """Each is read back as a party reads its own: not one cell is unknown or clipped."""
    joint = ended.run.synthetic()
    sizes = ended.run.report["sizes"]
    assert max(sizes.values()) <= len(joint) <= 1.5 * sum(sizes.values())
    for party in ended.run.schema.parties:
        schema = ended.run.schema.schema(party)
        path = ended.folder / rundir.SYNTHETIC / f"{party}.parquet"
        source = parse(Source, {"kind": "parquet", "path": str(path)})
        cleaned = load_cleaned(source, schema, party)
        assert list(pd.read_parquet(path)) == [schema.key.name, *schema.names]
        assert cleaned.report.rows_read == cleaned.report.rows_kept == len(cleaned.frame)
        assert {c for of in cleaned.report.changed.values() for c in of} <= {"missing: level"}
        assert abs(len(cleaned.frame) - sizes[party]) < 0.5 * sizes[party]
        for column in schema.names:
            assert cleaned.frame[column].nunique() > 1, column


def test_the_report_has_every_part(ended: Ended) -> None:
    report = ended.run.report
    assert set(report) >= {"privacy", "lift", "synthetic", "measured", "who_sees_what", "files"}
    assert report["lift"]["conversions"]
    assert report["synthetic"]["generator"] == ended.generator
    assert report["privacy"]["budget"]["epsilon"] == EPSILON
    assert report["privacy"]["spent"] == ended.run.ledger["epsilon"]
    assert all(Path(path).exists() for path in report["files"].values())
    text = (ended.folder / rundir.LOG).read_text()
    assert "epsilon" in text


def test_the_ledger_stays_within_the_budget_and_counts_the_training(ended: Ended) -> None:
    ledger = ended.run.ledger
    assert 0.9 * EPSILON < ledger["epsilon"] <= EPSILON * (1 + 1e-6)
    stages = ledger["epsilon_by_stage"]
    assert stages["training"] > 0
    assert stages["measurement"] > stages["training"]
    assert set(ledger["epsilon_by_party"]) == {"publisher", "advertiser"}


def test_the_weights_moved_and_are_finite(ended: Ended) -> None:
    weights = np.load(ended.folder / rundir.WEIGHTS)
    assert np.isfinite(weights).all()
    assert np.abs(weights).max() > 0


def plain_types(table: pd.DataFrame) -> dict[str, str]:
    """Type of every column, nullable or not: who is asked for has no missing cells here."""
    return {str(name): str(dtype).lower() for name, dtype in table.dtypes.items()}


def test_more_rows_are_drawn_from_a_finished_run(ended: Ended, tmp_path: Path) -> None:
    """As a notebook does, and by the command; alike under the same seed."""
    given = {"arm": "test", "region": ["north", "south"]}
    rows = ended.run.sample(200, seed=3, given=given)
    own = ended.run.synthetic()
    assert list(rows) == list(own)
    assert plain_types(rows) == plain_types(own)
    assert len(rows) == 200
    assert set(rows["arm"]) == {"test"}
    assert set(rows["region"]) == {"north", "south"}
    assert rows["age"].between(18, 90).all()
    out = tmp_path / "more.parquet"
    options = "--rows 200 --seed 3 --given arm=test --given region=north --given region=south"
    assert sample.main([str(ended.folder), *options.split(), "--out", str(out)]) == 0
    pd.testing.assert_frame_equal(pd.read_parquet(out), rows)


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ("--rows 5 --given arm=nobody --out a.csv", 11, "Its levels: control, test, neither"),
        ("--rows 5 --given team=red --out a.csv", 11, "Columns: "),
        ("--rows 5 --given arm --out a.csv", 11, "--given arm=test"),
        ("--rows 0 --out a.csv", 11, "one row or more"),
        ("--rows 5 --out a.xlsx", 11, ".csv or .parquet"),
        ("--rows 5 --out no/such/folder/a.csv", 14, "cannot be written"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    ended: Ended, options: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample.main([str(ended.folder), *options.split()]) == code
    assert says in capsys.readouterr().err


def test_a_run_that_breaks_at_its_very_end_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever writes the last line of the summary: the run fails aloud and cannot be opened."""

    def broken(*_: object, **__: object) -> str:
        raise RuntimeError("the end")

    monkeypatch.setattr(outputs, "brief", broken)
    data = configured(tmp_path, "tvae")
    with pytest.raises(RuntimeError, match="the end"):
        serve(data)
    status = json.loads((Path(data["output"]) / rundir.STATUS).read_text())
    assert status["state"] == "failed"
    assert "the end" in status["error"]
    run = twinweave.load(data["output"])
    assert run.status == "failed"
    assert run.ledger["epsilon"] > 0  # what was paid for is there
    with pytest.raises(SourceError, match="did not finish"):
        run.synthetic()


def test_a_run_without_a_generator_measures_and_reports(tmp_path: Path) -> None:
    run = twinweave.load(serve(configured(tmp_path, None)))
    assert run.report["synthetic"] is None
    assert run.report["lift"]["conversions"]
    assert 0.9 * EPSILON < run.ledger["epsilon"] <= EPSILON * (1 + 1e-6)
    with pytest.raises(SourceError, match="had no generator"):
        run.sample(10)
    with pytest.raises(SourceError, match="generator"):
        run.synthetic()
