"""The party's durable budget: a contract, and guards that break it."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twinweave.errors import BudgetError, ConfigError, ProtocolError
from twinweave.privacy import accountant
from twinweave.privacy.events import DiscreteGaussian, Event, Stage
from twinweave.privacy.guard import Guard, Limit, Receipt

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
    return Guard(path=path, party="a", limit=limit(times))


def off(path: Path) -> Guard:
    return Guard(path=path, party="a", limit=None)


def ask(to: Guard, phase: str = "query.share", **changes: Any) -> Receipt:
    request: dict[str, Any] = {
        "fingerprint": "table-1",
        "run": "run-1",
        "phase": phase,
        "request_hash": "aa",
        "events": [QUERY],
        "run_limit": ANY,
    }
    return to.spend(**(request | changes))


def spent(by: Guard, fingerprint: str = "table-1") -> float:
    return accountant.epsilon(by.history(fingerprint), DELTA)


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
    found = violations(lambda: broken(path=tmp_path / "guard.db", party="a", limit=admits))
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
    assert small.history("table-1") == (QUERY,)


@pytest.mark.parametrize("times", [1, 2])
def test_a_check_refuses_what_a_spend_would_and_writes_nothing(tmp_path: Path, times: int) -> None:
    opened, events = guard(tmp_path / "guard.db", times=2), [QUERY] * times
    ask(opened)
    before = opened.path.read_bytes()
    for run, run_limit in (("run-1", limit(times)), ("run-2", ANY)):
        fits = run == "run-2" and times == 1
        with nullcontext() if fits else pytest.raises(BudgetError):
            opened.check(fingerprint="table-1", run=run, events=events, run_limit=run_limit)
    assert opened.path.read_bytes() == before


def test_datasets_and_parties_have_budgets_of_their_own(tmp_path: Path) -> None:
    small = guard(tmp_path / "guard.db", times=1)
    other = replace(small, party="b")
    ask(small)
    ask(small, fingerprint="table-2")
    assert ask(other).fresh
    assert spent(small) == spent(small, "table-2") == spent(other) == cost(1)
    assert spent(small, "table-3") == 0
    assert ask(replace(small, limit=limit(2)), "query.open").epsilon == cost(2)


@pytest.mark.attack("files")
def test_file_is_the_owners_alone(tmp_path: Path) -> None:
    opened = guard(tmp_path / "deep" / "guard.db")
    ask(opened)
    assert opened.path.stat().st_mode & 0o777 == 0o600


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
        with pytest.raises(ConfigError):
            guard(path)
    for epsilon, delta in ((0.0, 1e-5), (1.0, 0.0), (float("nan"), 1e-5)):
        with pytest.raises(ConfigError):
            Limit(epsilon=epsilon, delta=delta)
