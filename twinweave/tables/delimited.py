"""CSV files, whatever separates their cells and however they begin and end; every cell as text."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from twinweave.errors import SourceError
from twinweave.tables.streams import Stream, rows_at_once

if TYPE_CHECKING:
    import pandas as pd

    from twinweave.tables.sources import Source

SEPARATORS = (",", ";", "\t", "|")

_STAND_IN = "\x1f"
"""Stands for a separator that is not one ASCII character, which the parser does not know."""

_NOT_CSV = "is not CSV with these options. Correct `separator`, `names` or `kind`"
_MORE_CELLS = (
    "has rows with more cells than the header has names. Correct "
    "`separator` or `names`, or quote cells that hold it"
)
_OPEN_QUOTE = "has a quote that is never closed. Correct the file, or set `escape` in the source"
_ESCAPE = (
    r"has a backslash before a quote. Set `escape` in the source: '\' where it makes the quote "
    "part of the cell, '' where it is a sign like any other"
)
_BLOCK = 1 << 20  # characters
_BEYOND = 3  # empty cells that a row may have beyond the header
_LONGEST_TOLD = 10  # characters of a line that tells spreadsheets the separator
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


def read_csv(path: Path, source: Source, cells: int) -> Stream:
    """All cells as text. Raises SourceError."""
    with _faults(path, source):
        if trouble := _scanned(path, source):
            raise file_error(path, trouble)
        names = _names(path, source)

    def parts(columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        with _faults(path, source):
            for frame in _rows(path, source, names, rows_at_once(cells, len(names))):
                yield frame if columns is None else frame[list(dict.fromkeys(columns))]

    return Stream(names=tuple(names), parts=parts)


@contextmanager
def _faults(path: Path, source: Source) -> Iterator[None]:
    """Turn what reading raises into one line. Raises SourceError."""
    import pandas as pd

    try:
        yield
        return
    except UNOPENED as error:
        trouble = not_opened(error)
    except UnicodeError:
        trouble = _not_text(path, source)
    except pd.errors.EmptyDataError:
        trouble = "is empty. Point `source` at a table with a header and rows"
    except _DAMAGED:
        trouble = "is damaged, or not compressed as its name says. Get the file again"
    except pd.errors.ParserError as error:
        told = {"Expected": _MORE_CELLS, "EOF inside string": _OPEN_QUOTE}
        trouble = next((told[mark] for mark in told if mark in str(error)), _NOT_CSV)
    except (ValueError, LookupError):
        trouble = _NOT_CSV
    raise file_error(path, trouble)


def _names(path: Path, source: Source) -> list[str]:
    """The header's names, or the source's."""
    if source.names:
        return [n.strip() for n in source.names]
    with _pandas_csv(path, source, 1) as head:
        names = [str(n).strip().removeprefix("\ufeff") for n in next(head).iloc[0].fillna("")]
    if names[0].lower().startswith("sep="):
        raise file_error(path, 'begins with "sep=" for spreadsheets. Set `skip_rows: 1`')
    others = [s for s in SEPARATORS if s != source.separator and s in names[0]]
    if len(names) == 1 and others:
        raise file_error(
            path,
            f"has a header of one name with {others[0]!r} in it. Set `separator` in the source",
        )
    return names


def _rows(path: Path, source: Source, names: list[str], size: int) -> Iterator[pd.DataFrame]:
    import pandas as pd

    first = 0 if source.names else 1
    # pandas refuses repeated names: read by position, header included, and name afterwards.
    # Some columns more: for rows that end in separators, and because the parser cuts the first
    # row of every part without a word where it is longer than it may be. What it cuts there, behind
    # _BEYOND empty cells, had no name.
    width = len(names) + _BEYOND
    with _pandas_csv(path, source, size, names=range(width)) as parts:
        for part in parts:
            frame = part.iloc[first:]
            first = 0
            beyond = frame.iloc[:, len(names) :]
            if not (beyond.isna() | (beyond == "")).to_numpy().all():
                raise file_error(path, _MORE_CELLS)
            frame = frame.iloc[:, : len(names)].reset_index(drop=True)
            frame.columns = pd.Index(names)
            yield frame


def sniffed_separator(source: Source) -> tuple[str, int]:
    """The separator of SEPARATORS that splits a CSV's header into most names, "," where none;
    and the number of lines before it: 1 where spreadsheets are told the separator in it."""
    widths = {}
    with suppress(*_DAMAGED, ValueError, LookupError), _opened(source.files[0], source) as text:
        told = text.readline(_LONGEST_TOLD).strip().strip('"').lower()
        if told.startswith("sep=") and len(told) == 5:
            return told[-1], 1
    for separator in SEPARATORS:
        try:
            own = replace(source, separator=separator)
            with _pandas_csv(source.files[0], own, 1) as head:
                widths[separator] = next(head).shape[1]
        except (*_DAMAGED, ValueError, LookupError):
            continue  # reading the whole table says what is wrong
    return max(widths, key=lambda s: widths[s], default=","), 0


def sniffed_encoding(source: Source) -> str:
    """The encoding that a CSV's mark names; else utf-8, or cp1252 where its bytes are none.

    utf-8 of a file that is not text at all: reading it says so.
    """
    path = source.files[0]
    try:
        with _opened(path, replace(source, encoding="latin-1")) as text:
            begins = text.read(4).encode("latin-1")
        marked = next((e for mark, e in _BOMS.items() if begins.startswith(mark)), None)
        if marked:
            return marked
        return next(filter(lambda e: _is_text(path, source, e), ("utf-8", "cp1252")), "utf-8")
    except _DAMAGED:
        return "utf-8"


def _is_text(path: Path, source: Source, encoding: str) -> bool:
    try:
        with _opened(path, replace(source, encoding=encoding)) as text:
            return not any("\0" in block for block in iter(lambda: text.read(_BLOCK), ""))
    except UnicodeError:
        return False


def _scanned(path: Path, source: Source) -> str:
    """What the parser would misread without a word, or "". Raises UnicodeError.

    It ends a cell at a NUL, and leaves a backslash before a quote to a guess.
    """
    last = ""
    with _opened(path, source) as text:
        while block := text.read(_BLOCK):
            if not last and _marked_utf_8(block, source.encoding):
                return "begins as utf-8 text does. Set `encoding: utf-8` in the source"
            if "\0" in block:
                return _not_text(path, source)
            if source.escape is None and '\\"' in last + block:
                return _ESCAPE
            if _STAND_IN in block and _stands_in(source):
                return "has control characters in it. Write it with a separator of one character"
            last = block[-1]
    return ""


def _marked_utf_8(begins: str, encoding: str) -> bool:
    """Whether text read in another encoding begins with the mark of utf-8."""
    known = codecs.lookup(encoding).name
    mark = codecs.BOM_UTF8.decode(known, errors="replace")
    return not known.startswith("utf-8") and begins.startswith(mark)


def _not_text(path: Path, source: Source) -> str:
    with path.open("rb") as file:
        begins = file.read(4)
    for mark, encoding in _BOMS.items():
        if begins.startswith(mark):
            return f"begins as {encoding} text does. Set `encoding: {encoding}` in the source"
    return (
        f"is not {source.encoding} text. Correct `encoding` in the source (spreadsheets write "
        "cp1252 or utf-16), or `kind`; a workbook (.xlsx) must be exported as CSV"
    )


@contextmanager
def _opened(path: Path, source: Source) -> Iterator[IO[str]]:
    """The file's text, unpacked where its name says so; line ends as they are."""
    known = codecs.lookup(source.encoding).name
    encoding = "utf-8-sig" if known == "utf-8" else known
    unpack: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            files = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(files) != 1:
                raise file_error(path, "holds several files. Pack one alone, or unpack it")
            with archive.open(files[0]) as file:
                yield io.TextIOWrapper(file, encoding=encoding, newline="")
    else:
        with unpack.get(suffix, open)(path, "rt", encoding=encoding, newline="") as file:
            yield file


def _stands_in(source: Source) -> bool:
    return len(source.separator) != 1 or not source.separator.isascii()


@contextmanager
def _pandas_csv(
    path: Path, source: Source, rows: int, **options: Any
) -> Iterator[Iterator[pd.DataFrame]]:
    """The file's lines in frames of so many rows."""
    import pandas as pd

    stands_in = _stands_in(source)
    with _opened(path, source) as text:
        reader = pd.read_csv(
            _StandingIn(text, source.separator) if stands_in else text,
            sep=_STAND_IN if stands_in else source.separator,
            engine="c",
            header=None,
            skiprows=source.skip_rows,
            dtype=str,
            keep_default_na=False,
            na_values=[],
            skipinitialspace=source.separator != " ",
            escapechar=source.escape or None,
            chunksize=rows,
            **options,
        )
        if stands_in:  # in quoted cells it is none
            yield (
                frame.apply(lambda c: c.str.replace(_STAND_IN, source.separator, regex=False))
                for frame in reader
            )
        else:
            yield iter(reader)


class _StandingIn(io.TextIOBase):
    """Text with _STAND_IN for a separator, wherever blocks end."""

    def __init__(self, text: IO[str], separator: str) -> None:
        self._text, self._separator, self._left = text, separator, ""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = None, /) -> str:
        """At least a sign, if there is one left; other sizes than asked for are no matter here."""
        ended = False
        while not ended:
            block = self._text.read(-1 if size is None else size)
            ended = not block or size is None or size < 0
            *whole, last = (self._left + block).split(self._separator)
            # What may be the beginning of a separator waits for the next block.
            keep = 0 if ended else min(len(self._separator) - 1, len(last))
            self._left = last[len(last) - keep :]
            told = _STAND_IN.join((*whole, last[: len(last) - keep]))
            if told:
                return told
        return ""


UNOPENED = (FileNotFoundError, IsADirectoryError, PermissionError)


def not_opened(error: OSError) -> str:
    """What is wrong with a file that raised one of UNOPENED, and the remedy."""
    if isinstance(error, FileNotFoundError):
        return "does not exist. Correct `path`, or `data.root` on the command line"
    return "cannot be opened. Give `path` a file that this process may read"


def file_error(path: Path, trouble: str) -> SourceError:
    return SourceError(f"table file {path.name!r} {trouble}.")
