"""What kind of column the cells of a file make: a draft of its facts, and what to confirm of them.

Levels and bounds are read from the rows here, and nowhere else. Bounds are rounded outwards, so
that nobody's exact number is in them; a person replaces both by what is public.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.tables.cleaning import TRUTH
from twinweave.tables.column import Column, Kind, seconds
from twinweave.tables.dtypes import (
    EXACT,
    as_moments,
    as_numbers,
    as_text,
    plain_numbers,
    without_point_zero,
)

if TYPE_CHECKING:
    import pandas as pd

MAX_LEVELS = 60
NEARLY = 0.95  # of the cells, or of distinct ids
_PLACEHOLDERS = 3  # different words for "nothing" in one column
_FAR = seconds("9000-01-01")  # databases write 9999-12-31 for "open end"
_FEW_NUMBERS = 2  # a number with no more distinct values than this is a category
_SHARED, _OF_BIN = 0.05, 0.25  # of the rows, and of its bin: a number with more is special
_MANY = 25  # rows, at least, that share it
_DIGITS = frozenset(("0", "1", "false", "true"))  # flags, even where only one of them occurs
_NOTHING = frozenset(
    ("?", "-", "--", ".", "n/a", "na", "#n/a", "#na", "nan", "null", "nil", "<na>", "(null)", r"\n")
)
"""What tables write in a column of words where nothing is known."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ColumnDraft:
    """One column: its facts as a configuration has them, and what to tell of it.

    facts: None for a column that cannot be coded; `note` says why.
    """

    name: str
    facts: Mapping[str, Any] | None
    note: str = ""


def drafted(name: str, cells: pd.Series, plain: pd.Series) -> ColumnDraft:
    """The draft of one column. plain: the same with plain signs, where it is one of numbers."""
    text, missing = as_text(cells)
    if missing.all():
        return ColumnDraft(name=name, facts=None, note="every cell is missing")
    if not name:
        return ColumnDraft(name=name, facts=None, note="it has no name in the header")
    levels = sorted(set(text[~missing]))
    known = [v for v in levels if v.lower() not in _NOTHING]
    if (truth := _flag_levels(known)) is not None:
        facts: dict[str, Any] = {"kind": "boolean", **truth}
        note = "CONFIRM levels: false first" if truth else "CONFIRM: a flag"
        note += _words_set_aside(facts, text, levels, known)
    elif (made := _numbers_or_moments(plain, text, missing, known)) is not None:
        facts, note = made
    elif 2 <= len(known) <= MAX_LEVELS:
        facts = {"kind": "categorical", "levels": known}
        note = "CONFIRM levels: read from the rows"
        note += _words_set_aside(facts, text, levels, known)
    else:
        many = "one level only" if len(known) < 2 else f"more than {MAX_LEVELS} levels"
        many += " (codes with leading zeros)" if codes(known) else ""
        many += " (numbers with commas among others with points)" if _commas(known) else ""
        many += (
            " (dates that are not ISO: set `date_format` in the source, and kind datetime)"
            if looks_like_dates(known)
            else ""
        )
        note = f"{many}; declare its public levels to use it"
        return ColumnDraft(name=name, facts=None, note=note)
    if missing.any():
        facts["missing"] = "level"
    return ColumnDraft(name=name, facts={"name": name, **facts}, note=note)


def looks_like_dates(texts: list[str]) -> bool:
    """Whether nearly all are days, months and years in another order or with other signs than
    ISO's; a few may say that nothing is known."""
    form = re.compile(r"(\d{1,2}([./-])\d{1,2}\2\d{4}|\d{4}([./])\d{1,2}\3\d{1,2})( [\d:]+)?")
    dated = sum(form.fullmatch(text) is not None for text in texts)
    return dated > 0 and dated >= NEARLY * len(texts)


def comma_signs(frame: pd.DataFrame) -> dict[str, str]:
    """`decimal` and `thousands` of a CSV whose numbers have commas; nothing where none has.

    1,234 alone is one thousand and more; 0,234 and 1,5 are not. 1.234 is, where commas are
    decimal signs. Nothing where some columns have decimal commas and others decimal points.
    """
    comma = point = grouped = mixed = False
    for name in frame.columns:
        text, missing = as_text(frame[name])
        own = sorted({t for t in text[~missing] if t.lower() not in _NOTHING})
        if not own or not all(re.fullmatch(r"[+-]?\d[\d.,]*([eE][+-]?\d+)?", t) for t in own):
            continue
        mixed |= any(re.fullmatch(r"[+-]?\d+\.(\d{1,2}|\d{4,})([eE][+-]?\d+)?", t) for t in own)
        comma |= any(re.search(r",(\d{1,2}|\d{4,})$|^[+-]?0\d*,\d", t) for t in own)
        grouped |= any(re.search(r"\d,\d{3}(\D|$)", t) for t in own)
        point |= all(re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})*(,\d+)?", t) for t in own) and any(
            "." in t for t in own
        )
    if comma:
        if mixed:  # one source has one decimal sign
            return {}
        return {"decimal": ","} | ({"thousands": "."} if point else {})
    return {"thousands": ","} if grouped else {}


def with_plain_signs(cells: pd.Series, signs: Mapping[str, str]) -> pd.Series:
    """The cells with plain signs, where that makes numbers of them."""
    plain = plain_numbers(cells, signs.get("decimal", "."), signs.get("thousands", ""))
    numbers, missing = as_numbers(plain)
    made = not missing.all() and _nearly_all(numbers[~missing], as_text(cells)[0][~missing])
    return plain if made else cells


def _flag_levels(known: list[str]) -> dict[str, Any] | None:
    """The two spellings of a boolean column, where they are not the usual ones; None: no flag."""
    words = {without_point_zero(v).lower() for v in known[: MAX_LEVELS + 1]}
    meant = {TRUTH.get(word) for word in words}
    if not 0 < len(known) <= MAX_LEVELS or not (words <= _DIGITS or meant == {0, 1}):
        return None
    if len(known) == 2 and not words <= _DIGITS:
        return {"levels": sorted(known, key=lambda v: TRUTH[v.lower()])}
    return {}


def _numbers_or_moments(
    cells: pd.Series, text: NDArray[np.object_], missing: NDArray[np.bool_], known: list[str]
) -> tuple[dict[str, Any], str] | None:
    numbers, moments = as_numbers(cells)[0][~missing], as_moments(cells)[0][~missing]
    if _nearly_all(numbers, text[~missing]) and len(known) > _FEW_NUMBERS and not codes(known):
        seen, placeholder = _usual(numbers[np.isfinite(numbers)])
        whole = bool((seen == np.floor(seen)).all() and np.abs(seen).max() < EXACT)
        kind = "integer" if whole else "continuous"
        facts: dict[str, Any] = {"kind": kind, "bounds": _rounded(seen, whole)}
        note = "CONFIRM bounds: read from the rows, then rounded outwards"
        if special := _special(seen, facts):
            facts["special"] = special
            note += "; CONFIRM special: many rows share these numbers"
        return facts, note + _set_aside(facts, int((~np.isfinite(numbers)).sum()), placeholder)
    if _nearly_all(moments, text[~missing]):
        seen = moments[np.isfinite(moments)]
        usual = seen[seen < _FAR] if (seen < _FAR).any() else seen
        facts = {"kind": "datetime", "bounds": _years(usual)}
        note = "CONFIRM bounds: read from the rows, then widened to whole years"
        far = "9999" if len(usual) < len(seen) else None
        return facts, note + _set_aside(facts, int(np.isnan(moments).sum()), far)
    return None


def _special(seen: Numbers, facts: Mapping[str, Any]) -> list[float]:
    """Numbers that many rows share, and that a bin of the usual width would spread out."""
    values, count = np.unique(seen, return_counts=True)
    low, high = facts["bounds"]
    column = Column(name="x", kind=Kind(facts["kind"]), bounds=(low, high))
    whole = column.kind is Kind.INTEGER
    bins = np.searchsorted(column.edges, values, side="right")
    within = np.bincount(bins, count, column.bin_count)[bins]
    many = max(_SHARED * len(seen), _MANY)
    found = values[(count >= many) & (count > _OF_BIN * within)]
    if whole:  # in a bin of its own it is told apart anyway
        points = np.array((low, *column.edges, high + 1))
        at = np.searchsorted(column.edges, found, side="right")
        found = found[np.diff(points)[at] > 1]
    return [int(v) if whole else float(v) for v in found]


def _commas(levels: list[str]) -> bool:
    """Whether these are numbers with decimal commas."""
    number = re.compile(r"[+-]?[\d.]*,\d+|\d+")
    return len(levels) > 1 and all(map(number.fullmatch, levels)) and "," in "".join(levels)


def codes(texts: Iterable[str]) -> bool:
    """Whether these are codes: digits of which a number would lose some (01234)."""
    return any(len(t) > 1 and t.isdecimal() and t[0] == "0" for t in texts)


def _nearly_all(read: Numbers, text: NDArray[np.object_]) -> bool:
    """Whether cells are of a kind, but for a few that all say the same (a "?", an "n/a")."""
    other = np.isnan(read)
    return bool(other.mean() <= 1 - NEARLY and len(set(text[other])) <= _PLACEHOLDERS)


def _usual(seen: Numbers) -> tuple[Numbers, str | None]:
    """Numbers without a placeholder of nines far from all others (999, -99), and that one."""
    for far, rest in ((seen.max(), seen[seen < seen.max()]), (seen.min(), seen[seen > seen.min()])):
        nines = abs(far) >= 99 and set(f"{abs(far):.0f}") == {"9"} and far == round(far)
        if nines and len(rest) and 2 * float(np.abs(rest).max()) < abs(far):
            return rest, f"{far:.0f}"
    return seen, None


def _set_aside(facts: dict[str, Any], unread: int, placeholder: str | None) -> str:
    """Declare a level for what is no number or only stands for none; the note on it."""
    if not unread and placeholder is None:
        return ""
    facts["invalid"] = "level"
    told = f"; {unread} cells are of no such kind and become missing" if unread else ""
    return told + (f"; {placeholder} taken for missing" if placeholder else "")


def _words_set_aside(
    facts: dict[str, Any], text: NDArray[np.object_], levels: list[str], known: list[str]
) -> str:
    """The same for the words that stand for nothing among levels."""
    nothing = [level for level in levels if level not in known]
    if not nothing:
        return ""
    facts["invalid"] = "level"
    cells = int(np.isin(text, nothing).sum())
    return f"; {cells} cells say {' or '.join(map(repr, nothing))}, taken for missing"


def _rounded(seen: Numbers, whole: bool) -> list[float]:
    """Bounds rounded outwards to one digit of the range: no one's exact number is in them."""
    lo, hi = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    step = 10.0 ** math.floor(math.log10(max(hi - lo or abs(hi), 1e-9)))
    step = max(step, 1.0) if whole else step
    low, high = math.floor(lo / step) * step, math.ceil(hi / step) * step
    high = high if high > low else low + step
    return [int(low), int(high)] if whole else [float(f"{low:.6g}"), float(f"{high:.6g}")]


def _years(moments: Numbers) -> list[str]:
    years = np.array([moments.min(), moments.max()]).astype("datetime64[s]").astype("datetime64[Y]")
    after = min(int(str(years[1])) + 1, 9999)
    return [f"{years[0]}-01-01", f"{after}-{'12-31' if after == 9999 else '01-01'}"]
