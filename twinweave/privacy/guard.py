"""A party's own durable budget: refuses what would exceed it, whatever the server asks.

One SQLite file at the party, keyed by dataset fingerprint: reruns and sweeps add up over the
life of the file. A spend is committed before anything is released, so a crash in between costs
budget, never privacy. Changing the data changes the fingerprint and opens a fresh budget: who
edits a table and releases it again must account for both.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from twinweave.errors import BudgetError, ConfigError, ProtocolError
from twinweave.parsing import canonical_json, check_positive
from twinweave.privacy import accountant
from twinweave.privacy.events import Event
from twinweave.privacy.ledger import event_from_record, event_to_record

_VERSION = 1
_WAIT_SECONDS = 120.0  # for another process's transaction
_TABLE = """
CREATE TABLE IF NOT EXISTS spend (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    run TEXT NOT NULL,
    phase TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    request_hash TEXT NOT NULL,
    events TEXT NOT NULL,
    epsilon REAL NOT NULL,
    UNIQUE (fingerprint, run, phase, attempt)
) STRICT
"""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What paid for a release: `events` were charged, so that they, and no others, may happen.

    epsilon: spent on this dataset once this request was granted (at the guard's delta); 0
        where the guard is off.
    fresh: False if this very request had been granted before. Then only the stored answer may
        be sent again: drawing new noise under an old receipt would be a second release.
    guarded: False from a guard that is off.
    """

    run: str
    phase: str
    request_hash: str
    events: tuple[Event, ...]
    epsilon: float
    fresh: bool
    guarded: bool = True

    def check(self, event: Event) -> None:
        """Raise ProtocolError unless this receipt paid for that very event, and just now."""
        if event not in self.events:
            raise ProtocolError(
                f"the release {event.label!r} was not paid for in {self.phase!r}. Charge it first."
            )
        if not self.fresh:
            raise ProtocolError(
                f"{self.phase!r} was charged before, and fresh noise would be a second release. "
                "Start a new run."
            )


class BudgetGuard(Protocol):
    """What a party asks before it releases anything."""

    def spend(
        self,
        *,
        fingerprint: str,
        run: str,
        phase: str,
        attempt: int,
        request_hash: str,
        events: Sequence[Event],
    ) -> Receipt: ...

    def check(self, *, fingerprint: str, events: Sequence[Event]) -> None: ...

    def spent(self, fingerprint: str) -> float: ...

    def history(self, fingerprint: str) -> tuple[Event, ...]: ...


@dataclass(frozen=True, kw_only=True)
class Guard:
    """SQLite-backed guard; safe for threads and processes that share the file.

    epsilon, delta: limit for each dataset over the life of the file. The limit is this
    object's: a party may raise or lower it, and past spends stay.
    """

    path: Path
    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        check_positive("privacy.guard", self, "epsilon")
        if not 0 < self.delta < 1:
            raise ConfigError("privacy.guard.delta", "not between 0 and 1", "Give e.g. 1e-5.")
        object.__setattr__(self, "path", Path(self.path))
        _create(self.path)

    def spend(
        self,
        *,
        fingerprint: str,
        run: str,
        phase: str,
        attempt: int,
        request_hash: str,
        events: Sequence[Event],
    ) -> Receipt:
        """Record `events` durably, then permit their release, in one transaction.

        The same request again (run, phase, attempt, hash and events) returns its receipt and
        spends nothing. Raises ProtocolError if (run, phase, attempt) was used for another
        request, BudgetError if the limit would be exceeded; both leave the file as it was.
        """
        key = (fingerprint, run, phase, attempt)
        text = canonical_json([event_to_record(e) for e in events])

        def receipt(epsilon: float, *, fresh: bool) -> Receipt:
            return Receipt(
                run=run,
                phase=phase,
                request_hash=request_hash,
                events=tuple(events),
                epsilon=epsilon,
                fresh=fresh,
            )

        with self._transaction() as db:
            earlier = db.execute(
                "SELECT request_hash, events, epsilon FROM spend "
                "WHERE fingerprint = ? AND run = ? AND phase = ? AND attempt = ?",
                key,
            ).fetchone()
            if earlier is not None:
                if earlier[:2] != (request_hash, text):
                    raise ProtocolError(
                        f"phase {phase!r}, attempt {attempt}: granted before for another request. "
                        "Repeat the same request, or ask as a new attempt."
                    )
                return receipt(earlier[2], fresh=False)
            total = self._admit(_past(db, fingerprint), events)
            db.execute(
                "INSERT INTO spend "
                "(fingerprint, run, phase, attempt, request_hash, events, epsilon) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*key, request_hash, text, total),
            )
        return receipt(total, fresh=True)

    def check(self, *, fingerprint: str, events: Sequence[Event]) -> None:
        """Raise BudgetError if `events` would now exceed the limit; records nothing."""
        self._admit(self.history(fingerprint), events)

    def spent(self, fingerprint: str) -> float:
        """Epsilon spent on a dataset, at the guard's delta."""
        return accountant.epsilon(self.history(fingerprint), self.delta)

    def history(self, fingerprint: str) -> tuple[Event, ...]:
        """Every event granted on a dataset, oldest first."""
        with closing(self._connect()) as db:
            return _past(db, fingerprint)

    def _admit(self, past: tuple[Event, ...], new: Sequence[Event]) -> float:
        """Epsilon of everything composed; raises BudgetError above the limit."""
        total = accountant.epsilon((*past, *new), self.delta)
        if total > self.epsilon:
            asked = accountant.epsilon(new, self.delta)
            spent = accountant.epsilon(past, self.delta)
            raise BudgetError(
                f"privacy budget: epsilon {asked:.4g} was asked and {spent:.4g} is spent on this "
                f"dataset; together {total:.4g}, over the limit {self.epsilon:.4g} (delta "
                f"{self.delta:g}). Nothing was released. Ask for less, or raise "
                "privacy.guard.epsilon at this party."
            )
        return total

    def _connect(self) -> sqlite3.Connection:
        # A connection a call: nothing is shared between threads or across a fork.
        db = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)
        db.execute("PRAGMA synchronous = FULL")
        return db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")


@dataclass(frozen=True, kw_only=True)
class GuardOff:
    """Grants everything and remembers nothing: for benchmarks on public data only."""

    def spend(
        self,
        *,
        fingerprint: str,
        run: str,
        phase: str,
        attempt: int,
        request_hash: str,
        events: Sequence[Event],
    ) -> Receipt:
        """Always a fresh receipt, marked as not guarded."""
        del fingerprint, attempt
        return Receipt(
            run=run,
            phase=phase,
            request_hash=request_hash,
            events=tuple(events),
            epsilon=0.0,
            fresh=True,
            guarded=False,
        )

    def check(self, *, fingerprint: str, events: Sequence[Event]) -> None:
        del fingerprint, events

    def spent(self, fingerprint: str) -> float:
        del fingerprint
        return 0.0

    def history(self, fingerprint: str) -> tuple[Event, ...]:
        del fingerprint
        return ()


def _past(db: sqlite3.Connection, fingerprint: str) -> tuple[Event, ...]:
    rows = db.execute("SELECT events FROM spend WHERE fingerprint = ? ORDER BY id", (fingerprint,))
    return tuple(event_from_record(e) for (text,) in rows for e in json.loads(text))


def _create(path: Path) -> None:
    """Make the file readable by its owner alone, then its table. SQLite's journal inherits both.

    Raises ConfigError if the file is not a guard of this version or cannot be opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                db.execute(_TABLE)
                db.execute(f"PRAGMA user_version = {_VERSION}")
            db.execute("COMMIT")
    except (OSError, sqlite3.Error):
        raise ConfigError(
            "privacy.guard.path", "cannot be opened as a guard", "Give a writable SQLite path."
        ) from None
    if version not in (0, _VERSION):
        raise ConfigError(
            "privacy.guard.path",
            "was written by another version of Twinweave",
            "Use that version, or a new file and a smaller limit.",
        )
