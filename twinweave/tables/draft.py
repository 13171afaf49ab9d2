"""A draft of a party's schema, read from its rows, for a person to review and correct."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import SourceError
from twinweave.tables.column import seconds
from twinweave.tables.delimited import sniffed_separator
from twinweave.tables.dtypes import (
    as_moments,
    as_numbers,
    as_text,
    plain_numbers,
    without_point_zero,
)
from twinweave.tables.keys import normalise_key
from twinweave.tables.sources import Source, SourceKind, read_raw

if TYPE_CHECKING:
    import pandas as pd

MAX_LEVELS = 60
_NEARLY = 0.95  # of the cells, or of distinct ids
_SOME = 0.2  # distinct ids a row, of a column that is called like an id
_PLACEHOLDERS = 3  # different words for "nothing" in one column
_FAR = seconds("9000-01-01")  # databases write 9999-12-31 for "open end"
_CALLED_ID = re.compile(
    r"(^|[\W_\d]|user|customer|client|member|person|patient|account|household|device|uu|gu)id$"
    r"|(?-i:[a-z]I[dD])$|(key|e-?mail|user|nbr|number|hash)$",
    re.IGNORECASE,
)
"""Not every word that ends in "id": amounts paid are no ids."""
FEW_NUMBERS = 2  # a number with no more distinct values than this is a category

_HEAD = """\
# Draft of a party's schema: CONFIRM every line before this file leaves the party.
# Levels and bounds below were read from the rows. Using them in a run publishes them: keep what
# is public anyway (a form's choices, a price list, an age limit), replace the rest by what is.
# Then: set roles (membership, conversion, value, sensitive, label), mark shared columns, and
# choose for each column what to do with missing and invalid cells (error, level, clip, drop).
"""


def draft_schema(
    file: Path,
    *,
    party: str = "party",
    key: str | None = None,
    sep: str | None = None,
    encoding: str = "utf-8",
) -> str:
    """The draft as YAML text: a party's name, source and columns. Raises SourceError.

    sep: of a CSV; the one that splits the header into most names when not given.
    """
    source = Source(kind=SourceKind.of(file), path=str(file), encoding=encoding)
    if source.kind is SourceKind.CSV:
        source = replace(source, separator=sep or sniffed_separator(source))
    frame = read_raw(source)
    frame.columns = frame.columns.map(str)
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise SourceError(f"two columns are called {repeated[0]!r}. Rename one in the header.")
    if key is not None and key not in frame.columns:
        raise SourceError(f"no column {key!r} in the file. Give --key a name of its header.")
    signs = _signs(frame) if source.kind is SourceKind.CSV else {}
    if signs:
        frame = frame.apply(_plain, signs=signs)
    key = key or _likely_key(frame)
    told: dict[str, Any] = {"kind": source.kind.value, "path": str(file)}
    told |= {"separator": source.separator} if source.separator != "," else {}
    told |= {"encoding": encoding} if encoding != "utf-8" else {}
    told |= signs
    note = "CONFIRM: no id found; right only if the parties' rows are in the same order"
    if key is None:
        told["key_from_row_number"] = True
    else:
        note = "CONFIRM: the id that the parties have in common" + _key_faults(frame[key], key)
    lines = [f"name: {_flow(party)}", f"source: {_flow(told)}", "columns:"]
    lines.append(_line({"name": key or "row", "kind": "categorical", "role": "key"}, note))
    lines += [_drafted(name, frame[name]) for name in frame.columns if name != key]
    return _HEAD + "\n".join(lines) + "\n"


def _plain(cells: pd.Series, signs: dict[str, str]) -> pd.Series:
    """The cells with plain signs, where that makes numbers of them."""
    plain = plain_numbers(cells, signs.get("decimal", "."), signs.get("thousands", ""))
    numbers, missing = as_numbers(plain)
    made = not missing.all() and _nearly_all(numbers[~missing], as_text(cells)[0][~missing])
    return plain if made else cells


def _signs(frame: pd.DataFrame) -> dict[str, str]:
    """`decimal` and `thousands` of a CSV whose numbers have commas; nothing where none has."""
    comma = point = grouped = False
    for name in frame.columns:
        text, missing = as_text(frame[name])
        own = sorted(set(text[~missing]))
        if not own or not all(re.fullmatch(r"[+-]?\d[\d.,]*", t) for t in own):
            continue
        comma |= any(re.search(r",(\d{1,2}|\d{4,})$", t) for t in own)
        point |= any(re.search(r"\d\.\d{3},", t) for t in own)
        grouped |= any(re.search(r"\d,\d{3}(\D|$)", t) for t in own)
    if comma:
        return {"decimal": ","} | ({"thousands": "."} if point else {})
    return {"thousands": ","} if grouped else {}


def _likely_key(frame: pd.DataFrame) -> str | None:
    """The column that looks like an id: the first without gaps or repeats, else nearly so.

    A column that is called like an id is one even where its users have several rows each: that
    is for the party to mend, and row numbers would pair strangers.
    """
    best: tuple[float, str] | None = None
    for name in map(str, frame.columns):
        ids, missing = normalise_key(frame[name])
        share = len(set(ids[~missing])) / len(ids)
        numbers, _ = as_numbers(frame[name])
        moments, _ = as_moments(frame[name])
        whole = not (np.isfinite(numbers) & (numbers != np.floor(numbers))).any()
        named = whole and _CALLED_ID.search(name) is not None
        text = np.isnan(numbers).all() and np.isnan(moments).all()
        if share == 1 and (named or text):
            return name
        if share >= (_SOME if named else _NEARLY) and (named or text):
            best = max(best or (0.0, ""), (share, name))
    return best[1] if best else None


def _key_faults(cells: pd.Series, key: str) -> str:
    """What a run would stop at, with numbers and the remedy; nothing for a sound key."""
    import pandas as pd

    ids, missing = normalise_key(cells)
    repeated = int(pd.Series(ids[~missing]).duplicated().sum())
    told = ""
    if repeated:
        told += (
            f"; {repeated} rows repeat an id: aggregate them, or add `keep_first_by: {key}` to "
            "the source"
        )
    if missing.any():
        told += f"; {int(missing.sum())} rows have none: fill in or remove them"
    return told


def _drafted(name: str, cells: pd.Series) -> str:
    """One line of YAML for a column, or a comment where it cannot be coded."""
    text, missing = as_text(cells)
    if missing.all():
        return f"  # left out: {_flow(name)}, every cell is missing"
    facts: dict[str, Any] = {"name": name}
    levels = sorted(set(text[~missing]))
    numbers, moments = as_numbers(cells)[0][~missing], as_moments(cells)[0][~missing]
    padded = any(len(v) > 1 and v.isdecimal() and v[0] == "0" for v in levels)
    if {without_point_zero(v).lower() for v in levels} <= {"0", "1", "false", "true"}:
        facts["kind"] = "boolean"
        note = ""
    elif _nearly_all(numbers, text[~missing]) and len(levels) > FEW_NUMBERS and not padded:
        seen, placeholder = _usual(numbers[np.isfinite(numbers)])
        whole = bool((seen == np.floor(seen)).all())
        facts |= {"kind": "integer" if whole else "continuous", "bounds": _rounded(seen, whole)}
        note = "CONFIRM bounds: read from the rows, then rounded outwards"
        note += _set_aside(facts, int((~np.isfinite(numbers)).sum()), placeholder)
    elif _nearly_all(moments, text[~missing]):
        seen = moments[np.isfinite(moments)]
        usual = seen[seen < _FAR] if (seen < _FAR).any() else seen
        facts |= {"kind": "datetime", "bounds": _years(usual)}
        note = "CONFIRM bounds: read from the rows, then widened to whole years"
        far = "9999" if len(usual) < len(seen) else None
        note += _set_aside(facts, int(np.isnan(moments).sum()), far)
    elif 2 <= len(levels) <= MAX_LEVELS:
        facts |= {"kind": "categorical", "levels": levels}
        note = "CONFIRM levels: read from the rows"
    else:
        many = "one level only" if len(levels) < 2 else f"more than {MAX_LEVELS} levels"
        many += " (codes with leading zeros)" if padded else ""
        return f"  # left out: {_flow(name)}, {many}; declare its public levels to use it"
    if missing.any():
        facts["missing"] = "level"
    return _line(facts, note)


Numbers = NDArray[np.float64]


def _nearly_all(read: Numbers, text: NDArray[np.object_]) -> bool:
    """Whether cells are of a kind, but for a few that all say the same (a "?", an "n/a")."""
    other = np.isnan(read)
    return bool(other.mean() <= 1 - _NEARLY and len(set(text[other])) <= _PLACEHOLDERS)


def _usual(seen: Numbers) -> tuple[Numbers, str | None]:
    """Numbers without a placeholder of nines far above all others, and that placeholder."""
    top = float(seen.max())
    rest = seen[seen < top]
    nines = top >= 99 and set(f"{top:.0f}") == {"9"}
    if nines and len(rest) and 2 * float(rest.max()) < top:
        return rest, f"{top:.0f}"
    return seen, None


def _set_aside(facts: dict[str, Any], unread: int, placeholder: str | None) -> str:
    """Declare a level for what is no number or only stands for none; the note on it."""
    if not unread and placeholder is None:
        return ""
    facts["invalid"] = "level"
    told = f"; {unread} cells are of no such kind and become missing" if unread else ""
    return told + (f"; {placeholder} taken for missing" if placeholder else "")


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


def _line(facts: dict[str, Any], note: str) -> str:
    return f"  - {_flow(facts)}" + (f"  # {note}" if note else "")


def _flow(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # JSON is YAML, and quotes what must be quoted
