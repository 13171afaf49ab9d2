"""Cells that no rule of their column allows, as errors that say what is wrong and quote nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from twinweave.errors import ColumnError
from twinweave.tables.column import Column, Kind
from twinweave.tables.dtypes import as_text

if TYPE_CHECKING:
    import pandas as pd

_OTHER_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}.*|\d{8}|\d{1,2}\.?[ -][^\W\d_]+\.?[ -]\d{2,4}.*"
_ISO = r"\d{4}-\d\d-\d\d.*"

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

_DATES = (
    (
        rf"(?!{_ISO}$)(?:{_OTHER_DATE})",
        "a cell is a date in another form than ISO's YYYY-MM-DD",
        "Set `date_format` in the source, or write the dates so.",
    ),
)
"""The same of dates."""

_NESTED = (
    "a cell is a list or a record",
    "Unpack it in the source: a column holds one number, text or date a row.",
)


@dataclass
class Faults:
    """Cells of one column that none of its rules allows, over all parts of a table.

    form: the place in `_forms` of the first form that one of them has, which the error tells.
    """

    column: Column
    missing: int = 0
    invalid: int = 0
    form: int | None = None

    def __bool__(self) -> bool:
        return bool(self.missing or self.invalid)

    def add_invalid(self, cells: pd.Series) -> None:
        """Count these cells. Nothing of them is kept but their form."""
        self.invalid += len(cells)
        known = _forms(self.column)
        if (first := _first_form(cells, known[: self.form])) is not None:
            self.form = first

    def errors(self) -> list[tuple[ColumnError, int]]:
        """(error, number of cells)."""
        found = []
        if self.missing:
            rule, remedy = _MISSING
            found.append((ColumnError(self.column.name, rule, remedy), self.missing))
        if self.invalid:
            rule, remedy = _invalid(self.column)
            if self.form is not None:
                _, rule, remedy = _forms(self.column)[self.form]
            found.append((ColumnError(self.column.name, rule, remedy), self.invalid))
        return found


_MISSING = (
    "a cell is missing",
    "Fill it in, or declare `missing: level` or `missing: drop`.",
)


def _forms(column: Column) -> tuple[tuple[str | None, str, str], ...]:
    """(form of a cell's text, rule, remedy), the first one that fits; None: no text at all."""
    nested = (None, *_NESTED)
    if column.kind is Kind.DATETIME:
        return (nested, *_DATES)
    return (nested, *_NUMBERS) if column.is_numeric else (nested,)


def _first_form(cells: pd.Series, known: tuple[tuple[str | None, str, str], ...]) -> int | None:
    import pandas as pd

    if any(isinstance(c, (list, tuple, dict, np.ndarray)) for c in cells):
        return 0 if known else None
    text = pd.unique(as_text(cells)[0])
    for place, (form, _, _) in enumerate(known):
        if form is not None and any(re.fullmatch(form, t) for t in text if t is not None):
            return place
    return None


def _invalid(column: Column) -> tuple[str, str]:
    """(rule, remedy) for a cell of no form that is known."""
    if not column.is_numeric:
        return (
            f"a cell is none of the {column.kind.value} column's levels",
            "Correct the table, add the level, or declare `invalid: level` or `invalid: drop`.",
        )
    what = {
        Kind.INTEGER: "a whole number",
        Kind.CONTINUOUS: "a finite number",
        Kind.DATETIME: "an ISO date",
    }[column.kind]
    return (
        f"a cell is not {what} within the bounds",
        "Correct the table, widen `bounds`, or declare `invalid: clip` (numbers out of bounds "
        "only), `level` or `drop`.",
    )
