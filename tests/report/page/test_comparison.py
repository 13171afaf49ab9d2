"""Runs side by side: who is on the front, and what the page and the CSV say of the others."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import compare
from tests.report.page.documents import Document
from twinweave.errors import SourceError
from twinweave.report.comparison import compared, front, runs_in
from twinweave.report.page.comparison import comparison_page
from twinweave.report.sweep import Row, note

POINTS = st.lists(st.tuples(*3 * [st.integers(0, 4)]), max_size=12)


@given(POINTS)
def test_the_front_is_whom_nobody_beats(
    points: Sequence[Sequence[int]],
) -> None:
    """By the definition, slowly: nobody is at least as good everywhere, and better somewhere."""
    found = front(points)
    for one, on in zip(points, found, strict=True):
        better = (all(a <= b for a, b in zip(p, one, strict=True)) for p in points if p != one)
        assert on is not any(better)
    assert any(found) or not points


def report(epsilon: float, tvd: float | None, parity: float, seconds: float) -> dict[str, Any]:
    fidelity = {"by_ways": [] if tvd is None else [{"ways": 2, "tvd": tvd}]}
    audits = [{"label_parity": {"value": parity}}, {"label_parity": None}]
    return {
        "data": "toys",
        "privacy": {"spent": epsilon},
        "lift": None,
        "synthetic": {"generator": "tvae", "fidelity": fidelity, "fairness": {"audits": audits}},
        "seconds": seconds,
    }


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Jobs 2 and 10 are on the front; 3 is beaten by 2; 4 failed."""
    jobs = {
        "10": report(1.0, 0.30, 0.02, 9.0),
        "2": report(1.0, 0.20, 0.05, 9.0),
        "3": report(1.0, 0.20004, 0.06, 9.04),
    }
    for name, found in jobs.items():
        (tmp_path / "sweep" / name).mkdir(parents=True)
        (tmp_path / "sweep" / name / "report.json").write_text(json.dumps(found))
        _status(tmp_path / "sweep" / name, state="finished")
    (tmp_path / "sweep" / "4").mkdir()
    _status(tmp_path / "sweep" / "4", state="failed", error="no budget left.")
    return tmp_path / "sweep"


def test_a_sweep_tells_what_was_asked_and_why_a_run_has_no_folder(sweep: Path) -> None:
    given = {"2": ("seed=1",), "3": ("seed=2",), "11": ("seed=3",)}
    for name, overrides in given.items():
        note(sweep, Row(overrides=("x=1", *overrides), folder=name, error="bad." * (name == "11")))
    rows = {row.name: row for row in compared(runs_in([sweep]))[0]}
    assert list(rows) == ["2", "3", "4", "10", "11"]
    asked = [rows[name].asked for name in ("2", "4", "11")]
    assert asked == [{"seed": "1"}, {}, {"seed": "3"}]
    assert (rows["11"].status, rows["11"].why) == ("failed", "bad.")
    (sweep / "runs.jsonl").write_text('{"folder": "2", "value": 1}')
    with pytest.raises(SourceError, match="of an earlier release"):
        runs_in([sweep])


def test_a_run_whose_tables_are_withheld_is_not_compared(sweep: Path) -> None:
    reason = {"source": "copies", "what": "too many", "remedy": "Ask for a smaller epsilon."}
    gate = {"state": "withheld", "reasons": [reason]}
    found = report(0.5, 0.1, 0.01, 1.0) | {"audit": {"gate": gate}}
    (sweep / "2" / "report.json").write_text(json.dumps(found))
    rows = {row.name: row for row in compared(runs_in([sweep]))[0]}
    assert (rows["2"].status, rows["2"].why) == ("withheld", "copies: too many")
    assert not rows["2"].front
    assert rows["3"].front


def test_an_infinite_epsilon_is_the_worst_and_in_no_picture(sweep: Path) -> None:
    told = report(1.0, 0.20, 0.05, 9.0)
    told["privacy"] = {"spent": None}
    (sweep / "3" / "report.json").write_text(json.dumps(told))
    rows, known = compared(runs_in([sweep]))
    assert known[0].key == "epsilon"
    assert {row.name for row in rows if row.front} == {"2", "10"}
    document = Document.of(comparison_page(rows, known, ["guard: off (public data)."]))
    assert document.faults == []
    assert "∞" in document.text
    assert "guard: off (public data)." in document.text


def _status(folder: Path, **told: str) -> None:
    (folder / "status.json").write_text(json.dumps(told))


def test_a_sweep_is_compared_by_what_is_shown(sweep: Path) -> None:
    rows, known = compared(runs_in([sweep]))
    assert [(row.name, row.front) for row in rows] == [
        ("2", True),
        ("3", False),
        ("4", False),
        ("10", True),
    ]
    assert [m.key for m in known] == ["epsilon", "distance", "parity", "seconds"]


def test_only_what_all_finished_runs_have_counts(sweep: Path) -> None:
    bare = report(1.0, None, 0.06, 1.0)
    (sweep / "3" / "report.json").write_text(json.dumps(bare))
    rows, known = compared(runs_in([sweep]))
    assert [m.key for m in known] == ["epsilon", "parity", "seconds"]
    assert {row.name for row in rows if row.front} == {"3", "10"}


def test_the_command_writes_page_and_csv(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert compare.main([str(sweep), "--out", str(out)]) == 0
    assert "4 runs; beaten by no other: 2, 10" in capsys.readouterr().out
    document = Document.of((out / "comparison.html").read_text())
    assert document.faults == []
    assert "2 of 4 runs are beaten by no other." in document.text
    assert "failed" in document.text
    assert [svg["class"] for svg in document.named("svg")] == ["strip"]  # ε and seconds are alike
    with (out / "comparison.csv").open(newline="") as file:
        told = {row["run"]: row for row in csv.DictReader(file)}
    assert told["2"]["on_front"] == "1"
    assert (told["4"]["status"], told["4"]["epsilon"]) == ("failed", "")
    assert told["4"]["why"] == "no budget left."
    assert compare.main([str(tmp_path / "nowhere")]) == 14
    assert "neither a run nor a sweep" in capsys.readouterr().err
