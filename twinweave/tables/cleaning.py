"""Declared cleaning: a raw table to the schema's types, or one clear error.

What was changed is counted in a report that stays with the party. Errors may leave it: they
name a column, a rule and a remedy, never a value and never how many cells were wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ColumnError, SourceError, unquoted
from twinweave.tables.column import Column, Kind, Role, Rule
from twinweave.tables.dtypes import as_moments, as_numbers, as_text, without_point_zero
from twinweave.tables.faults import invalid_cell, missing_cell
from twinweave.tables.keys import Shape, clean_clusters, clean_key, shape_of
from twinweave.tables.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]

TRUTH = {
    **dict.fromkeys(("0", "false", "f", "no", "n"), 0),
    **dict.fromkeys(("1", "true", "t", "yes", "y"), 1),
}
"""What tables write for false and true, in lower case."""

STRIKING = 0.05
"""Of a column's cells, or the rows: from here on what cleaning changed is a warning."""

_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}\.000\s*")

_KEPT_MISSING = f"missing: {Rule.LEVEL}"


@dataclass(frozen=True, kw_only=True)
class CleaningReport:
    """What cleaning changed; for the party's own eyes.

    changed: {column: {"missing: level" or the like: number of cells}}, changed columns only.
    ids: how they are written.
    """

    rows_read: int
    rows_kept: int
    changed: Mapping[str, Mapping[str, int]]
    ids: Shape

    def lines(self) -> tuple[str, ...]:
        """The report as text, one line a column, for the party's own log."""
        rows = f"{self.rows_read} rows read, {self.rows_kept} kept"
        told = (
            f"{name}: " + ", ".join(f"{what} x {n}" for what, n in counts.items())
            for name, counts in self.changed.items()
        )
        return (rows, *told, self.ids.told)

    def warnings(self) -> tuple[str, ...]:
        """What may be a wrong declaration: much of a column changed, many rows dropped, odd ids.

        A missing cell with a level of its own is as it was: nothing was changed.
        """
        told = []
        if (dropped := self._share(self.rows_read - self.rows_kept)) > STRIKING:
            told.append(
                f"{dropped:.0%} of the rows were dropped. Do rules and schema fit the table?"
            )
        for name, counts in self.changed.items():
            for what, n in counts.items():
                if what != _KEPT_MISSING and (share := self._share(n)) > STRIKING:
                    told.append(
                        f"{name}: {share:.0%} of the cells fall under `{what}`. Do units, signs "
                        "and spellings fit the schema?"
                    )
        return (*told, *self.ids.odd)

    def _share(self, cells: int) -> float:
        return cells / self.rows_read


@dataclass(frozen=True, kw_only=True, eq=False)
class Cleaned:
    """A typed table.

    frame: key and clusters as text, a cluster None where a user has none; categorical and boolean
        as their level's spelling (object, None where MISSING); integer Int64; continuous float64;
        datetime datetime64[us], UTC.
    """

    schema: Schema
    frame: pd.DataFrame = field(repr=False)
    report: CleaningReport = field(repr=False)


@unquoted()
def clean(frame: pd.DataFrame, schema: Schema) -> Cleaned:
    """Apply the schema's types and rules. Raises ColumnError, with all that is wrong in any
    column, or SourceError (no rows)."""
    import pandas as pd

    if len(frame) == 0:
        raise SourceError("the table has no rows. Point `source` at a table that has some.")
    keep = np.ones(len(frame), dtype=bool)
    counts: dict[str, dict[str, int]] = {}
    columns: dict[str, Any] = {}
    wrong: list[ColumnError] = []
    for column in schema.columns:
        try:
            cells = _cells(frame, column.name)
            if column is schema.key:
                columns[column.name] = clean_key(cells, column)
            elif column.role is Role.CLUSTER:
                columns[column.name] = clean_clusters(cells, column)
            else:
                columns[column.name], drop, counts[column.name] = _clean_column(cells, column)
                keep &= ~drop
        except ColumnError as error:
            wrong.append(error)
    if wrong:
        raise ColumnError.of_many(wrong)
    if not keep.any():
        raise SourceError("cleaning dropped every row. Review the columns with rule `drop`.")
    typed = pd.DataFrame(columns)[keep].reset_index(drop=True)
    report = CleaningReport(
        rows_read=len(frame),
        rows_kept=len(typed),
        changed={name: count for name, count in counts.items() if count},
        ids=shape_of(columns[schema.key.name], schema.key),
    )
    return Cleaned(schema=schema, frame=typed, report=report)


def _cells(frame: pd.DataFrame, name: str) -> pd.Series:
    found = [i for i, c in enumerate(frame.columns) if c == name]
    if not found:
        raise ColumnError(
            name, "not in the table", "Correct the header, or map it under `source.rename`."
        )
    if len(found) > 1:
        raise ColumnError(name, "occurs more than once in the table", "Rename one of them.")
    return frame.iloc[:, found[0]]


def _clean_column(cells: pd.Series, column: Column) -> tuple[Any, Mask, dict[str, int]]:
    """(typed values, rows to drop, counts of changed cells). Raises ColumnError."""
    values, missing, invalid, outside = _read(cells, column)
    if wrong := [error for error, _ in _wrong(cells, column, missing, invalid & ~outside)]:
        raise ColumnError.of_many(wrong)
    counts: dict[str, int] = {}
    if outside.any():
        values = np.clip(values, *column.span)
        counts[f"invalid: {Rule.CLIP}"] = int(outside.sum())
    drop = np.zeros(len(cells), dtype=bool)
    for what, mask, rule in (
        ("missing", missing, column.missing),
        ("invalid", invalid & ~outside, column.invalid),
    ):
        if not mask.any():
            continue
        if rule is Rule.DROP:
            drop |= mask
        values[mask] = np.nan if column.is_numeric else None
        counts[f"{what}: {rule.value}"] = int(mask.sum())
    return _typed(values, column), drop, counts


def column_faults(cells: pd.Series, column: Column) -> list[str]:
    """What stops a run at this column, with the number of cells; for the party's own eyes."""
    _, missing, invalid, outside = _read(cells, column)
    wrong = _wrong(cells, column, missing, invalid & ~outside)
    return [f"{error} ({count} of {len(cells)} cells)" for error, count in wrong]


def _read(cells: pd.Series, column: Column) -> tuple[NDArray[Any], Mask, Mask, Mask]:
    """(values, which are missing, which are invalid, which of those have a bound to move to)."""
    values: NDArray[Any]
    values, missing, invalid = (_numeric if column.is_numeric else _levels)(cells, column)
    outside = np.zeros(len(cells), dtype=bool)
    if column.invalid is Rule.CLIP:
        lo, hi = column.span
        outside = ~missing & ((values < lo) | (values > hi))
    return values, missing, invalid, outside


def _wrong(
    cells: pd.Series, column: Column, missing: Mask, invalid: Mask
) -> list[tuple[ColumnError, int]]:
    """(error, number of cells) for what no rule of the column allows. Text has no nearest bound:
    a cell that cannot be clipped is wrong."""
    wrong = []
    if missing.any() and column.missing is Rule.ERROR:
        wrong.append((missing_cell(column), int(missing.sum())))
    if invalid.any() and column.invalid in (Rule.ERROR, Rule.CLIP):
        wrong.append((invalid_cell(column, cells[invalid]), int(invalid.sum())))
    return wrong


def _levels(cells: pd.Series, column: Column) -> tuple[NDArray[np.object_], Mask, Mask]:
    import pandas as pd

    text, missing = as_text(cells)
    codes = pd.Index(column.levels).get_indexer(pd.Index(text))
    if (unknown := (codes < 0) & ~missing).any():
        # The declared spellings win; then what databases and data frames write for the same.
        others, found = pd.factorize(text[unknown])
        codes[unknown] = np.array([_other_spelling(column, t) for t in found])[others]
    spelled = np.array((*column.levels, None), dtype=object)[codes]
    return spelled, missing, (codes < 0) & ~missing


def _other_spelling(column: Column, text: str) -> int:
    """Code of the level that is meant: "1.0" for "1", and any word of TRUTH in a boolean; or -1.

    Levels that are such words themselves keep their meaning, whichever comes first.
    """
    plain = without_point_zero(text)
    same = [i for i, level in enumerate(column.levels) if without_point_zero(level) == plain]
    if column.kind is Kind.BOOLEAN and not same:
        same = [i for i, level in enumerate(column.levels) if level.lower() == plain.lower()]
    if len(same) == 1:
        return same[0]
    true = TRUTH.get(plain.lower())
    if column.kind is not Kind.BOOLEAN or true is None:
        return -1
    turned = TRUTH.get(column.levels[0].lower()) == 1 or TRUTH.get(column.levels[1].lower()) == 0
    return 1 - true if turned else true


def _numeric(cells: pd.Series, column: Column) -> tuple[NDArray[np.float64], Mask, Mask]:
    read = as_moments if column.kind is Kind.DATETIME else as_numbers
    values, missing = read(cells)
    lo, hi = column.span
    invalid = ~missing & ~((values >= lo) & (values <= hi))
    if column.kind is Kind.INTEGER:
        invalid |= ~missing & ~(values == np.floor(values)) | _maybe_thousands(cells)
    return values.copy(), missing, invalid


def _maybe_thousands(cells: pd.Series) -> Mask:
    """Which cells are text such as "45.000": 45 to some, forty-five thousand to others."""
    import pandas as pd

    found = np.zeros(len(cells), dtype=bool)
    if cells.dtype.kind == "O":
        is_text = np.array([isinstance(v, str) for v in cells], dtype=bool)
        codes, distinct = pd.factorize(cells[is_text].astype(object))
        found[is_text] = np.array([_THOUSANDS.fullmatch(v) is not None for v in distinct])[codes]
    return found


def _typed(values: NDArray[Any], column: Column) -> Any:
    import pandas as pd

    if column.kind is Kind.INTEGER:
        return pd.array(values, dtype="Float64").astype("Int64")
    if column.kind is Kind.DATETIME:
        gone = np.isnan(values)
        ticks = np.round(np.where(gone, 0, values) * 1e6).astype("datetime64[us]")
        ticks[gone] = np.datetime64("NaT")
        return ticks
    return values
