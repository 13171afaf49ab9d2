"""scripts.guard: what was spent, by party, dataset and run, composed anew; the file untouched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import guard as command
from tests.campaigns import csv_mapping
from tests.whole_run import Deployment
from twinweave.privacy import accountant
from twinweave.privacy.events import DiscreteGaussian, Event, Stage
from twinweave.privacy.guard import Guard, Limit, room

LIMIT = Limit(epsilon=2, delta=1e-6)
QUERY = Event(
    label="t",
    stage=Stage.MEASUREMENT,
    parties=("a",),
    mechanism=DiscreteGaussian(noise_multiplier=9.0),
)


def cost(times: int) -> str:
    return f"{accountant.epsilon([QUERY] * times, LIMIT.delta):.4f}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """a: three charges of two runs on `shop`, one on `club`. b: one without a limit."""
    path = tmp_path / "guard.sqlite"
    charges = [
        ("a", "shop", "run-one-of-a", "share", "ids 1", LIMIT),
        ("a", "club", "run-two-of-a", "share", "ids 1", LIMIT),
        ("a", "shop", "run-one-of-a", "open", "ids 1", LIMIT),
        ("a", "shop", "run-two-of-a", "share", "ids 2", LIMIT),
        ("b", "shop", "run-one-of-b", "share", "ids 1", None),
    ]
    for party, dataset, run, phase, ids, limit in charges:
        opened = Guard(path=path, party=party, dataset=dataset, limit=limit)
        opened.spend(
            fingerprint=ids,
            run=run,
            phase=phase,
            request_hash="h",
            events=[QUERY],
            run_limit=LIMIT,
        )
    return path


def test_what_was_spent_is_shown_by_party_dataset_and_run(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_bytes()
    assert command.main([str(file)]) == 0
    shop, club, other = capsys.readouterr().out.split("\n\n")
    lines = [line.split() for line in shop.splitlines()]
    assert shop.startswith("a · shop, at delta 1e-06")
    assert [line[0] for line in lines[2:4]] == ["run-one-", "run-two-"]
    assert lines[2][3:] == ["2", cost(2), cost(2)]
    assert lines[3][3:6] == ["1", cost(1), cost(3)]
    assert shop.count("the ids are not those of the run before") == 1
    assert f"spent {cost(3)} of 2; left: one more run of epsilon" in shop
    assert f"spent {cost(1)} of 2" in club
    assert other.startswith("b · shop")
    assert "no limit: the guard was off" in other
    assert file.read_bytes() == before


def test_what_is_left_fits_and_more_does_not() -> None:
    past = [QUERY] * 3
    left = room(past, LIMIT)
    for share, fits in ((0.999, True), (1.03, False)):
        mu = accountant.gaussian_mu(left * share, LIMIT.delta)
        more = DiscreteGaussian(noise_multiplier=1 / mu, sensitivity=1024)
        total = accountant.epsilon_of_mechanisms([*(e.mechanism for e in past), more], LIMIT.delta)
        assert (total <= LIMIT.epsilon) == fits
    assert room([QUERY] * 99, LIMIT) == 0


def test_a_site_file_says_whose_book_and_what_limit(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Deployment(csv_mapping(tmp_path), tmp_path).sites["publisher"]
    on = {"mode": "on", "path": str(file), "epsilon": 0.7, "delta": 1e-6}
    path = tmp_path / "site.yaml"
    path.write_text(json.dumps(site | {"party": "a", "dataset": "club", "guard": on}))
    assert command.main([str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("a · club")
    assert "shop" not in shown
    assert f"spent {cost(1)} of 0.7" in shown


@pytest.mark.parametrize("wrong", ["missing.sqlite", "text", "--party"])
def test_what_is_not_there_is_said(
    file: Path, tmp_path: Path, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("not a database, " * 100)
    asked = [str(file), "--party", "nobody"] if wrong == "--party" else [str(tmp_path / wrong)]
    assert command.main(asked) == 11
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "missing.sqlite").exists()
