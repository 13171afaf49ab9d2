"""One column of a party's table: public name, type, domain, bounds, bins, role, cleaning rule.

Everything discrete downstream (one-hot positions, contingency tables, tokens) follows from
`Column.levels` and `Column.edges` alone, never from data.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from math import isfinite

import numpy as np

from twinweave.errors import SchemaError
from twinweave.names import check_name
from twinweave.parsing import Parsed
from twinweave.tables.dtypes import EXACT

MISSING = "(missing)"
"""The level that `missing: level` or `invalid: level` adds after a column's own levels."""

DEFAULT_BINS = 16

GROUPS = 64
"""Random groups that the clusters of a `cluster` column are put into. Where the noise on a group's
conversions is r times the sampling error of the arm's, the design effect d is best estimated from
d / r**2 groups: 64 fit the r of .1 to .2 at which it can be estimated well."""

VALUE_UNITS = 32
"""A `value` column travels in the protocols as integers 0..VALUE_UNITS over its bounds.

Few, since a cell's shared coins grow with the square of it: at epsilon 1 a sum takes some million
coins a cell, a thousand times fewer than with 1024 units. Enough, since rounding is without bias
(`value_units`) and adds at most 1/4, in squared units, to the variance of one user's amount: one
per cent of the variance of amounts whose standard deviation is a sixth of the clipped range; and
less than the noise wherever a cell has fewer users than coins.
"""


class Kind(StrEnum):
    CATEGORICAL = "categorical"
    INTEGER = "integer"
    CONTINUOUS = "continuous"
    DATETIME = "datetime"
    BOOLEAN = "boolean"


class Role(StrEnum):
    KEY = "key"
    MEMBERSHIP = "membership"
    CONVERSION = "conversion"
    VALUE = "value"
    FEATURE = "feature"
    SENSITIVE = "sensitive"
    LABEL = "label"
    CLUSTER = "cluster"


class Rule(StrEnum):
    """What cleaning does with a cell that is missing, or outside the domain."""

    ERROR = "error"
    LEVEL = "level"  # becomes the level MISSING
    CLIP = "clip"  # numbers only: to the nearest bound (invalid cells only)
    DROP = "drop"  # the row leaves the table


class Normal(StrEnum):
    """What does not tell two ids apart, beyond what never does (see `tables/keys.py`)."""

    CASEFOLD = "casefold"  # upper and lower case
    LETTERS_AND_DIGITS = "letters_and_digits"  # dashes, dots, blanks: all else is removed
    DIGITS = "digits"  # all but the digits 0 to 9 is removed, as of telephone numbers
    STRIP_ZEROS = "strip_zeros"  # leading zeros, after the other rules: 0049... is +49...


@dataclass(frozen=True, kw_only=True)
class Column(Parsed):
    """One column. Discrete code of a cell: 0..size-1: levels or bins in
    order, special numbers, and MISSING, where allowed, last.

    name: as the table has it, after `rename`.
    kind: what its cells are. role: what it is for in a run. shared: whether another party holds
        the same column; both declare it alike.
    levels: public domain of a categorical column; of a boolean one, its two spellings,
        false first (default "0", "1").
    bounds: inclusive public bounds of a number, or ISO dates of a datetime column.
    bins: number of equal-width bins (default 16, never more than the integers in range),
        or the inner edges themselves; a value on an edge belongs to the upper bin.
    special: public numbers that many rows share (no claim, a price, a limit): each has a code of
        its own behind the bins, which then hold the other numbers.

    missing: what cleaning does with a cell that is empty.
    invalid: what cleaning does with a cell outside the domain.
    normalise: of the key, the same at every party: what does not tell two ids apart.
    numbered: of the key: it is the row's number, from 0, for tables without ids whose rows are in
        the same order at every party.

    A cluster column has ids too, of the household or store that the user belongs to. They never
    leave the table: a hash puts every cluster into one of GROUPS, and it is the group that has a
    code. A user without one is a cluster of its own.

    Of a value column an amount that is missing, or of a user whom the party lacks, counts as 0
    in means per user. Bounds that do not hold 0 are for tables without missing amounts.
    """

    name: str
    kind: Kind
    role: Role = Role.FEATURE
    shared: bool = False
    levels: tuple[str, ...] = ()
    bounds: tuple[float, float] | tuple[str, str] | None = None
    bins: int | tuple[float, ...] | None = None
    special: tuple[float, ...] = ()
    missing: Rule = Rule.ERROR
    invalid: Rule = Rule.ERROR
    normalise: tuple[Normal, ...] = ()
    numbered: bool = False

    def __post_init__(self) -> None:
        check_name("a column", self.name)
        if self.role is Role.KEY:
            return
        if self.normalise:
            raise self._error("ids alone are normalised", "Move `normalise` to the key.")
        if self.numbered:
            raise self._error("only the key can be the row's number", "Move `numbered` to it.")
        if self.role is Role.CLUSTER:
            self._check_cluster()
            return
        if self.special and self.kind not in (Kind.INTEGER, Kind.CONTINUOUS):
            raise self._error("only numbers are special", "List levels under `levels`.")
        if self.kind is Kind.CATEGORICAL:
            self._check_levels()
        elif self.kind is Kind.BOOLEAN:
            object.__setattr__(self, "levels", self.levels or ("0", "1"))
            self._check_levels()
            if len(self.levels) != 2:
                raise self._error("a boolean has two levels", "Name both, false first.")
        else:
            self._check_bounds()
            self._check_special()
        if self.missing is Rule.CLIP:
            raise self._error("a missing cell cannot be clipped", "Use error, level or drop.")
        if self.invalid is Rule.CLIP and not self.is_numeric:
            raise self._error(
                "only numbers and dates are clipped to a bound", "Use error, level or drop."
            )
        if self.role is Role.VALUE and self.kind not in (Kind.INTEGER, Kind.CONTINUOUS):
            raise self._error("a value is a number", "Use kind integer or continuous.")
        if self.role is Role.VALUE and self.has_missing_level:
            low, high = self.span
            if not low <= 0 <= high:
                raise self._error(
                    "a user without a value counts as 0, which the bounds do not hold",
                    "Let `bounds` hold 0, or drop rows without a value (`missing: drop`).",
                )

    @property
    def is_numeric(self) -> bool:
        """True for columns coded by bins: integer, continuous, datetime."""
        return self.kind in (Kind.INTEGER, Kind.CONTINUOUS, Kind.DATETIME)

    @cached_property
    def span(self) -> tuple[float, float]:
        """Bounds as numbers; a datetime's are seconds since 1970-01-01 UTC."""
        assert self.bounds is not None
        lo, hi = (seconds(b) if isinstance(b, str) else float(b) for b in self.bounds)
        return lo, hi

    @cached_property
    def edges(self) -> tuple[float, ...]:
        """Inner bin edges, ascending; a value on an edge belongs to the upper bin."""
        lo, hi = self.span
        if isinstance(self.bins, tuple):
            return tuple(float(e) for e in self.bins)
        wanted = DEFAULT_BINS if self.bins is None else self.bins
        if self.kind is Kind.INTEGER:
            whole = int(hi - lo) + 1
            cuts = np.linspace(lo, hi + 1, min(wanted, whole) + 1)[1:-1]
            return tuple(float(c) for c in np.unique(np.ceil(cuts)))
        return tuple(float(c) for c in np.linspace(lo, hi, wanted + 1)[1:-1])

    @property
    def bin_count(self) -> int:
        """Bins of a numeric column; the codes of special numbers follow theirs."""
        return len(self.edges) + 1

    @property
    def has_missing_level(self) -> bool:
        return Rule.LEVEL in (self.missing, self.invalid)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Name of every code, in order; bins are written "[lo, hi)", the last one "[lo, hi]".

        An integer column's are "lo to hi", both inside, or the number alone; so is a special
        number's.
        """
        extra = tuple(_written(v, self.kind) for v in self.special)
        extra += (MISSING,) if self.has_missing_level else ()
        if self.role is Role.CLUSTER:
            return tuple(f"group {i}" for i in range(1, GROUPS + 1))
        if not self.is_numeric:
            return self.levels + extra
        points = (self.span[0], *self.edges, self.span[1])
        if self.kind is Kind.INTEGER:
            lows, highs = points[:-1], (*(p - 1 for p in self.edges), points[-1])
            ends = [
                (_written(a, self.kind), _written(b, self.kind))
                for a, b in zip(lows, highs, strict=True)
            ]
            return tuple(a if a == b else f"{a} to {b}" for a, b in ends) + extra
        shown = [_written(p, self.kind) for p in points]
        names = [f"[{a}, {b})" for a, b in pairwise(shown)]
        names[-1] = names[-1][:-1] + "]"
        return tuple(names) + extra

    @property
    def size(self) -> int:
        """Number of discrete codes, the missing level included."""
        return len(self.labels)

    def _check_cluster(self) -> None:
        if self.kind is not Kind.CATEGORICAL or self.levels or self.shared:
            raise self._error(
                "a cluster has ids, which one party alone knows",
                "Use kind categorical, without `levels`, not shared.",
            )
        if (self.missing, self.invalid) != (Rule.ERROR, Rule.ERROR):
            raise self._error(
                "no rule applies to a cluster: a user without one is a cluster of its own",
                "Take `missing` and `invalid` out.",
            )

    def _check_levels(self) -> None:
        if len(self.levels) < 2:
            raise self._error("needs its public levels, at least two", "List them under `levels`.")
        if len(set(self.levels)) != len(self.levels) or MISSING in self.levels:
            raise self._error(f"levels repeat or use {MISSING!r}", "Make each level unique.")
        if any(level != level.strip() or not level for level in self.levels):
            raise self._error(
                "a level is empty or has spaces around it", "Write levels without them."
            )

    def _check_bounds(self) -> None:
        if self.bounds is None:
            raise self._error("needs public bounds", "Give `bounds: [low, high]`.")
        if (self.kind is Kind.DATETIME) != isinstance(self.bounds[0], str):
            raise self._error(
                "bounds are ISO dates for a datetime, else numbers", "Correct `bounds` or `kind`."
            )
        lo, hi = self.span
        if not (isfinite(hi - lo) and lo < hi):
            raise self._error(
                "bounds and their distance must be finite, low before high", "Correct `bounds`."
            )
        if isinstance(self.bins, int) and self.bins < 1:
            raise self._error("needs at least one bin", "Give a positive number of `bins`.")
        if isinstance(self.bins, tuple):
            inner = list(self.edges)
            # An integer column may end in a bin of its highest number alone: [..., hi), [hi, hi].
            top = hi + 0.5 if self.kind is Kind.INTEGER else hi
            if inner != sorted(set(inner)) or not all(lo < e < top for e in inner):
                raise self._error("bin edges must ascend inside the bounds", "List inner edges.")
        if self.kind is Kind.INTEGER:
            if max(-lo, hi) >= EXACT:
                raise self._error(
                    "from 2**53 on numbers are rounded, and whole numbers run together",
                    "Use kind continuous, or categorical for codes.",
                )
            given = self.edges if isinstance(self.bins, tuple) else ()
            if any(p != int(p) for p in (lo, hi, *given)):
                raise self._error(
                    "bounds and edges of an integer column must be whole",
                    "Round them or use kind continuous.",
                )

    def _check_special(self) -> None:
        low, high = self.span
        if len(set(self.special)) < len(self.special) or not all(
            low <= v <= high for v in self.special
        ):
            raise self._error(
                "special values repeat or lie outside the bounds", "Give each once, inside them."
            )
        if self.kind is not Kind.INTEGER:
            return
        if any(v != int(v) for v in self.special):
            raise self._error("a special value of an integer column is whole", "Round it.")
        points = (low, *self.edges, high + 1)
        for first, end in pairwise(points):
            if sum(first <= v < end for v in self.special) >= end - first:
                raise self._error(
                    "a bin holds no number but special ones",
                    "Leave a value that is a bin by itself out of `special`, or merge bins.",
                )

    def _error(self, rule: str, remedy: str) -> SchemaError:
        return SchemaError(f"schema of column {self.name!r}: {rule}. {remedy}")


def value_unit(column: Column, clip: float | None = None) -> float:
    """What one of the VALUE_UNITS is in the column's own unit.

    clip: upper bound at which a sum's amounts are clipped; None for the column's own.
    """
    low, high = column.span
    return ((high if clip is None else clip) - low) / VALUE_UNITS


LEAST_CLIP = 1e-9
"""Of the way from the lower bound to the upper one: below, squares of what is left vanish."""


def may_clip(column: Column, clip: float) -> bool:
    """Whether a sum's amounts may be clipped there: clearly above the lower bound, and no higher
    than the upper one."""
    low, high = column.span
    return low + LEAST_CLIP * (high - low) <= clip <= high


def seconds(text: str) -> float:
    """ISO date or datetime (UTC) to seconds since 1970-01-01. Raises SchemaError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SchemaError(f"{text!r} is not an ISO date. Write YYYY-MM-DD.") from None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return (moment - datetime(1970, 1, 1)).total_seconds()


def _written(point: float, kind: Kind) -> str:
    if kind is Kind.DATETIME:
        return (datetime(1970, 1, 1) + timedelta(seconds=point)).date().isoformat()
    return f"{point:.12g}"
