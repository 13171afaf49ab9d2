"""Where a party's table comes from: CSV, Parquet, a database, or the campaign generator.

Reading decides nothing about types or validity; cleaning does. Every failure is one line with
a remedy, free of cell values, passwords and the messages of the libraries beneath.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ColumnError, ConfigError, SourceError, unquoted
from twinweave.parsing import Parsed
from twinweave.tables.campaign import CampaignConf, PartyRole, campaign_frames
from twinweave.tables.column import Column, Kind
from twinweave.tables.columnar import read_duckdb, read_parquet
from twinweave.tables.databases import read_sql
from twinweave.tables.delimited import read_csv
from twinweave.tables.dtypes import is_date_format, iso_dates, plain_numbers
from twinweave.tables.keys import normalise_key
from twinweave.tables.schema import Schema
from twinweave.tables.streams import CELLS, Stream
from twinweave.tables.transforms import Derived

if TYPE_CHECKING:
    import pandas as pd


class SourceKind(StrEnum):
    CSV = "csv"
    PARQUET = "parquet"
    SQL = "sql"
    DUCKDB = "duckdb"
    CAMPAIGN = "campaign"

    @classmethod
    def of(cls, file: Path) -> SourceKind:
        """Of a file, by its name."""
        known = {".parquet": cls.PARQUET, ".pq": cls.PARQUET, ".duckdb": cls.DUCKDB}
        return known.get(file.suffix.lower(), cls.CSV)


@dataclass(frozen=True, kw_only=True)
class Present(Parsed):
    """Keep the users whose hashed id falls in a fraction: cuts one public file into parties.

    fraction: of all users, about.
    salt: hashed with the id: the same one keeps the same users at every party, different ones
        independent users.
    start: where the fraction begins, so that 0 and 0.5 with a fraction of 0.5 are two disjoint
        halves.
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

    kind: of a file, a database or the built-in simulation.
    path: a CSV, Parquet or DuckDB file; CSV may be compressed (.gz, .bz2, .xz, .zip).
    parts: several such files, read one after the other, instead of `path`.
    query: the SELECT that gives the rows, of a database.
    url: an SQLAlchemy URL (kind sql), without a password.
    url_env: the environment variable that holds the URL, instead of `url`: the only place for one
        with a password.
    separator: the sign or signs between cells of a CSV.
    encoding: of a CSV, such as utf-8, cp1252 or utf-16.
    names: the columns of a CSV without a header, in order.
    skip_rows: lines of a CSV before its header.
    na_values: texts of a CSV that mean missing.
    decimal: the sign of decimals in a CSV.
    thousands: the sign between thousands in a CSV; none where empty.
    escape: of a CSV with backslashes before quotes: a backslash where it makes the quote part of
        the cell, "" where it is a sign like any other.
    date_format: of dates that are not ISO, as of `strptime`: "%d.%m.%Y".
    strip: remove spaces around text before `na_values`, `derive` and `keep_first_by` see it.
    rename: {column in the source: column of the schema}.
    derive: {column of the schema: how it is made from a column of the source}.
    keep_first_by: keep the first row, in the source's order, of each value of that column.
    present: see Present; applied last.
    campaign: the built-in simulation (kind campaign).
    role: whose side of it.
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
        if self.kind in _FILES and not self.files:
            raise ConfigError("source.path", "missing", "Give the table's file.")
        if self.kind is SourceKind.DUCKDB and (not self.query or self.parts):
            raise ConfigError(
                "source", "a DuckDB file needs `path` and `query`", "Give both, and no `parts`."
            )
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
            if self.url and re.search(r"//[^/@]*:[^@]*@|passw|pwd=", self.url, re.IGNORECASE):
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


_FILES = (SourceKind.CSV, SourceKind.PARQUET, SourceKind.DUCKDB)


def read_raw(source: Source) -> pd.DataFrame:
    """Every column of the source under its own name, for drafting a schema. Raises SourceError."""
    import pandas as pd

    with unquoted():
        frames = []
        for stream in _streams(source, CELLS):
            with closing(stream):
                frames += [frame for frame in stream.parts(None) if len(frame)]
        if not frames:
            raise SourceError(_NO_ROWS)
        raw = pd.concat(frames, ignore_index=True)
        if source.kind is SourceKind.CSV:
            return _mark_missing(raw, source)
        return raw.infer_objects() if source.kind is SourceKind.SQL else raw


def read_table(source: Source, schema: Schema) -> pd.DataFrame:
    """The schema's columns, key first, cells as the source gives them (text from CSV).

    Raises SourceError or ColumnError.
    """
    import pandas as pd

    parts = list(read_parts(source, schema))
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def read_parts(source: Source, schema: Schema, cells: int = CELLS) -> Iterator[pd.DataFrame]:
    """`read_table` some rows at a time: frames of about `cells` cells of the source.

    What is read, and what is raised, is the same whatever their size. Raises SourceError or
    ColumnError; that a file or query lacks a column is known before its first row is read.
    """
    origin = _origins(source, schema)
    shape = _Shape(source, schema, origin)
    wanted = list(dict.fromkeys((*origin.values(), *shape.extra)))
    left = False
    with unquoted():
        for stream in _streams(source, cells):
            with closing(stream):
                _check_columns(list(stream.names), origin, shape.extra)
                for raw in stream.parts(wanted):
                    table = shape.apply(raw)
                    if len(table):
                        left = True
                        yield table
        if not shape.rows:
            raise SourceError(_NO_ROWS)
        if not left:
            raise SourceError(
                "no row is left of the table. Raise `present.fraction` in the source."
            )


_NO_ROWS = "the table has no rows. Point `source` at a table that has some."


class _Shape:
    """What a source declares of its rows, applied to one part after the other.

    rows: how many were read so far. A part depends on those before it by its rows' numbers and
    by whom `keep_first_by` has seen.
    """

    def __init__(self, source: Source, schema: Schema, origin: Mapping[str, str]) -> None:
        self._source, self._schema, self._origin = source, schema, origin
        self._seen: set[str] = set()
        self.extra = (source.keep_first_by,) if source.keep_first_by else ()
        self.rows = 0

    def apply(self, raw: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        source, key = self._source, self._schema.key
        if source.kind is SourceKind.CSV:
            raw = _mark_missing(raw, source)
        columns: dict[str, Any] = {}
        if key.numbered:
            numbers = np.arange(self.rows, self.rows + len(raw))
            columns[key.name] = numbers.astype(str).astype(object)
        self.rows += len(raw)
        signed = {c.name: c for c in self._schema.data_columns if c.name not in source.derive}
        for name, column in self._origin.items():
            cells = raw[column]
            if name in source.derive:
                cells = source.derive[name].apply(cells)
            columns[name] = _with_usual_signs(cells, signed.get(name), source)
        table = pd.DataFrame(columns, index=raw.index)
        keep = np.ones(len(table), dtype=bool)
        if source.keep_first_by:
            keep = self._first(raw[source.keep_first_by])
        if source.present:
            keep[keep] = _kept(table[key.name][keep], key, source.present)
        return table if keep.all() else table[keep].reset_index(drop=True)

    def _first(self, cells: pd.Series) -> NDArray[np.bool_]:
        """Which rows are the first of their value, those without one included: (n,)."""
        import pandas as pd

        is_key = self._source.keep_first_by == self._origin.get(self._schema.key.name)
        by, missing = normalise_key(cells, self._schema.key.normalise if is_key else ())
        keep = ~pd.Series(by, dtype=object).duplicated().to_numpy() | missing
        for at in np.flatnonzero(keep & ~missing):
            if by[at] in self._seen:
                keep[at] = False
            else:
                self._seen.add(by[at])
        return keep


def _with_usual_signs(cells: pd.Series, column: Column | None, source: Source) -> pd.Series:
    """Numbers and dates of a column as other sources write them."""
    if column is None:
        return cells
    if column.kind in (Kind.INTEGER, Kind.CONTINUOUS):
        if source.kind is SourceKind.CSV and (source.decimal, source.thousands) != (".", ""):
            return plain_numbers(cells, source.decimal, source.thousands)
    elif column.kind is Kind.DATETIME and source.date_format is not None:
        return iso_dates(cells, source.date_format)
    return cells


def _streams(source: Source, cells: int) -> Iterator[Stream]:
    """The files of a source one after the other, or its only table. Raises SourceError."""
    if source.kind is SourceKind.CSV:
        yield from (read_csv(path, source, cells) for path in source.files)
    elif source.kind is SourceKind.PARQUET:
        yield from (read_parquet(path, cells) for path in source.files)
    elif source.kind is SourceKind.DUCKDB:
        yield read_duckdb(source.files[0], source.query or "", cells)
    elif source.kind is SourceKind.SQL:
        yield read_sql(source, cells)
    else:
        assert source.campaign is not None
        assert source.role is not None
        yield _of_frame(campaign_frames(source.campaign)[source.role])


def _of_frame(frame: pd.DataFrame) -> Stream:
    def parts(columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        yield frame if columns is None else frame[list(columns)]

    return Stream(names=tuple(map(str, frame.columns)), parts=parts)


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
