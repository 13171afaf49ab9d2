"""A draft of a party's schema, read from its rows, for a person to review and correct."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinweave.errors import SourceError
from twinweave.tables.dtypes import as_moments, as_numbers, as_text
from twinweave.tables.sources import Source, SourceKind, read_raw

if TYPE_CHECKING:
    import pandas as pd

MAX_LEVELS = 60
FEW_NUMBERS = 2  # a number with no more distinct values than this is a category

_HEAD = """\
# Draft of a party's schema: CONFIRM every line before this file leaves the party.
# Levels and bounds below were read from the rows. Using them in a run publishes them: keep what
# is public anyway (a form's choices, a price list, an age limit), replace the rest by what is.
# Then: set roles (membership, conversion, value, sensitive, label), mark shared columns, and
# choose for each column what to do with missing and invalid cells (error, level, clip, drop).
"""


def draft_schema(
    file: Path, *, party: str = "party", key: str | None = None, sep: str = ","
) -> str:
    """The draft as YAML text: a party's name, source and columns. Raises SourceError."""
    kind = SourceKind.PARQUET if file.suffix == ".parquet" else SourceKind.CSV
    frame = read_raw(Source(kind=kind, path=str(file), separator=sep))
    frame.columns = frame.columns.map(str)
    if key is not None and key not in frame.columns:
        raise SourceError(f"no column {key!r} in the file. Give --key a name of its header.")
    key = key or _likely_key(frame)
    source: dict[str, Any] = {"kind": kind.value, "path": str(file)}
    if sep != ",":
        source["separator"] = sep
    if key is None:
        source["key_from_row_number"] = True
    lines = [f"name: {_flow(party)}", f"source: {_flow(source)}", "columns:"]
    note = "CONFIRM: the id that the parties have in common"
    if key is None:
        note = "CONFIRM: no id found; right only if the parties' rows are in the same order"
    lines.append(_line({"name": key or "row", "kind": "categorical", "role": "key"}, note))
    lines += [_drafted(name, frame[name]) for name in frame.columns if name != key]
    return _HEAD + "\n".join(lines) + "\n"


def _likely_key(frame: pd.DataFrame) -> str | None:
    """The first complete column without repeats that looks like an id, not a measurement."""
    for name in frame.columns:
        text, missing = as_text(frame[name])
        if missing.any() or len(set(text)) < len(text):
            continue
        numbers, _ = as_numbers(frame[name])
        named = name.lower().endswith(("id", "key", "email", "user", "nbr", "number"))
        if named or np.isnan(numbers).all():
            return str(name)
    return None


def _drafted(name: str, cells: pd.Series) -> str:
    """One line of YAML for a column, or a comment where it cannot be coded."""
    text, missing = as_text(cells)
    if missing.all():
        return f"  # left out: {_flow(name)}, every cell is missing"
    facts: dict[str, Any] = {"name": name}
    levels = sorted(set(text[~missing]))
    numbers, _ = as_numbers(cells)
    moments, _ = as_moments(cells)
    if {v.lower() for v in levels} <= {"0", "1", "false", "true"}:
        facts["kind"] = "boolean"
        note = ""
    elif not np.isnan(numbers[~missing]).any() and len(levels) > FEW_NUMBERS:
        seen = numbers[~missing & np.isfinite(numbers)]
        whole = bool((seen == np.floor(seen)).all())
        facts |= {"kind": "integer" if whole else "continuous", "bounds": _rounded(seen, whole)}
        note = "CONFIRM bounds: read from the rows, then rounded outwards"
    elif not np.isnan(moments[~missing]).any():
        facts |= {"kind": "datetime", "bounds": _years(moments[~missing])}
        note = "CONFIRM bounds: read from the rows, then widened to whole years"
    elif 2 <= len(levels) <= MAX_LEVELS:
        facts |= {"kind": "categorical", "levels": levels}
        note = "CONFIRM levels: read from the rows"
    else:
        many = "one level only" if len(levels) < 2 else f"more than {MAX_LEVELS} levels"
        return f"  # left out: {_flow(name)}, {many}; declare its public levels to use it"
    if missing.any():
        facts["missing"] = "level"
    return _line(facts, note)


def _rounded(seen: np.ndarray[Any, np.dtype[np.float64]], whole: bool) -> list[float]:
    """Bounds rounded outwards to one digit, so that no one's exact number is in them."""
    lo, hi = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    step = 10.0 ** math.floor(math.log10(max(abs(lo), abs(hi), hi - lo, 1e-9)))
    step = max(step, 1.0) if whole else step
    low, high = math.floor(lo / step) * step, math.ceil(hi / step) * step
    high = high if high > low else low + step
    return [int(low), int(high)] if whole else [float(f"{low:.6g}"), float(f"{high:.6g}")]


def _years(moments: np.ndarray[Any, np.dtype[np.float64]]) -> list[str]:
    years = np.array([moments.min(), moments.max()]).astype("datetime64[s]").astype("datetime64[Y]")
    return [f"{years[0]}-01-01", f"{years[1] + 1}-01-01"]


def _line(facts: dict[str, Any], note: str) -> str:
    return f"  - {_flow(facts)}" + (f"  # {note}" if note else "")


def _flow(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # JSON is YAML, and quotes what must be quoted
