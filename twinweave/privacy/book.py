"""The file behind a guard: what was granted, to whom, when. One SQLite database at the party.

A row is a charge: of a party, on a dataset, in a phase of a run. Files of earlier versions are
brought up to date when a party opens them; they name no dataset, so what they hold counts for
every dataset of its party.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from twinweave.errors import ConfigError, OutputError
from twinweave.parsing import canonical_json
from twinweave.privacy.events import Event
from twinweave.privacy.ledger import event_from_record, event_to_record

VERSION = 3
EVERY = ""
"""The dataset of a charge in a file that named none: it counts for each of the party's."""

_WAIT_SECONDS = 120.0  # for another process's transaction
_TABLE = """
CREATE TABLE spend (
    id INTEGER PRIMARY KEY,
    party TEXT NOT NULL,
    dataset TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    run TEXT NOT NULL,
    phase TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    events TEXT NOT NULL,
    epsilon REAL NOT NULL,
    at TEXT NOT NULL,
    limit_epsilon REAL,
    limit_delta REAL,
    UNIQUE (party, dataset, run, phase)
) STRICT
"""
# Version 2 had no dataset. Version 1, of Twinweave 0.1, had no party either, and is refused:
# whose charges they are cannot be told.
_FROM_2 = f"""
INSERT INTO spend
SELECT id, party, '{EVERY}', fingerprint, run, phase || ', ' || fingerprint, request_hash, events,
    epsilon, '', NULL, NULL
FROM old
"""
_COLUMNS = (
    "party, dataset, fingerprint, run, phase, request_hash, events, epsilon, at, "
    "limit_epsilon, limit_delta"
)


@dataclass(frozen=True, kw_only=True)
class Spend:
    """One charge. epsilon: of all on the dataset once it was granted, or of the run where the
    guard was off. at: UTC, ISO 8601, "" where it is not known. limit: (epsilon, delta) of the
    guard at that time, None where it was off or is not known.
    """

    party: str
    dataset: str
    fingerprint: str
    run: str
    phase: str
    request_hash: str
    events: tuple[Event, ...]
    epsilon: float
    at: str = ""
    limit: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Book:
    """A guard's file, opened for each call: nothing is shared between threads or over a fork.

    field: the setting that names the path, for errors.
    """

    path: Path
    field: str = "guard.path"

    def prepare(self) -> None:
        """Make the file, readable by its owner alone, or bring it up to date.

        Raises ConfigError if it is no guard of this version or the one before, or cannot be
        opened; OutputError where the disk is full.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            with self.transaction() as db:  # SQLite's journal inherits the file's mode
                (version,) = db.execute("PRAGMA user_version").fetchone()
                if version == 2:
                    db.execute("ALTER TABLE spend RENAME TO old")
                if version in (0, 2):
                    db.execute(_TABLE)
                if version == 2:
                    db.execute(_FROM_2)
                    db.execute("DROP TABLE old")
                if version in (0, 2):
                    db.execute(f"PRAGMA user_version = {VERSION}")
        except (OSError, sqlite3.Error):
            raise ConfigError(
                self.field, "cannot be opened as a guard", "Give a writable SQLite path."
            ) from None
        self._check(version, (0, 2, VERSION))

    def rows(self) -> tuple[Spend, ...]:
        """Every charge, oldest first, without changing the file. Raises ConfigError."""
        try:
            uri = f"{self.path.resolve().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS)) as db:
                (version,) = db.execute("PRAGMA user_version").fetchone()
                self._check(version, (VERSION,))
                return _read(db, "", ())
        except (OSError, sqlite3.Error):
            raise ConfigError(
                str(self.path), "is no guard's file", "Name the SQLite file of a guard."
            ) from None

    def _check(self, version: int, known: tuple[int, ...]) -> None:
        if version not in known:
            raise ConfigError(
                self.field,
                "was written by another version of Twinweave",
                "Start a run, which brings a file of the version before up to date; for any "
                "other, use the version that wrote it, or a new file and a smaller limit.",
            )

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = FULL")
            yield db

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection that holds the file for writing; all of it is kept, or nothing.

        Raises OutputError where the disk is full.
        """
        with _full_disk_named(), self.reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.in_transaction:  # of a full disk SQLite has rolled back itself
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")


@contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
            raise
        raise OutputError(
            "the disk is full: the guard's file could not be written. Free some space."
        ) from None


def granted(
    db: sqlite3.Connection, *, party: str, dataset: str, run: str | None = None
) -> tuple[Spend, ...]:
    """The party's charges that count for a dataset, oldest first; of one run where it is named."""
    where = "WHERE party = ? AND dataset IN (?, ?) AND run = ifnull(?, run)"
    return _read(db, where, (party, dataset, EVERY, run))


def grant(db: sqlite3.Connection, spend: Spend) -> None:
    """Write a charge down, dated now."""
    events = canonical_json([event_to_record(e) for e in spend.events])
    at = datetime.now(UTC).isoformat(timespec="seconds")
    s, limit = spend, spend.limit or (None, None)
    row = (s.party, s.dataset, s.fingerprint, s.run, s.phase, s.request_hash, events, s.epsilon)
    marks = ", ".join("?" * 11)
    db.execute(f"INSERT INTO spend ({_COLUMNS}) VALUES ({marks})", (*row, at, *limit))


def events_of(spends: Sequence[Spend]) -> tuple[Event, ...]:
    return tuple(event for spend in spends for event in spend.events)


def _read(db: sqlite3.Connection, where: str, values: tuple[str | None, ...]) -> tuple[Spend, ...]:
    found = db.execute(f"SELECT {_COLUMNS} FROM spend {where} ORDER BY id", values)
    return tuple(
        Spend(
            party=party,
            dataset=dataset,
            fingerprint=fingerprint,
            run=run,
            phase=phase,
            request_hash=request_hash,
            events=tuple(map(event_from_record, json.loads(events))),
            epsilon=epsilon,
            at=at,
            limit=None if most is None else (most, delta),
        )
        for (
            party,
            dataset,
            fingerprint,
            run,
            phase,
            request_hash,
            events,
            epsilon,
            at,
            most,
            delta,
        ) in found
    )
