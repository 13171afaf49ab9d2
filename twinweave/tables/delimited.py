"""CSV files, whatever separates their cells and however they begin and end; every cell as text."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinweave.errors import SourceError

if TYPE_CHECKING:
    import pandas as pd

    from twinweave.tables.sources import Source

SEPARATORS = (",", ";", "\t", "|")

_NOT_CSV = "is not CSV with these options. Correct `separator`, `names` or `kind`"
_MORE_CELLS = (
    "has rows with more cells than the header has names. Correct "
    "`separator` or `names`, or quote cells that hold it"
)


def read_csv(path: Path, source: Source) -> pd.DataFrame:
    """All cells as text. Raises SourceError."""
    import pandas as pd

    trouble = ""
    frame = None
    try:
        if _has_nul(path, source):
            raise UnicodeError
        names = [n.strip() for n in source.names]
        first = 0 if names else 1
        if not names:
            head = _pandas_csv(path, source, nrows=1)
            names = [str(n).strip().removeprefix("\ufeff") for n in head.iloc[0]]
        # pandas refuses repeated names: read by position, header included, and name afterwards.
        # One column more, for rows that end in a separator.
        frame = _pandas_csv(path, source, names=range(len(names) + 1)).iloc[first:]
    except FileNotFoundError:
        trouble = "does not exist. Correct `path`, or `data.root` on the command line"
    except (IsADirectoryError, PermissionError):
        trouble = "cannot be opened. Give `path` a file that this process may read"
    except UnicodeError:
        trouble = f"is not {source.encoding} text. Correct `encoding` or `kind` in the source"
    except pd.errors.EmptyDataError:
        trouble = "is empty. Point `source` at a table with a header and rows"
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        trouble = "is damaged, or not compressed as its name says. Get the file again"
    except pd.errors.ParserError as error:
        trouble = _MORE_CELLS if "Expected" in str(error) else _NOT_CSV
    except (ValueError, LookupError):
        trouble = _NOT_CSV
    if frame is None:
        raise file_error(path, trouble)
    beyond = frame[len(names)]
    if not (beyond.isna() | (beyond == "")).all():
        raise file_error(path, _MORE_CELLS)
    others = [s for s in SEPARATORS if s != source.separator and s in names[0]]
    if len(names) == 1 and others and not source.names:
        raise file_error(
            path,
            f"has a header of one name with {others[0]!r} in it. Set `separator` in the source",
        )
    frame = frame.drop(columns=len(names)).reset_index(drop=True)
    frame.columns = pd.Index(names)
    return frame


def sniffed_separator(source: Source) -> str:
    """The separator of SEPARATORS that splits a CSV's header into most names; "," where none."""
    widths = {}
    for separator in SEPARATORS:
        try:
            head = _pandas_csv(source.files[0], replace(source, separator=separator), nrows=1)
            widths[separator] = head.shape[1]
        except (OSError, EOFError, ValueError, LookupError, zlib.error, lzma.LZMAError):
            continue  # reading the whole table says what is wrong
    return max(widths, key=lambda s: widths[s], default=",")


def _has_nul(path: Path, source: Source) -> bool:
    """Whether a NUL is in the file (unpacked, but for archives): pandas would end a cell there."""
    if source.encoding.lower().startswith(("utf-16", "utf_16", "utf16", "utf-32", "utf_32")):
        return False
    opened: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(
        path.suffix.lower(), open
    )
    if path.suffix.lower() in (".zip", ".zst", ".tar"):
        return False
    with opened(path, "rb") as file:
        return any(b"\0" in block for block in iter(lambda: file.read(1 << 20), b""))


def _pandas_csv(path: Path, source: Source, **options: Any) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = pd.read_csv(
        path,
        sep=source.separator if len(source.separator) == 1 else re.escape(source.separator),
        engine="c" if len(source.separator) == 1 else "python",
        encoding=source.encoding,
        header=None,
        skiprows=source.skip_rows,
        dtype=str,
        keep_default_na=False,
        na_values=[],
        skipinitialspace=source.strip,
        **options,
    )
    return frame


def file_error(path: Path, trouble: str) -> SourceError:
    return SourceError(f"table file {path.name!r} {trouble}.")
