"""Where a party's table comes from: CSV, Parquet, any SQL database, or the campaign generator.

Reading decides nothing about types or validity; cleaning does. Every failure is one line with
a remedy, free of cell values, passwords and the messages of the libraries beneath.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ColumnError, ConfigError, SourceError, unquoted
from twinweave.parsing import Parsed
from twinweave.tables.campaign import CampaignConf, PartyRole, campaign_frames
from twinweave.tables.column import Column, Kind
from twinweave.tables.delimited import file_error, read_csv
from twinweave.tables.dtypes import is_date_format, iso_dates, plain_numbers
from twinweave.tables.keys import normalise_key
from twinweave.tables.schema import Schema
from twinweave.tables.transforms import Derived

if TYPE_CHECKING:
    import pandas as pd

SQL_CHUNK = 50_000


class SourceKind(StrEnum):
    CSV = "csv"
    PARQUET = "parquet"
    SQL = "sql"
    CAMPAIGN = "campaign"

    @classmethod
    def of(cls, file: Path) -> SourceKind:
        """Of a file, by its name."""
        return cls.PARQUET if file.suffix.lower() in (".parquet", ".pq") else cls.CSV


@dataclass(frozen=True, kw_only=True)
class Present(Parsed):
    """Keep the users whose hashed id falls in a fraction: cuts one public file into parties.

    The same salt keeps the same users at every party, different salts independent ones. start:
    where the fraction begins, so that 0 and 0.5 with a fraction of 0.5 are two disjoint halves.
    """

    fraction: float
    salt: str
    start: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ConfigError("source.present.fraction", "not in (0, 1]", "Give a fraction.")
        if not 0 <= self.start <= self.end <= 1:
            raise ConfigError(
                "source.present.start",
                "the fraction ends beyond 1",
                "Start at 0 or more, and no later than 1 - fraction.",
            )

    @property
    def end(self) -> float:
        """The first hash beyond; rounded, so that the next part can start there exactly."""
        return round(self.start + self.fraction, 12)


@dataclass(frozen=True, kw_only=True)
class Source(Parsed):
    """Where one party's table is, and what to do before cleaning.

    path: a CSV or Parquet file; CSV may be compressed (.gz, .bz2, .xz, .zip).
    parts: several such files, read one after the other, instead of `path`.
    url, query: an SQLAlchemy URL and a SELECT; url_env names the environment variable that
        holds the URL: the only place for one with a password.
    separator, encoding, names (of a file without a header), skip_rows (before the header),
    na_values (texts that mean missing), decimal and thousands (signs in numbers): of a CSV.
    escape: of a CSV with backslashes before quotes: a backslash where it makes the quote part of
        the cell, "" where it is a sign like any other.
    date_format: of dates that are not ISO, as of `strptime`: "%d.%m.%Y".
    strip: remove spaces around text before `na_values`, `derive` and `keep_first_by` see it.
    rename: {column in the source: column of the schema}.
    derive: {column of the schema: how it is made from a column of the source}.
    keep_first_by: keep the first row, in the source's order, of each value of that column.
    present: see Present; applied last.
    campaign, role: the built-in simulation and whose side of it (kind campaign).
    """

    kind: SourceKind
    path: str | None = None
    parts: tuple[str, ...] = ()
    url: str | None = field(default=None, repr=False)
    url_env: str | None = None
    query: str | None = None
    separator: str = ","
    encoding: str = "utf-8"
    names: tuple[str, ...] = ()
    skip_rows: int = 0
    na_values: tuple[str, ...] = ("",)
    decimal: str = "."
    thousands: str = ""
    escape: str | None = None
    date_format: str | None = None
    strip: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)
    derive: Mapping[str, Derived] = field(default_factory=dict)
    keep_first_by: str | None = None
    present: Present | None = None
    campaign: CampaignConf | None = None
    role: PartyRole | None = None

    def __post_init__(self) -> None:
        if self.kind in (SourceKind.CSV, SourceKind.PARQUET) and not self.files:
            raise ConfigError("source.path", "missing", "Give the table's file.")
        self._check_text()
        if len(self.decimal) != 1 or self.decimal == self.thousands or len(self.thousands) > 1:
            raise ConfigError(
                "source.decimal",
                "not a sign of its own",
                "Give one character, and another one (or none) for `thousands`.",
            )
        if self.kind is SourceKind.SQL:
            if not self.query or (self.url is None) == (self.url_env is None):
                raise ConfigError(
                    "source", "a database needs `query` and `url` or `url_env`", "Give both."
                )
            if self.url and re.search(r"//[^/@]*:[^/]*@|passw|pwd=", self.url, re.IGNORECASE):
                raise ConfigError(
                    "source.url",
                    "holds a password, and configurations are stored and shown",
                    "Put the URL in an environment variable and name it in `url_env`.",
                )
        if self.kind is SourceKind.CAMPAIGN and (self.campaign is None or self.role is None):
            raise ConfigError("source", "a campaign needs `campaign` and `role`", "Give both.")

    def _check_text(self) -> None:
        """Raise ConfigError for what no text is written in."""
        if not self.separator or set(self.separator) & set('"\r\n\0'):
            raise ConfigError("source.separator", "separates nothing", "Give the sign or signs.")
        if self.escape not in (None, "", "\\"):
            raise ConfigError("source.escape", "is no backslash", "Give '\\', or '' for none.")
        try:
            known = "a".encode(self.encoding).decode(self.encoding) == "a"
        except (LookupError, UnicodeError):
            known = False
        if not known:
            raise ConfigError("source.encoding", "is not known", "Give e.g. utf-8, cp1252, utf-16.")
        if self.date_format is not None and not is_date_format(self.date_format):
            raise ConfigError(
                "source.date_format",
                "gives no whole date",
                'Name year, month and day as strptime does: "%d.%m.%Y".',
            )

    @property
    def files(self) -> tuple[Path, ...]:
        paths = self.parts or ((self.path,) if self.path else ())
        return tuple(Path(p).expanduser() for p in paths)


@unquoted()
def read_raw(source: Source) -> pd.DataFrame:
    """Every column of the source under its own name, for drafting a schema. Raises SourceError."""
    return _joined(_read_frames(source), None, source)


@unquoted()
def read_table(source: Source, schema: Schema) -> pd.DataFrame:
    """The schema's columns, key first, cells as the source gives them (text from CSV).

    Raises SourceError or ColumnError.
    """
    import pandas as pd

    origin = _origins(source, schema)
    extra = (source.keep_first_by,) if source.keep_first_by else ()
    frames = _read_frames(source)
    for frame in frames:
        _check_columns([str(c) for c in frame.columns], origin, extra)
    raw = _joined(frames, list(dict.fromkeys((*origin.values(), *extra))), source)
    table = pd.DataFrame(
        {
            name: source.derive[name].apply(raw[column]) if name in source.derive else raw[column]
            for name, column in origin.items()
        },
        index=raw.index,
    )
    if source.kind is SourceKind.CSV and (source.decimal, source.thousands) != (".", ""):
        for column in schema.data_columns:
            if column.kind in (Kind.INTEGER, Kind.CONTINUOUS) and column.name not in source.derive:
                signs = source.decimal, source.thousands
                table[column.name] = plain_numbers(table[column.name], *signs)
    if source.date_format is not None:
        for column in schema.data_columns:
            if column.kind is Kind.DATETIME and column.name not in source.derive:
                table[column.name] = iso_dates(table[column.name], source.date_format)
    if schema.key.numbered:
        table.insert(0, schema.key.name, np.arange(len(table)).astype(str).astype(object))
    if source.keep_first_by:
        is_key = source.keep_first_by == origin.get(schema.key.name)
        rules = schema.key.normalise if is_key else ()
        by = pd.Series(normalise_key(raw[source.keep_first_by], rules)[0], dtype=object)
        table = table[~(by.duplicated() & by.notna())]
    if source.present:
        table = table[_kept(table[schema.key.name], schema.key, source.present)]
    if table.empty:
        raise SourceError("no row is left of the table. Raise `present.fraction` in the source.")
    return table.reset_index(drop=True)


def _read_frames(source: Source) -> list[pd.DataFrame]:
    readers = {
        SourceKind.CSV: _read_files,
        SourceKind.PARQUET: _read_files,
        SourceKind.SQL: _read_sql,
        SourceKind.CAMPAIGN: _read_campaign,
    }
    return readers[source.kind](source)


def _joined(frames: list[pd.DataFrame], columns: list[str] | None, source: Source) -> pd.DataFrame:
    import pandas as pd

    picked = [f if columns is None else f[columns] for f in frames]
    raw = pd.concat(picked, ignore_index=True) if picked else pd.DataFrame()
    if raw.empty:
        raise SourceError("the table has no rows. Point `source` at a table that has some.")
    return _mark_missing(raw, source) if source.kind is SourceKind.CSV else raw


def _origins(source: Source, schema: Schema) -> dict[str, str]:
    """{column of the schema: column of the source it is made from}, key first."""
    renamed = {new: old for old, new in source.rename.items()}
    names = [] if schema.key.numbered else [schema.key.name]
    names += schema.coded_names
    return {n: source.derive[n].source if n in source.derive else renamed.get(n, n) for n in names}


def _check_columns(found: list[str], origin: Mapping[str, str], extra: tuple[str, ...]) -> None:
    """Raise ColumnError with every column that is not there, or there twice."""
    plain = {_plain(name) for name in found}
    wrong = []
    for name, column in (*origin.items(), *((e, e) for e in extra)):
        told = "" if name == column else f" (made from {column!r})"
        if (times := found.count(column)) > 1:
            rule, remedy = "occurs more than once in the table", "Rename one of them."
        elif times == 0 and _plain(column) in plain:
            rule = "not in the table, which has one of other case, blanks or marks"
            remedy = "Write it as the header does, or set `rename` in the source."
        else:
            rule = "not in the table"
            remedy = "Correct the table's header, the schema, or `rename` in the source."
        if times != 1:
            wrong.append(ColumnError(name, f"{rule}{told}", remedy))
    if wrong:
        raise ColumnError.of_many(wrong)


def _plain(name: str) -> str:
    """A name without what is easily overlooked."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name)).casefold()


def _mark_missing(raw: pd.DataFrame, source: Source) -> pd.DataFrame:
    """Strip where asked; None for the declared spellings of a missing cell."""
    if source.strip:
        raw = raw.apply(lambda cells: cells.str.strip())
    return raw.where(~raw.isin(source.na_values), None)


def _kept(cells: pd.Series, key: Column, present: Present) -> NDArray[np.bool_]:
    import pandas as pd

    ids, missing = normalise_key(cells, key.normalise)
    hash_key = blake2b(present.salt.encode(), digest_size=8).hexdigest()  # SipHash: 16 bytes
    hashed = pd.util.hash_array(
        np.where(missing, "", ids).astype(object), hash_key=hash_key, categorize=False
    )
    # A missing id stays, for cleaning to refuse.
    share = hashed / 2.0**64
    kept: NDArray[np.bool_] = missing | ((share >= present.start) & (share < present.end))
    return kept


def _read_files(source: Source) -> list[pd.DataFrame]:
    if source.kind is SourceKind.CSV:
        return [read_csv(path, source) for path in source.files]
    return [_read_parquet(path) for path in source.files]


def _read_parquet(path: Path) -> pd.DataFrame:
    """All columns, named index levels too; whole numbers with gaps stay whole."""
    import pandas as pd
    import pyarrow

    trouble = ""
    frame = None
    try:
        frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
    except FileNotFoundError:
        trouble = "does not exist. Correct `path`, or `data.root` on the command line"
    except (IsADirectoryError, PermissionError):
        trouble = "cannot be opened. Give `path` a file that this process may read"
    except (OSError, ValueError, TypeError, pyarrow.ArrowException):
        trouble = "is not a Parquet file, or damaged. Correct `kind`, or get the file again"
    if frame is None:
        raise file_error(path, trouble)
    frame.columns = frame.columns.map(str)  # pandas remembers numbers as names
    for level, name in enumerate(frame.index.names):
        if name is not None and str(name) not in frame.columns:
            frame[str(name)] = frame.index.get_level_values(level)
    return frame


def _read_sql(source: Source) -> list[pd.DataFrame]:
    """The query's rows in chunks. Raises SourceError; its text holds neither URL nor query."""
    import pandas as pd
    import sqlalchemy as sql
    from sqlalchemy.pool import NullPool

    url = source.url or os.environ.get(source.url_env or "", "")
    where = f"environment variable {source.url_env}" if source.url_env else "`url`"
    if not url:
        raise SourceError(f"{where} holds no database URL. Set it for this process.")
    # `step` says how far we came; libraries' own messages could quote the URL or a cell.
    step = (
        f"the database URL in {where} is malformed, or its driver is not installed. "
        "Write dialect+driver://user:password@host/database"
    )
    try:
        engine = sql.create_engine(url, poolclass=NullPool, hide_parameters=True)
        step = (
            "the database refused the connection. Check host, database, user and password "
            f"in {where}"
        )
        with engine.connect() as connection:
            step = "the database could not run `query`. Check its SQL and the user's rights"
            stream = connection.execution_options(stream_results=True)
            chunks = pd.read_sql_query(
                sql.text(source.query or ""),
                stream,
                chunksize=SQL_CHUNK,
                dtype_backend="numpy_nullable",
            )
            return list(chunks)
    except Exception:
        # Drivers raise what they like, some of it derived from Exception directly.
        raise SourceError(f"{step}.") from None


def _read_campaign(source: Source) -> list[pd.DataFrame]:
    assert source.campaign is not None
    assert source.role is not None
    return [campaign_frames(source.campaign)[source.role]]
