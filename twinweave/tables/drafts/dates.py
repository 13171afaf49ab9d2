"""Dates that are not ISO, in a file that is drafted: the form they have in common."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from twinweave.tables.drafts.columns import NEARLY, looks_like_dates
from twinweave.tables.dtypes import as_moments, as_text, iso_dates

if TYPE_CHECKING:
    import pandas as pd

_DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d")
_TIMES = ("", " %H:%M", " %H:%M:%S")
FORMS = tuple(day + time for day in _DAYS for time in _TIMES)


def date_form(frame: pd.DataFrame) -> dict[str, str]:
    """`date_format` of a CSV, of the one form that fits all its columns of dates.

    Nothing where none does, or several (every day is 12 or less), or where other columns have
    ISO dates: a source has one form.
    """
    forms = set(FORMS)
    found = False
    for name in frame.columns:
        text, missing = as_text(frame[name])
        own = sorted(set(text[~missing]))
        if looks_like_dates(own):
            found = True
            forms = {form for form in forms if _share(own, form) >= NEARLY}
        elif own and re.match(r"\d{4}-\d\d-\d\d", own[-1]):
            moments = as_moments(frame[name])[0][~missing]
            if np.isfinite(moments).mean() >= NEARLY:
                return {}
    return {"date_format": forms.pop()} if found and len(forms) == 1 else {}


def with_iso_dates(cells: pd.Series, form: str) -> pd.Series:
    """The cells as ISO text, where they are dates of that form; others as they are."""
    text, missing = as_text(cells)
    return iso_dates(cells, form) if looks_like_dates(sorted(set(text[~missing]))) else cells


def _share(texts: list[str], form: str) -> float:
    return float(np.mean([_reads(text, form) for text in texts]))


def _reads(text: str, form: str) -> bool:
    try:
        return bool(datetime.strptime(text, form))
    except ValueError:
        return False
