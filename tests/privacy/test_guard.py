"""The party's durable budget: a contract, and guards that break it."""

from __future__ import annotations

import math
import multiprocessing
import sqlite3
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twinweave.errors import BudgetError, ConfigError, OutputError, ProtocolError
from twinweave.parsing import canonical_json
from twinweave.privacy import accountant
from twinweave.privacy.events import DiscreteGaussian, Event, NonPrivate, Stage
from twinweave.privacy.guard import Guard, Limit, Receipt
from twinweave.privacy.ledger import event_to_record

DELTA = 1e-5
QUERY = Event(
    label="segment",
    stage=Stage.MEASUREMENT,
    parties=("a",),
    mechanism=DiscreteGaussian(noise_multiplier=8.0),
)
ANY = Limit(epsilon=1e6, delta=DELTA)


def cost(times: int) -> float:
    return accountant.epsilon([QUERY] * times, DELTA)


def limit(times: int) -> Limit:
    """Admits exactly `times` queries."""
    return Limit(epsilon=(cost(times) + cost(times + 1)) / 2, delta=DELTA)


def guard(path: Path, *, times: int = 3) -> Guard:
    return Guard(path=path, party="a", dataset="table-1", limit=limit(times))


def off(path: Path) -> Guard:
    return Guard(path=path, party="a", dataset="table-1", limit=None)


def ask(to: Guard, phase: str = "query.share", **changes: Any) -> Receipt:
    request: dict[str, Any] = {
        "fingerprint": "ids",
        "run": "run-1",
        "phase": phase,
        "request_hash": "aa",
        "events": [QUERY],
        "run_limit": ANY,
    }
    return to.spend(**(request | changes))


def spent(by: Guard) -> float:
    return accountant.epsilon(by.history(), DELTA)


def test_what_has_no_guarantee_fits_an_unsafe_run_alone(tmp_path: Path) -> None:
    """Its other releases are held to its epsilon as ever; and while the book remembers it, no
    lasting limit has room for anything."""
    bare = replace(QUERY, stage=Stage.TRAINING, mechanism=NonPrivate(reason="test"))
    unsafe = replace(limit(1), unsafe=True)
    path = tmp_path / "guard.db"
    with pytest.raises(BudgetError):
        ask(off(path), "train/0", events=[bare], run_limit=limit(1))
    ask(off(path), run_limit=unsafe)
    assert ask(off(path), "train/0", events=[bare], run_limit=unsafe).epsilon == math.inf
    with pytest.raises(BudgetError):
        ask(off(path), "query.open", run_limit=unsafe)
    assert off(path).history() == (QUERY, bare)
    for run_limit in (ANY, unsafe):
        with pytest.raises(BudgetError, match="inf"):
            ask(guard(path), run="run-2", run_limit=run_limit)


def violations(make: Callable[[], Guard]) -> list[str]:
    """What is wrong with a guard; `make` opens the same durable budget each time."""
    wrong = []
    first = make()
    ask(first)
    # The process dies here, before anything is released.
    if spent(make()) != cost(1):
        wrong.append("spends after release")
    if ask(make()).fresh or spent(make()) != cost(1):
        wrong.append("spends twice for one request")
    ask(make(), "query.open")
    if spent(make()) != cost(2):
        wrong.append("does not spend on a new phase")
    try:
        ask(make(), "train/0", run_limit=limit(2))
        wrong.append("goes over the run's limit")
    except BudgetError:
        pass
    ask(make(), run="run-2", run_limit=limit(1))
    if spent(make()) != cost(3):
        wrong.append("does not spend on a new run")
    try:
        ask(make(), run="run-3")
        wrong.append("goes over budget")
    except BudgetError:
        pass
    return wrong


class SpendsLate(Guard):
    """Writes a request only when the next one comes: after the release."""

    def spend(self, **request: Any) -> Receipt:
        pending = self.__dict__.setdefault("pending", [])
        for earlier in pending:
            super().spend(**earlier)
        self.__dict__["pending"] = [request]
        named = {k: request[k] for k in ("run", "phase", "request_hash")}
        return Receipt(
            **named, events=tuple(request["events"]), epsilon=0.0, fresh=True, guarded=True
        )


class IgnoresPhases(Guard):
    def spend(self, **request: Any) -> Receipt:
        return super().spend(**(request | {"phase": "any"}))


class ForgetsRequests(Guard):
    calls = 0

    def spend(self, **request: Any) -> Receipt:
        ForgetsRequests.calls += 1
        return super().spend(**(request | {"phase": f"phase {ForgetsRequests.calls}"}))


class SeesOnlyThisRun(Guard):
    def spend(self, **request: Any) -> Receipt:
        return off(self.path).spend(**request)


class SeesNoRun(Guard):
    def spend(self, **request: Any) -> Receipt:
        return super().spend(**(request | {"run_limit": ANY}))


@pytest.mark.attack("cost")
def test_guard_keeps_its_contract(tmp_path: Path) -> None:
    assert violations(lambda: guard(tmp_path / "guard.db")) == []


@pytest.mark.attack("cost")
def test_a_guard_that_is_off_keeps_the_runs_own_limit_alone(tmp_path: Path) -> None:
    assert violations(lambda: off(tmp_path / "guard.db")) == ["goes over budget"]
    receipt = ask(off(tmp_path / "other.db"), run_limit=limit(1))
    assert not receipt.guarded
    assert receipt.epsilon == cost(1)


@pytest.mark.broken("cost")
@pytest.mark.parametrize(
    ("broken", "finding"),
    [
        (SpendsLate, "spends after release"),
        (IgnoresPhases, "does not spend on a new phase"),
        (ForgetsRequests, "spends twice for one request"),
        (SeesOnlyThisRun, "goes over budget"),
        (SeesNoRun, "goes over the run's limit"),
    ],
)
def test_broken_guards_are_caught(tmp_path: Path, broken: type[Guard], finding: str) -> None:
    admits = ANY if broken in (ForgetsRequests, SeesNoRun) else limit(3)
    found = violations(
        lambda: broken(path=tmp_path / "guard.db", party="a", dataset="d", limit=admits)
    )
    assert finding in found


def test_a_refused_request_leaves_no_trace(tmp_path: Path) -> None:
    small = guard(tmp_path / "guard.db", times=1)
    granted = ask(small)
    assert granted.epsilon == cost(1)
    assert granted.fresh
    assert granted.guarded
    before = small.path.read_bytes()
    for run in ("run-1", "run-2"):
        with pytest.raises(BudgetError) as refusal:
            ask(small, "query.open", run=run)
        for figure in (cost(1), cost(2), limit(1).epsilon):
            assert f"{figure:.4g}" in str(refusal.value)
    others: list[dict[str, Any]] = [
        {"request_hash": "bb"},
        {"events": [QUERY, QUERY]},
        {"events": []},
    ]
    for changes in others:
        with pytest.raises(ProtocolError):
            ask(small, **changes)
    assert small.path.read_bytes() == before
    assert ask(small) == replace(granted, fresh=False)
    assert small.history() == (QUERY,)


@pytest.mark.parametrize("times", [1, 2])
def test_a_check_refuses_what_a_spend_would_and_writes_nothing(tmp_path: Path, times: int) -> None:
    opened, events = guard(tmp_path / "guard.db", times=2), [QUERY] * times
    ask(opened)
    before = opened.path.read_bytes()
    for run, run_limit in (("run-1", limit(times)), ("run-2", ANY)):
        fits = run == "run-2" and times == 1
        with nullcontext() if fits else pytest.raises(BudgetError):
            opened.check(run=run, events=events, run_limit=run_limit)
    assert opened.path.read_bytes() == before


def test_datasets_and_parties_have_budgets_of_their_own(tmp_path: Path) -> None:
    small = guard(tmp_path / "guard.db", times=1)
    other, second = replace(small, party="b"), replace(small, dataset="table-2")
    ask(small)
    ask(second)
    assert ask(other).fresh
    assert spent(small) == spent(second) == spent(other) == cost(1)
    assert spent(replace(small, dataset="table-3")) == 0
    assert ask(replace(small, limit=limit(2)), "query.open").epsilon == cost(2)
    for name in ("", " table-1"):
        with pytest.raises(ConfigError, match="dataset"):
            replace(small, dataset=name)


class ByIds(Guard):
    """Keeps a book of its own for every fingerprint, as the guard once did."""

    def spend(self, **request: Any) -> Receipt:
        own = Guard(
            path=self.path, party=self.party, dataset=request["fingerprint"], limit=self.limit
        )
        return own.spend(**request)


@pytest.mark.parametrize("kind", [Guard, ByIds])
def test_a_table_that_grows_adds_up_under_its_name(
    tmp_path: Path, kind: type[Guard], caplog: pytest.LogCaptureFixture
) -> None:
    """Every day other ids, or the same spelled otherwise: one budget, and a line that says so."""
    first = kind(path=tmp_path / "guard.db", party="a", dataset="customers", limit=limit(3))
    for day in range(3):
        first.watch(f"ids of day {day}")
        assert ask(first, run=f"day {day}", fingerprint=f"ids of day {day}").fresh
    refuses = pytest.raises(BudgetError, match="on dataset 'customers'")
    with refuses if kind is Guard else nullcontext():
        ask(first, run="day 3", fingerprint="ids of day 3")
    told = [r for r in caplog.records if "ids of dataset 'customers'" in r.getMessage()]
    assert len(told) == (2 if kind is Guard else 0)


@pytest.mark.parametrize("setting", ["privacy.guard", "this party's site file: guard"])
def test_a_refusal_names_the_setting_that_has_effect(tmp_path: Path, setting: str) -> None:
    small = replace(guard(tmp_path / "guard.db", times=1), setting=setting)
    ask(small)
    with pytest.raises(BudgetError, match=f"raise {setting}.epsilon"):
        ask(small, run="run-2")
    with pytest.raises(BudgetError, match=f"{setting}.delta"):
        ask(small, run="run-2", run_limit=Limit(epsilon=9, delta=1e-3))


@pytest.mark.attack("files")
def test_file_is_the_owners_alone(tmp_path: Path) -> None:
    opened = guard(tmp_path / "deep" / "guard.db")
    ask(opened)
    assert opened.path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_named_and_nothing_is_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book, real = guard(tmp_path / "guard.sqlite"), sqlite3.connect

    def full(*args: Any, **named: Any) -> sqlite3.Connection:
        db = real(*args, **named)
        db.execute("PRAGMA max_page_count = 1")  # SQLite takes what the file has already
        return db

    large = replace(QUERY, label="x" * 10_000)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", full)
        with pytest.raises(OutputError, match="the disk is full: the guard's file"):
            ask(book, events=[large])
    assert book.history() == ()
    assert ask(book, events=[large]).fresh


def _race(path: Path, number: int, results: Any) -> None:
    try:
        ask(guard(path), f"phase {number}")
        results.put(True)
    except BudgetError:
        results.put(False)


def test_processes_cannot_overspend_together(tmp_path: Path) -> None:
    path = tmp_path / "guard.db"
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    racers = [context.Process(target=_race, args=(path, i, results)) for i in range(6)]
    for racer in racers:
        racer.start()
    granted = sum(results.get(timeout=60) for _ in racers)
    for racer in racers:
        racer.join(timeout=60)
    assert granted == 3
    assert spent(guard(path)) == cost(3)


def test_threads_that_repeat_a_request_spend_once(tmp_path: Path) -> None:
    shared, receipts = guard(tmp_path / "guard.db"), []
    threads = [threading.Thread(target=lambda: receipts.append(ask(shared))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r.fresh for r in receipts) == [False] * 7 + [True]
    assert spent(shared) == cost(1)


def test_what_is_not_a_guard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, " * 100)
    older = guard(tmp_path / "older.db").path
    with sqlite3.connect(older) as db:
        db.execute("PRAGMA user_version = 1")
    for path in (tmp_path / "text", older, tmp_path):
        with pytest.raises(ConfigError, match=r"guard\.path"):
            guard(path)
    for epsilon, delta in ((0.0, 1e-5), (1.0, 0.0), (float("nan"), 1e-5), (1.0, 9e-11)):
        with pytest.raises(ConfigError):
            Limit(epsilon=epsilon, delta=delta)


def test_charges_of_a_file_without_datasets_count_for_every_one(tmp_path: Path) -> None:
    """A file of the version before is brought up to date; nothing it holds is forgotten."""
    path = tmp_path / "guard.db"
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE spend (id INTEGER PRIMARY KEY, party TEXT NOT NULL, fingerprint TEXT NOT "
            "NULL, run TEXT NOT NULL, phase TEXT NOT NULL, request_hash TEXT NOT NULL, events TEXT "
            "NOT NULL, epsilon REAL NOT NULL, UNIQUE (party, fingerprint, run, phase)) STRICT"
        )
        events = canonical_json([event_to_record(QUERY)])
        for party, ids in (("a", "ids 1"), ("a", "ids 2"), ("b", "ids 1")):
            row = (party, ids, "old run", "query.share", "aa", events, 0.5)
            db.execute("INSERT INTO spend VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row)
        db.execute("PRAGMA user_version = 2")
    opened = guard(path)
    assert ask(opened).epsilon == cost(3)
    with pytest.raises(BudgetError):
        ask(opened, "query.open")
    assert ask(replace(opened, dataset="table-2")).epsilon == cost(3)
    assert ask(replace(opened, party="b")).epsilon == cost(2)
