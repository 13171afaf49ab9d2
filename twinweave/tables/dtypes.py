"""Cells of any pandas column as text, numbers or moments, whatever dtype it arrived in.

Readers deliver all kinds of columns: text from CSV, nullable integers from Parquet, Decimals
from databases, mixtures from hand-made frames. Nothing here raises for what a cell holds: it
comes back as missing, or as unreadable, and cleaning decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

UNREADABLE = "\ufffd"
"""Stands for a cell that has no text: broken bytes, a list, a float that may have been rounded."""

EXACT = 2.0**53
"""From here on a float no longer tells whole numbers apart: as text it is unreadable."""

_POINT_ZERO = re.compile(r"([+-]?\d+)\.0+")

_ZONED = re.compile(r"\d[T ].*(?:[Zz]|[+-]\d\d(?::?\d\d)?)\s*$")
"""An ISO time that says its zone."""

_BLANK = ("", "nan", "nat", "none", "null", "<na>")
"""Spellings of "nothing" in a column of numbers or dates; in text only "" is nothing."""


def as_text(cells: pd.Series) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """(text, missing): stripped text, None where missing; whole floats lose their ".0"."""
    import pandas as pd

    values = _objects(cells)
    missing = np.asarray(pd.isna(values), dtype=bool)
    if pd.api.types.infer_dtype(values, skipna=True) == "string":
        text = pd.Series(values, dtype=object).str.strip().to_numpy(dtype=object)
    else:
        text = np.array([_spelled(v) for v in values] + [None], dtype=object)[:-1]
    missing |= text == ""
    text[missing] = None
    return text, missing


def without_point_zero(text: str) -> str:
    """ "1.0" as "1": how a whole number is spelled where its column has gaps. Else as it is."""
    whole = _POINT_ZERO.fullmatch(text)
    return whole[1] if whole else text


def plain_numbers(cells: pd.Series, decimal: str, thousands: str) -> pd.Series:
    """Text of numbers with a point for a decimal sign and no thousands separators.

    thousands: removed between groups of three digits; "" for none. A point that is left where
    the decimal sign is another becomes UNREADABLE: 1.5 is no number there.
    """
    text = cells.str.strip()
    if thousands:
        text = text.str.replace(rf"(?<=\d){re.escape(thousands)}(?=\d{{3}}(?!\d))", "", regex=True)
    if decimal != ".":
        text = text.str.replace(".", UNREADABLE, regex=False)
        text = text.str.replace(decimal, ".", regex=False)
    return text


def is_date_format(form: str) -> bool:
    """Whether a date written so can be read again."""
    day = datetime(2001, 2, 3)
    try:
        return datetime.strptime(day.strftime(form), form) == day
    except ValueError:
        return False


def iso_dates(cells: pd.Series, form: str) -> pd.Series:
    """Text in that form as ISO text; other text is UNREADABLE. What is no text stays."""
    import pandas as pd

    def iso(text: str) -> str:
        try:
            return datetime.strptime(text.strip(), form).isoformat()
        except ValueError:
            return "" if text.strip() == "" else UNREADABLE

    is_text = np.array([isinstance(c, str) for c in cells], dtype=bool)
    codes, distinct = pd.factorize(cells[is_text].to_numpy(dtype=object))
    written = cells.astype(object).copy()
    written[is_text] = np.array([iso(text) for text in distinct], dtype=object)[codes]
    return written


def as_numbers(cells: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(float64, missing): NaN where missing, and where the cell is not a number."""
    import pandas as pd

    if cells.dtype.kind in "biuf":
        numbers = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers, np.isnan(numbers)
    values = _objects(cells)
    missing = np.asarray(pd.isna(values), dtype=bool)
    numbers = _each_text_once(values, _parsed_numbers)
    return numbers, missing | _blank(values, np.isnan(numbers))


def as_moments(cells: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(float64, missing): seconds since 1970-01-01 UTC from dates, datetimes and ISO text.

    A time without a zone is UTC. Numbers are not dates: their unit would be a guess.
    """
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(cells):
        seconds = _seconds(cells)
        return seconds, np.isnan(seconds)
    values = _objects(cells)
    missing = np.asarray(pd.isna(values), dtype=bool)
    seconds = _each_text_once(values, _mixed_moments)
    return seconds, missing | _blank(values, np.isnan(seconds))


def _each_text_once(
    values: NDArray[np.object_], read: Callable[[NDArray[np.object_]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """`read` of the cells; of a column of text, of each different one once."""
    import pandas as pd

    if pd.api.types.infer_dtype(values, skipna=True) != "string":
        return read(values)
    codes, distinct = pd.factorize(values)
    return np.append(read(np.asarray(distinct, dtype=object)), np.nan)[codes]


def _objects(cells: pd.Series) -> NDArray[np.object_]:
    """A fresh object array of the cells: categories, nullable and zoned types unpacked."""
    import pandas as pd

    values = np.array(cells.astype(object).to_numpy(dtype=object), dtype=object)
    values[pd.isna(values)] = None
    return values


def _spelled(cell: Any) -> str | None:
    if cell is None:
        return None
    if isinstance(cell, bytes):
        try:
            return cell.decode("utf-8").strip()
        except UnicodeDecodeError:
            return UNREADABLE
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, (bool, np.bool_)):
        return str(bool(cell))
    try:
        if isinstance(cell, (float, np.floating)) and abs(float(cell)) >= EXACT:
            return UNREADABLE
        if isinstance(cell, (float, np.floating, Decimal)) and cell == int(cell):
            return str(int(cell))
        if isinstance(cell, Decimal):
            return f"{cell:f}"  # with all its digits, as a database writes it
        if isinstance(cell, (int, np.integer, float, np.floating, UUID)):
            return str(cell)
    except (ValueError, OverflowError, ArithmeticError):
        return UNREADABLE  # infinities, integers of thousands of digits
    return cell.isoformat() if isinstance(cell, date) else UNREADABLE


def _parsed_numbers(values: NDArray[np.object_]) -> NDArray[np.float64]:
    import pandas as pd

    kind = pd.api.types.infer_dtype(values, skipna=True)
    # Of text, pandas' own reading is off by a unit in the last place.
    if kind in ("integer", "floating", "mixed-integer-float", "boolean"):
        try:
            parsed = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce")
            return np.asarray(parsed.to_numpy(dtype=np.float64, na_value=np.nan))
        except (ValueError, TypeError, OverflowError):
            pass
    return np.array([_number(v) for v in values], dtype=np.float64)


def _number(cell: Any) -> float:
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    if not isinstance(cell, (str, int, float, bool, Decimal, np.number, np.bool_)):
        return np.nan
    if isinstance(cell, str) and "_" in cell:  # Python reads 1_000, tables do not
        return np.nan
    try:
        return float(cell)
    except OverflowError:
        return np.inf if isinstance(cell, int) and cell > 0 else -np.inf
    except (ValueError, TypeError):
        return np.nan


def _mixed_moments(values: NDArray[np.object_]) -> NDArray[np.float64]:
    import pandas as pd

    dates = pd.Series(_datelike(values), dtype=object)
    # Apart: beside text with an offset, pandas gives text without one the same offset.
    zoned = np.array(
        [isinstance(d, str) and _ZONED.search(d) is not None for d in dates], dtype=bool
    )
    seconds = np.full(len(values), np.nan)
    for part in (zoned, ~zoned):
        seconds[part] = _seconds(dates[part])
    return seconds


def _datelike(values: NDArray[np.object_]) -> NDArray[np.object_]:
    """Keep dates and text that begins like one; pandas would read "now", and numbers as ns."""
    import pandas as pd

    keep = np.array([isinstance(v, (str, date, np.datetime64)) for v in values], dtype=bool)
    text = np.array([isinstance(v, str) for v in values], dtype=bool)
    if text.any():
        begins = pd.Series(values[text], dtype=object).str.match(r"\s*\d{4}-\d\d-\d\d")
        keep[text] = begins.to_numpy(dtype=bool)
    kept = values.copy()
    kept[~keep] = None
    return kept


def _seconds(cells: pd.Series) -> NDArray[np.float64]:
    import pandas as pd

    moments = pd.to_datetime(cells, errors="coerce", utc=True, format="ISO8601")
    ticks = moments.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    read = np.where(np.isnat(ticks), np.nan, ticks.astype(np.int64) / 1e6)
    # pandas counts nanoseconds, which end in 2262; Python's dates go from year 1 to 9999.
    far = np.isnan(read) & np.asarray(cells.notna(), dtype=bool)
    read[far] = [_far_moment(cell) for cell in cells[far]]
    return read


def _far_moment(cell: Any) -> float:
    """Seconds since 1970-01-01 UTC of a date that pandas cannot hold, NaN where it is none."""
    try:
        moment = datetime.fromisoformat(cell.strip() if isinstance(cell, str) else str(cell))
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (zoned - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    except (ValueError, OverflowError):
        return float("nan")


def _blank(values: NDArray[np.object_], unread: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the unread cells only spell "nothing"."""
    blank = np.zeros(len(values), dtype=bool)
    at = np.flatnonzero(unread)
    blank[at] = [isinstance(v, str) and v.strip().lower() in _BLANK for v in values[at]]
    return blank
