"""Cells that no rule of their column allows, as errors that say what is wrong and quote nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twinweave.errors import ColumnError
from twinweave.tables.column import Column, Kind
from twinweave.tables.dtypes import as_text

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = (
    (
        r"[+-]?\d[\d.\s]*,\d[\d.,]*",
        "a cell has a comma in its number",
        "Set `decimal` (1,5) or `thousands` (1,500) in the source.",
    ),
    (
        r"[+-]?\d{1,3}(\.\d{3})+",
        "a cell has points between the thousands of its number",
        "Set `thousands: '.'` and `decimal: ','` in the source, or write numbers without points.",
    ),
    (
        r"[+-]?\d{1,3}(['\u2019\s]\d{3})+(\.\d+)?",
        "a cell has blanks or apostrophes between the thousands of its number",
        "Set `thousands` in the source.",
    ),
    (
        r"[^\d\s+-]{1,4}\s*[+-]?\d[\d.,]*|[+-]?\d[\d.,]*\s*[^\d\s.,]{1,4}",
        "a cell has a unit or sign beside its number",
        "Take it out of the table.",
    ),
)
"""(form, rule, remedy) of numbers that were written for people, in columns of numbers."""

_OTHER_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}.*|\d{8}|\d{1,2}\.?[ -][^\W\d_]+\.?[ -]\d{2,4}.*"
_ISO = r"\d{4}-\d\d-\d\d.*"


def missing_cell(column: Column) -> ColumnError:
    return ColumnError(
        column.name,
        "a cell is missing",
        "Fill it in, or declare `missing: level` or `missing: drop`.",
    )


def invalid_cell(column: Column, cells: pd.Series) -> ColumnError:
    """The error for these cells; it tells their form at most."""
    if not column.is_numeric:
        return ColumnError(
            column.name,
            f"a cell is none of the {column.kind.value} column's levels",
            "Correct the table, add the level, or declare `invalid: level` or `invalid: drop`.",
        )
    text = [t.strip() for t in as_text(cells)[0] if t is not None]
    if column.kind is Kind.DATETIME:
        if any(re.fullmatch(_OTHER_DATE, t) and not re.fullmatch(_ISO, t) for t in text):
            return ColumnError(
                column.name,
                "a cell is a date in another form than ISO's YYYY-MM-DD",
                "Set `date_format` in the source, or write the dates so.",
            )
    else:
        for form, rule, remedy in _NUMBERS:
            if any(re.fullmatch(form, t) for t in text):
                return ColumnError(column.name, rule, remedy)
    what = {
        Kind.INTEGER: "a whole number",
        Kind.CONTINUOUS: "a finite number",
        Kind.DATETIME: "an ISO date",
    }[column.kind]
    return ColumnError(
        column.name,
        f"a cell is not {what} within the bounds",
        "Correct the table, widen `bounds`, or declare `invalid: clip` (numbers out of bounds "
        "only), `level` or `drop`.",
    )
