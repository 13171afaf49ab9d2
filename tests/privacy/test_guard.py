"""The party's durable budget: a contract, and guards that break it."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twinweave.errors import BudgetError, ConfigError, ProtocolError
from twinweave.privacy import accountant
from twinweave.privacy.events import DiscreteGaussian, Event, Stage
from twinweave.privacy.guard import BudgetGuard, Guard, GuardOff, Receipt

DELTA = 1e-5
QUERY = Event(
    label="segment",
    stage=Stage.MEASUREMENT,
    parties=("a",),
    mechanism=DiscreteGaussian(noise_multiplier=8.0),
)


def cost(times: int) -> float:
    return accountant.epsilon([QUERY] * times, DELTA)


def guard(path: Path, *, times: int = 3) -> Guard:
    """A guard that admits exactly `times` queries."""
    return Guard(path=path, epsilon=(cost(times) + cost(times + 1)) / 2, delta=DELTA)


def ask(to: BudgetGuard, attempt: int = 0, **changes: Any) -> Receipt:
    request = {
        "fingerprint": "table-1",
        "run": "run-1",
        "phase": "query.share",
        "attempt": attempt,
        "request_hash": "aa",
        "events": [QUERY],
    }
    return to.spend(**(request | changes))


def violations(make: Callable[[], BudgetGuard]) -> list[str]:
    """What is wrong with a guard; `make` opens the same durable budget each time."""
    wrong = []
    first = make()
    ask(first)
    # The process dies here, before anything is released.
    if make().spent("table-1") != cost(1):
        wrong.append("spends after release")
    if ask(make()).fresh or make().spent("table-1") != cost(1):
        wrong.append("spends twice for one request")
    ask(make(), attempt=1)
    if make().spent("table-1") != cost(2):
        wrong.append("does not spend on a new attempt")
    ask(make(), run="run-2")
    if make().spent("table-1") != cost(3):
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
        return Receipt(**named, events=tuple(request["events"]), epsilon=0.0, fresh=True)


class IgnoresAttempts(Guard):
    def spend(self, **request: Any) -> Receipt:
        return super().spend(**(request | {"attempt": 0}))


class ForgetsRequests(Guard):
    calls = 0

    def spend(self, **request: Any) -> Receipt:
        ForgetsRequests.calls += 1
        return super().spend(**(request | {"attempt": 100 + ForgetsRequests.calls}))


class SeesOnlyThisRun(Guard):
    def _admit(self, past: tuple[Event, ...], new: Sequence[Event]) -> float:
        return super()._admit((), new)


def test_guard_keeps_its_contract(tmp_path: Path) -> None:
    assert violations(lambda: guard(tmp_path / "guard.db")) == []


@pytest.mark.parametrize(
    ("broken", "finding"),
    [
        (SpendsLate, "spends after release"),
        (IgnoresAttempts, "does not spend on a new attempt"),
        (ForgetsRequests, "spends twice for one request"),
        (SeesOnlyThisRun, "goes over budget"),
    ],
)
def test_broken_guards_are_caught(tmp_path: Path, broken: type[Guard], finding: str) -> None:
    limit = guard(tmp_path / "model.db").epsilon + (10 if broken is ForgetsRequests else 0)
    opened = violations(lambda: broken(path=tmp_path / "guard.db", epsilon=limit, delta=DELTA))
    assert finding in opened


def test_a_refused_request_leaves_no_trace(tmp_path: Path) -> None:
    small = guard(tmp_path / "guard.db", times=1)
    granted = ask(small)
    assert granted.epsilon == cost(1)
    assert granted.fresh
    before = small.path.read_bytes()
    with pytest.raises(BudgetError) as refusal:
        ask(small, attempt=1)
    for figure in (cost(1), cost(2), small.epsilon):
        assert f"{figure:.4g}" in str(refusal.value)
    for change in ({"request_hash": "bb"}, {"events": [QUERY, QUERY]}, {"events": []}):
        with pytest.raises(ProtocolError):
            ask(small, **change)
    assert small.path.read_bytes() == before
    assert ask(small) == replace(granted, fresh=False)
    assert small.history("table-1") == (QUERY,)


def test_datasets_have_budgets_of_their_own(tmp_path: Path) -> None:
    small = guard(tmp_path / "guard.db", times=1)
    ask(small)
    ask(small, fingerprint="table-2")
    assert small.spent("table-1") == small.spent("table-2") == cost(1)
    assert small.spent("table-3") == 0
    raised = replace(small, epsilon=cost(2) * 1.01)
    assert ask(raised, attempt=1).epsilon == cost(2)


def test_file_is_the_owners_alone(tmp_path: Path) -> None:
    opened = guard(tmp_path / "deep" / "guard.db")
    ask(opened)
    assert opened.path.stat().st_mode & 0o777 == 0o600


def _race(path: Path, attempt: int, results: Any) -> None:
    try:
        ask(guard(path), attempt=attempt)
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
    assert guard(path).spent("table-1") == cost(3)


def test_threads_that_repeat_a_request_spend_once(tmp_path: Path) -> None:
    shared, receipts = guard(tmp_path / "guard.db"), []
    threads = [threading.Thread(target=lambda: receipts.append(ask(shared))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r.fresh for r in receipts) == [False] * 7 + [True]
    assert shared.spent("table-1") == cost(1)


def test_what_is_not_a_guard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, " * 100)
    newer = guard(tmp_path / "newer.db").path
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 2")
    for path in (tmp_path / "text", newer, tmp_path):
        with pytest.raises(ConfigError):
            guard(path)
    for epsilon, delta in ((0.0, 1e-5), (1.0, 0.0), (float("nan"), 1e-5)):
        with pytest.raises(ConfigError):
            Guard(path=tmp_path / "g.db", epsilon=epsilon, delta=delta)


def test_guard_off_says_so() -> None:
    receipt = ask(GuardOff())
    assert not receipt.guarded
    assert receipt.fresh
    assert GuardOff().spent("table-1") == 0
    assert GuardOff().history("table-1") == ()
