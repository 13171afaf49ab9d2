"""Any database that SQLAlchemy reaches, by URL and SELECT; nothing is written to it.

Every failure is one line with a remedy: libraries' own messages could quote the URL, the query
or a cell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from twinweave.errors import SourceError
from twinweave.tables.streams import Stream, rows_at_once

if TYPE_CHECKING:
    import pandas as pd
    import sqlalchemy as sql

    from twinweave.tables.sources import Source

_READ_ONLY = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}
"""By dialect, what makes a connection one for reading. Nothing is committed in any of them."""

_FAULTS = {
    "25006": "`query` would write, and may only read. Give a SELECT that changes nothing",
    "42501": "the database user may not read what `query` names. Grant the user SELECT on it",
    "42601": "`query` is not one SELECT that the database understands. Check its SQL",
    "42703": "`query` names a column that is not there. Check its SQL",
    "42P01": "`query` names a table that is not there. Check its name and schema",
    "57014": "the database ended `query` at its time limit, or somebody did. Raise "
    "`statement_timeout` for this user, or read from a table made beforehand",
}
"""By SQLSTATE (ISO 9075, PostgreSQL's appendix A): what is wrong, and the remedy."""

_CANNOT_RUN = "the database could not run `query`. Check its SQL and the user's rights"
_BROKEN_OFF = (
    "the database broke off while rows were read. Try again; should it end there too, ask whoever "
    "runs the database"
)
_BAD_CELL = (
    "a cell of `query` cannot be computed, or not be held (a date beyond year 9999, infinity). "
    "Correct `query`, or let it give such columns as text"
)


def read_sql(source: Source, cells: int) -> Stream:
    """The query's rows as Python objects, from a cursor at the server where the driver has one.

    Raises SourceError.
    """
    import sqlalchemy as sql

    where = f"environment variable {source.url_env}" if source.url_env else "`url`"
    engine = _engine(source, where)
    with ExitStack() as stack:
        step = (
            "the database refused the connection, or is not there. Check host, database, user "
            f"and password in {where}"
        )
        try:
            connection = stack.enter_context(engine.connect())
            step = _CANNOT_RUN
            if read_only := _READ_ONLY.get(engine.dialect.name):
                connection.execute(sql.text(read_only))
            # As it is written: `sql.text` would take ":a" in a text for a parameter.
            answer = connection.execution_options(
                stream_results=True, max_row_buffer=_FETCHED, no_parameters=True
            ).exec_driver_sql(source.query or "")
            names = tuple(map(str, answer.keys()))
        except Exception as error:
            # Drivers raise what they like, some of it derived from Exception directly.
            raise SourceError(f"{_told(error, step)}.") from None
        opened = stack.pop_all()

    def parts(columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        return _parts(answer, names, columns, rows_at_once(cells, len(names)))

    return Stream(names=names, parts=parts, close=partial(_closed, opened))


def _closed(opened: ExitStack) -> None:
    """Close a connection, which may be lost."""
    with suppress(Exception):
        opened.close()


_FETCHED = 10_000  # rows of a cursor at once


def _engine(source: Source, where: str) -> sql.Engine:
    """Raises SourceError where the URL says nothing, or its driver is not there."""
    import sqlalchemy as sql
    from sqlalchemy.pool import NullPool

    url = source.url or os.environ.get(source.url_env or "", "")
    if not url:
        raise SourceError(f"{where} holds no database URL. Set it for this process.")
    try:
        engine = sql.create_engine(url, poolclass=NullPool, hide_parameters=True)
        if not _missing_file(engine):
            return engine
        told = (
            f"the SQLite file that {where} names does not exist. Correct its path: four slashes "
            "begin one from the root, sqlite:////srv/shop.sqlite."
        )
    except ImportError:
        told = (
            f"the driver that the database URL in {where} names is not installed. Install it "
            "(PostgreSQL: pip install 'twinweave[postgres]', and a URL that begins with "
            "postgresql+psycopg://)."
        )
    except Exception:
        told = (
            f"the database URL in {where} is malformed, or its driver is unknown. Write "
            "dialect+driver://user:password@host/database."
        )
    raise SourceError(told)


def _missing_file(engine: sql.Engine) -> bool:
    """Whether it is of an SQLite file that is not there: reading would make an empty one."""
    name = engine.url.database
    in_memory = not name or name == ":memory:" or name.startswith("file:")
    return engine.dialect.name == "sqlite" and not in_memory and not Path(str(name)).is_file()


def _told(error: Exception, step: str) -> str:
    """What is known of an error without its text: its SQLSTATE, or PEP 249's name for it."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None) or ""
    if state.startswith("22") or any(c.__name__ == "DataError" for c in type(cause).__mro__):
        return _BAD_CELL
    return _FAULTS.get(state, step)


def _parts(
    answer: sql.CursorResult[tuple[object, ...]],
    names: tuple[str, ...],
    columns: Sequence[str] | None,
    size: int,
) -> Iterator[pd.DataFrame]:
    """Frames of objects: no type is guessed from some rows that others would not have."""
    import pandas as pd

    wanted = list(range(len(names)))
    if columns is not None:
        wanted = [names.index(column) for column in dict.fromkeys(columns)]
    fetch = iter(answer.partitions(size))
    while True:
        try:
            rows = next(fetch, None)
        except Exception as error:
            raise SourceError(f"{_told(error, _BROKEN_OFF)}.") from None
        if not rows:
            return
        cells = list(zip(*rows, strict=True))
        frame = pd.DataFrame({i: pd.Series(cells[i], dtype=object) for i in wanted})
        frame.columns = pd.Index([names[i] for i in wanted])
        yield frame
