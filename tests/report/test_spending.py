"""What is said of several runs' spending: by the guard's own book, and off in as many words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twinweave.config import compose
from twinweave.errors import BudgetError
from twinweave.privacy import accountant
from twinweave.privacy.events import DiscreteGaussian, Event, Stage
from twinweave.privacy.guard import Guard, Limit
from twinweave.report.spending import spending

DELTA = 1e-5
EVENT = Event(
    stage=Stage.MEASUREMENT,
    label="table",
    parties=("publisher", "advertiser"),
    mechanism=DiscreteGaussian(noise_multiplier=8.0, sensitivity=1 << 10),
)
ONE = accountant.epsilon([EVENT], DELTA)


def run(folder: Path, name: str, *overrides: str, simulated: bool = False) -> Path:
    """The folder of a run, as far as it tells of its guard."""
    path = folder / name
    path.mkdir(parents=True)
    conf = compose(["output=x", *overrides])
    if not simulated:
        for party in conf["data"]["parties"]:
            party["source"] = {"kind": "csv", "path": "x.csv"}
    (path / "configuration.json").write_text(json.dumps(conf))
    (path / "spec.json").write_text(json.dumps({"run": name}))
    return path


def charge(book: Path, run: str, party: str, limit: float | None = None) -> None:
    most = None if limit is None else Limit(epsilon=limit, delta=DELTA)
    Guard(path=book, party=party, dataset="campaign", limit=most).spend(
        fingerprint="f",
        run=run,
        phase="query.open",
        request_hash="h",
        events=[EVENT],
        run_limit=Limit(epsilon=5.0, delta=DELTA),
    )


def private(*overrides: str) -> tuple[str, ...]:
    return ("privacy=default", "privacy.epsilon=1", f"privacy.delta={DELTA}", *overrides)


def test_a_lasting_guard_says_what_is_spent_and_left(tmp_path: Path) -> None:
    """Another run than those here has spent too. The third of these is refused."""
    book, limit = tmp_path / "guard.sqlite", 1.05 * accountant.epsilon([EVENT] * 3, DELTA)
    on = private(f"privacy.guard.path={book}", f"privacy.guard.epsilon={limit}")
    runs = [run(tmp_path, name, *on) for name in ("a", "b", "c")]
    for name in ("earlier", "a", "b"):
        for party in ("publisher", "advertiser"):
            charge(book, name, party, limit)
    with pytest.raises(BudgetError):
        charge(book, "c", "publisher", limit)
    (line,) = spending(runs)
    three, two = (accountant.epsilon([EVENT] * n, DELTA) for n in (3, 2))
    assert line.startswith(f"guard: {book}, 'campaign' at publisher, advertiser: spent {three:.4g}")
    assert f"of {limit:g} in all, {two:.4g} of it by the 3 runs here alone; left: one" in line
    charge(book, "d", "publisher", 2 * limit)
    spent = next(line for line in spending(runs) if "nothing is left" in line)
    assert "at publisher:" in spent


def test_guards_that_forget_are_added_up_with_a_warning(tmp_path: Path) -> None:
    runs = [run(tmp_path, name, *private()) for name in ("a", "b")]
    for path in runs:
        for party in ("publisher", "advertiser"):
            charge(path / "parties" / party / "guard.sqlite", path.name, party, 5.0)
    (line,) = spending(runs)
    both = accountant.epsilon([EVENT] * 2, DELTA)
    assert ONE < both < 2 * ONE
    assert line.startswith("warning: guard: each run's own")
    assert f"The 2 runs on 'campaign' add up to epsilon {both:.4g} (composed, at delta" in line


def test_a_guard_that_is_off_is_said_in_as_many_words(tmp_path: Path) -> None:
    public = [run(tmp_path / "p", "a", "privacy=public", "privacy.epsilon=1")]
    assert spending(public) == [
        "guard: off (public data). Nothing adds up the 1 run on 'campaign'."
    ]
    (line,) = spending([run(tmp_path / "s", "a", simulated=True)])
    assert line.startswith("guard: off (simulated data)")


def test_a_deployments_guards_are_the_parties_own(tmp_path: Path) -> None:
    (line,) = spending([run(tmp_path, "a", *private("federation=deployment"))])
    assert line.startswith("guard: each party's own")


def test_what_is_not_here_is_not_made_up(tmp_path: Path) -> None:
    """A run that never began, and a guard's file that is elsewhere."""
    assert spending([tmp_path / "none"]) == []
    on = private(f"privacy.guard.path={tmp_path / 'gone.sqlite'}", "privacy.guard.epsilon=3")
    (line,) = spending([run(tmp_path, "a", *on)])
    assert "is not here" in line
    assert not (tmp_path / "gone.sqlite").exists()
