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
from twinweave.tables.faults import Faults
from twinweave.tables.keys import Shape, check_ids, clean_clusters, normalise_key, shape_of
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

ALL_DROPPED = "cleaning dropped every row. Review the columns with rule `drop`."

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


def clean(frame: pd.DataFrame, schema: Schema) -> Cleaned:
    """Apply the schema's types and rules. Raises ColumnError, with all that is wrong in any
    column, or SourceError (no rows)."""
    cleaning = Cleaning(schema)
    with unquoted():
        typed = cleaning.add(frame) if len(frame) else None
        report = cleaning.finish()
    assert typed is not None  # else `finish` raised
    return Cleaned(schema=schema, frame=typed, report=report)


class Cleaning:
    """`clean` of a table that comes in parts: the same rows, report and errors, however it is cut.

    It keeps the ids of all rows, which must be complete and unique over the parts, and counts.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.rows = 0
        self._ids: list[NDArray[np.object_]] = []
        self._kept: list[Mask] = []
        self._lacks_ids = False
        self._changed: dict[str, dict[str, int]] = {c.name: {} for c in schema.data_columns}
        self._faults = {c.name: Faults(c) for c in schema.data_columns}
        self._broken: dict[str, ColumnError] = {}

    def add(self, frame: pd.DataFrame) -> pd.DataFrame | None:
        """The part as typed rows, those dropped left out; None once there is a fault."""
        import pandas as pd

        self.rows += len(frame)
        keep = np.ones(len(frame), dtype=bool)
        columns: dict[str, Any] = {}
        for column in self.schema.columns:
            try:
                cells = _cells(frame, column.name)
                if column is self.schema.key:
                    columns[column.name], missing = normalise_key(cells, column.normalise)
                    self._ids.append(columns[column.name])
                    self._lacks_ids |= bool(missing.any())
                elif column.role is Role.CLUSTER:
                    columns[column.name] = clean_clusters(cells, column)
                else:
                    columns[column.name], drop = self._clean_column(cells, column)
                    keep &= ~drop
            except ColumnError as error:
                self._broken.setdefault(column.name, error)
        self._kept.append(keep)
        if self._broken or self._lacks_ids or any(self._faults.values()):
            return None
        typed = pd.DataFrame(columns)
        return typed if keep.all() else typed[keep].reset_index(drop=True)

    def _clean_column(self, cells: pd.Series, column: Column) -> tuple[Any, Mask]:
        """(typed values, rows to drop). What changed, and what no rule allows, is counted."""
        values, missing, invalid, outside = _read(cells, column)
        faults, changed = self._faults[column.name], self._changed[column.name]
        invalid &= ~outside
        drop = np.zeros(len(cells), dtype=bool)
        if outside.any():
            values = np.clip(values, *column.span)
            _count(changed, f"invalid: {Rule.CLIP}", outside)
        for what, mask, rule in (
            ("missing", missing, column.missing),
            ("invalid", invalid, column.invalid),
        ):
            if not mask.any():
                continue
            # Text has no nearest bound: a cell that cannot be clipped is wrong.
            if rule is Rule.ERROR or (rule is Rule.CLIP and what == "invalid"):
                drop |= mask
                if what == "missing":
                    faults.missing += int(mask.sum())
                else:
                    faults.add_invalid(cells[mask])
                continue
            if rule is Rule.DROP:
                drop |= mask
            values[mask] = np.nan if column.is_numeric else None
            _count(changed, f"{what}: {rule.value}", mask)
        return (None if faults else _typed(values, column)), drop

    def faults(self) -> list[tuple[ColumnError, int | None]]:
        """(error, number of cells where they are counted) of each column, in the schema's order."""
        found: list[tuple[ColumnError, int | None]] = []
        for column in self.schema.columns:
            if column is self.schema.key and column.name not in self._broken:
                found += [(error, None) for error in self._key_faults()]
            if error := self._broken.get(column.name):
                found.append((error, None))
            elif faults := self._faults.get(column.name):
                found += faults.errors()
        return found

    def _key_faults(self) -> list[ColumnError]:
        try:
            check_ids(self.ids, self.schema.key)
        except ColumnError as error:
            return [error]
        return []

    @property
    def ids(self) -> NDArray[np.object_]:
        """Of all rows, dropped ones too: (rows,)."""
        if len(self._ids) > 1:
            self._ids = [np.concatenate(self._ids)]
        return self._ids[0]

    @property
    def kept(self) -> Mask:
        """Which rows stay: (rows,)."""
        return np.concatenate(self._kept)

    def finish(self) -> CleaningReport:
        """What was changed in all. Raises ColumnError, with all that is wrong, or SourceError."""
        if not self.rows:
            raise SourceError("the table has no rows. Point `source` at a table that has some.")
        if wrong := [error for error, _ in self.faults()]:
            raise ColumnError.of_many(wrong)
        kept = int(self.kept.sum())
        if not kept:
            raise SourceError(ALL_DROPPED)
        return CleaningReport(
            rows_read=self.rows,
            rows_kept=kept,
            changed={name: _in_order(counts) for name, counts in self._changed.items() if counts},
            ids=shape_of(self.ids, self.schema.key),
        )


def _in_order(counts: Mapping[str, int]) -> dict[str, int]:
    """Clipped, missing, invalid: whichever came first in the rows."""
    order = (f"invalid: {Rule.CLIP}", "missing", "invalid")
    return dict(sorted(counts.items(), key=lambda c: [not c[0].startswith(o) for o in order]))


def _count(counts: dict[str, int], what: str, mask: Mask) -> None:
    counts[what] = counts.get(what, 0) + int(mask.sum())


def _cells(frame: pd.DataFrame, name: str) -> pd.Series:
    found = [i for i, c in enumerate(frame.columns) if c == name]
    if not found:
        raise ColumnError(
            name, "not in the table", "Correct the header, or map it under `source.rename`."
        )
    if len(found) > 1:
        raise ColumnError(name, "occurs more than once in the table", "Rename one of them.")
    return frame.iloc[:, found[0]]


def _read(cells: pd.Series, column: Column) -> tuple[NDArray[Any], Mask, Mask, Mask]:
    """(values, which are missing, which are invalid, which of those have a bound to move to)."""
    values: NDArray[Any]
    values, missing, invalid = (_numeric if column.is_numeric else _levels)(cells, column)
    outside = np.zeros(len(cells), dtype=bool)
    if column.invalid is Rule.CLIP:
        lo, hi = column.span
        outside = ~missing & ((values < lo) | (values > hi))
    return values, missing, invalid, outside


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
