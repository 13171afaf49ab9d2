"""A party's own book of what it released: refuses what would exceed a limit, whatever is asked.

One SQLite file at the party. Every run is held to the epsilon that the party accepted for it.
Where the guard is on, all runs together are held to the party's lasting limit, by dataset
fingerprint: reruns and sweeps add up over the life of the file. A spend is committed before
anything is released, so a crash in between costs budget, never privacy. Changing the data
changes the fingerprint and opens a fresh budget: who edits a table and releases it again must
account for both.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from twinweave.errors import BudgetError, ConfigError, ProtocolError
from twinweave.parsing import Parsed, canonical_json, check_positive
from twinweave.privacy import accountant
from twinweave.privacy.events import Event
from twinweave.privacy.ledger import event_from_record, event_to_record

MOST_EPSILON, MOST_DELTA = 100.0, 1e-2
"""Of one run, exclusive: beyond them a guarantee says nothing."""

_VERSION = 2
_WAIT_SECONDS = 120.0  # for another process's transaction
_SLACK = 1e-6  # of a run's epsilon, relative: its events may be composed in another order
_TABLE = """
CREATE TABLE IF NOT EXISTS spend (
    id INTEGER PRIMARY KEY,
    party TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    run TEXT NOT NULL,
    phase TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    events TEXT NOT NULL,
    epsilon REAL NOT NULL,
    UNIQUE (party, fingerprint, run, phase)
) STRICT
"""


@dataclass(frozen=True, kw_only=True)
class GuardConf(Parsed):
    """A party's lasting limit. path null: a file in the party's own folder.

    mode off: no lasting limit, for public data alone. A run's own limit holds either way.
    """

    mode: Literal["on", "off"] = "on"
    path: str | None = None
    epsilon: float | None = None
    delta: float | None = None

    def __post_init__(self) -> None:
        if self.mode == "on" and (self.epsilon is None or self.delta is None):
            raise ConfigError(
                "guard",
                "needs its own epsilon and delta while it is on",
                "Give both, or say `mode: off` in as many words.",
            )


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The most that releases may compose to."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        check_positive("privacy", self, "epsilon")
        if not 0 < self.delta < 1:
            raise ConfigError("privacy.delta", "not between 0 and 1", "Give e.g. 1e-5.")


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What paid for a release: `events` were charged, so that they, and no others, may happen.

    epsilon: of all that is charged once this request was granted: on the dataset, at the
        guard's delta; where the guard is off in this run, at the run's.
    fresh: False if this very request had been granted before. Then only the stored answer may
        be sent again: drawing new noise under an old receipt would be a second release.
    guarded: False where the guard is off: only the run's own limit was kept.
    """

    run: str
    phase: str
    request_hash: str
    events: tuple[Event, ...]
    epsilon: float
    fresh: bool
    guarded: bool

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


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The book of one party; safe for threads and processes that share the file.

    limit: of each dataset over the life of the file, or None where the guard is off. It is this
    object's: a party may raise or lower it, and past spends stay.
    """

    path: Path
    party: str
    limit: Limit | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        _create(self.path)

    @classmethod
    def open(cls, conf: GuardConf, *, party: str, folder: str | Path) -> Guard:
        """The guard that a party's configuration describes. folder: the party's own."""
        own = Path(folder) / "guard.sqlite"
        if conf.mode == "off":
            return cls(path=own, party=party, limit=None)
        assert conf.epsilon is not None
        assert conf.delta is not None
        limit = Limit(epsilon=conf.epsilon, delta=conf.delta)
        return cls(path=Path(conf.path) if conf.path else own, party=party, limit=limit)

    def spend(
        self,
        *,
        fingerprint: str,
        run: str,
        phase: str,
        request_hash: str,
        events: Sequence[Event],
        run_limit: Limit,
    ) -> Receipt:
        """Record `events` durably, then permit their release, in one transaction.

        run_limit: what the party accepted for this run. The same request again (run, phase,
        hash and events) returns its receipt, not fresh, and spends nothing. Raises ProtocolError
        if (run, phase) was used for another request, BudgetError if a limit would be exceeded;
        both leave the file as it was.
        """
        key = (self.party, fingerprint, run, phase)
        text = canonical_json([event_to_record(e) for e in events])
        with self._transaction() as db:
            earlier = db.execute(
                "SELECT request_hash, events, epsilon FROM spend "
                "WHERE party = ? AND fingerprint = ? AND run = ? AND phase = ?",
                key,
            ).fetchone()
            if earlier is None:
                epsilon = self._admit(db, fingerprint, run, events, run_limit)
                db.execute(
                    "INSERT INTO spend "
                    "(party, fingerprint, run, phase, request_hash, events, epsilon) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*key, request_hash, text, epsilon),
                )
            elif earlier[:2] == (request_hash, text):
                epsilon = earlier[2]
            else:
                raise ProtocolError(
                    f"phase {phase!r}: granted before for another request. Start a new run."
                )
        return Receipt(
            run=run,
            phase=phase,
            request_hash=request_hash,
            events=tuple(events),
            epsilon=epsilon,
            fresh=earlier is None,
            guarded=self.limit is not None,
        )

    def check(
        self, *, fingerprint: str, run: str, events: Sequence[Event], run_limit: Limit
    ) -> None:
        """Raise BudgetError if `events` would now exceed a limit; records nothing."""
        with closing(self._connect()) as db:
            self._admit(db, fingerprint, run, events, run_limit)

    def history(self, fingerprint: str) -> tuple[Event, ...]:
        """Every event granted on a dataset, oldest first."""
        with closing(self._connect()) as db:
            return self._past(db, fingerprint)

    def _admit(
        self,
        db: sqlite3.Connection,
        fingerprint: str,
        run: str,
        events: Sequence[Event],
        run_limit: Limit,
    ) -> float:
        """Epsilon of everything composed; raises BudgetError above a limit."""
        accepted = Limit(epsilon=run_limit.epsilon * (1 + _SLACK), delta=run_limit.delta)
        total = _within(accepted, self._past(db, fingerprint, run), events, _RUN)
        if self.limit is not None and run_limit.delta > self.limit.delta:
            raise BudgetError(
                f"privacy budget: the run's delta {run_limit.delta:g} is above this party's, "
                f"{self.limit.delta:g}. Nothing was released. Ask for less."
            )
        if self.limit is None:
            return total
        return _within(self.limit, self._past(db, fingerprint), events, _DATASET)

    def _past(
        self, db: sqlite3.Connection, fingerprint: str, run: str | None = None
    ) -> tuple[Event, ...]:
        """Every event granted on a dataset, oldest first; of one run where it is named."""
        rows = db.execute(
            "SELECT events FROM spend "
            "WHERE party = ? AND fingerprint = ? AND run = ifnull(?, run) ORDER BY id",
            (self.party, fingerprint, run),
        )
        return tuple(event_from_record(e) for (text,) in rows for e in json.loads(text))

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


_RUN = "in this run", "start a run whose privacy.epsilon covers it"
_DATASET = "on this dataset", "raise privacy.guard.epsilon at this party"


def _within(
    limit: Limit, past: Sequence[Event], new: Sequence[Event], words: tuple[str, str]
) -> float:
    """Epsilon of both composed; raises BudgetError above the limit."""
    total = accountant.epsilon((*past, *new), limit.delta)
    if total > limit.epsilon:
        where, remedy = words
        asked = accountant.epsilon(new, limit.delta)
        spent = accountant.epsilon(past, limit.delta)
        raise BudgetError(
            f"privacy budget: epsilon {asked:.4g} was asked and {spent:.4g} is spent {where}; "
            f"together {total:.4g}, over the limit {limit.epsilon:.4g} (delta {limit.delta:g}). "
            f"Nothing was released. Ask for less, or {remedy}."
        )
    return total


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
