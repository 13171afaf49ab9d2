"""Typed tables to discrete codes and back; the same code at every party."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import SchemaError
from twinweave.parsing import canonical_json
from twinweave.tables.cleaning import TRUTH, Cleaned
from twinweave.tables.column import GROUPS, VALUE_UNITS, Column, Kind, Role, seconds
from twinweave.tables.contingency import ABSENT
from twinweave.tables.densities import densities
from twinweave.tables.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

Codes = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedTable:
    """A party's table as the protocols see it. Its repr shows no contents.

    ids: (n,) object, normalised text, unique.
    codes: (n, len(schema.coded_columns)) int32, in their order, each within 0..size-1 of its
        column.
    amounts: {name of a value column: (n,) float64 within its bounds}; one that is missing is 0,
        which the bounds then hold.
    """

    schema: Schema
    ids: NDArray[np.object_] = field(repr=False)
    codes: Codes = field(repr=False)
    amounts: Mapping[str, NDArray[np.float64]] = field(repr=False)

    def __post_init__(self) -> None:
        wanted = (len(self.ids), len(self.schema.coded_columns))
        values = {c.name for c in self.schema.with_role(Role.VALUE)}
        if self.codes.shape != wanted or self.codes.dtype != np.int32:
            raise SchemaError("encoded table: codes are not int32 (rows, columns). Encode again.")
        if set(self.amounts) != values or any(len(a) != len(self) for a in self.amounts.values()):
            raise SchemaError("encoded table: amounts do not fit the value columns. Encode again.")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.bool_]) -> EncodedTable:
        """The table of some of its rows. rows: (n,), which."""
        return EncodedTable(
            schema=self.schema,
            ids=self.ids[rows],
            codes=self.codes[rows],
            amounts={name: own[rows] for name, own in self.amounts.items()},
        )

    def column(self, name: str) -> Codes:
        """(n,) int32 codes of one column. Raises SchemaError."""
        self.schema.column(name)
        return self.codes[:, self.schema.coded_names.index(name)]


def encode(cleaned: Cleaned) -> EncodedTable:
    """Codes of a cleaned table, and amounts of its value columns."""
    coded = Encoding(cleaned.schema)
    coded.add(cleaned.frame)
    return coded.table(cleaned.frame[cleaned.schema.key.name].to_numpy(dtype=object))


class Encoding:
    """Codes and amounts of the parts of a cleaned table, as small as the codes allow."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._small = np.min_scalar_type(max(c.size for c in schema.coded_columns))
        self._codes: list[NDArray[np.unsignedinteger[Any]]] = []
        self._amounts: list[dict[str, NDArray[np.float64]]] = []

    def add(self, frame: pd.DataFrame) -> None:
        schema = self._schema
        ids = frame[schema.key.name].to_numpy(dtype=object)
        codes = np.empty((len(frame), len(schema.coded_columns)), dtype=self._small)
        for at, column in enumerate(schema.coded_columns):
            cells = frame[column.name]
            is_cluster = column.role is Role.CLUSTER
            codes[:, at] = cluster_groups(cells, ids) if is_cluster else column_codes(column, cells)
        self._codes.append(codes)
        values = schema.with_role(Role.VALUE)
        self._amounts.append(
            {c.name: np.clip(np.nan_to_num(_floats(frame[c.name])), *c.span) for c in values}
        )

    def table(self, ids: NDArray[np.object_]) -> EncodedTable:
        """All parts as one. ids: of their rows. Once: the parts are given up on the way."""
        codes = np.empty((len(ids), len(self._schema.coded_columns)), dtype=np.int32)
        done = 0
        for part in _given_up(self._codes):
            codes[done : done + len(part)] = part
            done += len(part)
        amounts = {
            name: np.concatenate([part[name] for part in self._amounts])
            for name in self._amounts[0]
        }
        return EncodedTable(schema=self._schema, ids=ids, codes=codes, amounts=amounts)


def _given_up(parts: list[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The parts in order, each forgotten by the list before the next one."""
    parts.reverse()
    while parts:
        yield parts.pop()


def cluster_groups(clusters: pd.Series, ids: NDArray[np.object_]) -> Codes:
    """(n,) int32 random group of every user, 0..GROUPS-1, the same for all of a cluster.

    clusters: None for a user who is a cluster of its own. ids: the users'. SipHash (Aumasson &
    Bernstein 2012) of the cluster's id under a key of the project's own: the same in every run
    and at every party, and independent of what clusters do, which is all that it is for.
    """
    import pandas as pd

    own = clusters.to_numpy(dtype=object)
    alone = pd.isna(own)
    named = np.where(alone, ids + "\0alone", own)  # no id has that character
    hashed = pd.util.hash_array(named, hash_key=_GROUP_KEY)
    return (hashed % GROUPS).astype(np.int32)


_GROUP_KEY = "twinweave-group1"


def column_codes(column: Column, cells: pd.Series) -> Codes:
    """(n,) int32 codes of a cleaned column; missing cells get the column's last code."""
    import pandas as pd

    if column.is_numeric:
        numbers = _moments(cells) if column.kind is Kind.DATETIME else _floats(cells)
        codes = np.searchsorted(np.asarray(column.edges), numbers, side="right")
        for place, value in enumerate(column.special):
            codes[numbers == value] = column.bin_count + place
        gone = np.isnan(numbers)
    else:
        codes = pd.Index(column.levels).get_indexer(pd.Index(cells.to_numpy(dtype=object)))
        gone = codes < 0
    if gone.any() and not column.has_missing_level:
        raise SchemaError(f"column {column.name!r} was not cleaned. Call `clean` before `encode`.")
    coded: Codes = np.where(gone, column.size - 1, codes).astype(np.int32)
    return coded


ByCode = Mapping[str, NDArray[np.float64]]
"""By column, users of each of its codes, none of them negative: (size,)."""


def by_code(
    codes: NDArray[np.integer[Any]],
    columns: Sequence[Column],
    weights: NDArray[np.float64] | None = None,
) -> ByCode:
    """Users by code of every column. codes: (n, len(columns)). weights: of each row, (n,)."""
    found = {}
    for i, column in enumerate(columns):
        held = codes[:, i] != ABSENT
        own = None if weights is None else weights[held]
        counts = np.bincount(codes[held, i], own, column.size)
        found[column.name] = counts.astype(np.float64)
    return found


def decode(
    columns: Sequence[Column],
    codes: NDArray[np.integer[Any]],
    rng: np.random.Generator,
    users: ByCode | None = None,
) -> pd.DataFrame:
    """Rows of the columns' own types from codes (n, len(columns)).

    Numbers and dates are drawn within their bin (whole numbers and seconds where the kind
    asks so): uniformly, or where `users` has the column, under a density that meets those of the
    bins beside it; special values are themselves. A boolean of levels 0 and 1, or any two levels
    false and true, are bool; levels that are all numbers are int64 or float64; other levels are
    text. The missing level and ABSENT become NaN, NA (and the column Int64 or boolean), None or
    NaT. Raises SchemaError.
    """
    import pandas as pd

    if codes.ndim != 2 or codes.shape[1] != len(columns):
        raise SchemaError("decode: codes are not (rows, columns). Pass one column a schema column.")
    known = users or {}
    made = {
        c.name: decode_column(c, codes[:, i], rng, known.get(c.name)) for i, c in enumerate(columns)
    }
    return pd.DataFrame(made)


def decode_column(
    column: Column,
    codes: NDArray[np.integer[Any]],
    rng: np.random.Generator,
    users: NDArray[np.floating[Any]] | None = None,
) -> Any:
    """One column of `decode`, as an array for a data frame. Raises SchemaError."""
    import pandas as pd

    if len(codes) and not (codes.min() >= ABSENT and codes.max() < column.size):
        raise SchemaError(f"column {column.name!r}: code outside its domain. Check the schema.")
    if not column.is_numeric:
        return _level_cells(column, codes)
    gone = (codes == ABSENT) | (codes >= column.bin_count + len(column.special))
    numbers = _within_bins(column, _bins_alone(column, codes), rng, users)
    for place, value in enumerate(column.special):
        numbers[codes == column.bin_count + place] = value
    if column.kind is Kind.CONTINUOUS:
        return np.where(gone, np.nan, numbers)
    whole = numbers.astype(np.int64)
    if column.kind is Kind.DATETIME:
        # Nanoseconds, as most tables in memory, but where they end too early.
        within = all(_NANOSECONDS[0] <= s < _NANOSECONDS[1] for s in column.span)
        moments = whole.astype("datetime64[s]").astype("datetime64[ns]" if within else "M8[s]")
        moments[gone] = np.datetime64("NaT")
        return moments
    return plain_dtype(pd.Series(pd.arrays.IntegerArray(whole, gone))).array


def plain_dtype(cells: pd.Series) -> pd.Series:
    """A nullable column without gaps as int64 or bool; any other one as it is."""
    plain = {"Int64": np.int64, "boolean": np.bool_}.get(str(cells.dtype))
    return cells if plain is None or cells.isna().any() else cells.astype(plain)


def _level_cells(column: Column, codes: NDArray[np.integer[Any]]) -> Any:
    """Cells of a column with levels, in the type that a table with these levels has."""
    import pandas as pd

    gone = (codes == ABSENT) | (codes >= len(column.levels))
    at = np.where(gone, 0, codes)
    words = sorted(v.lower() for v in column.levels)
    if words == ["false", "true"] or (column.kind is Kind.BOOLEAN and words == ["0", "1"]):
        true = np.array([TRUTH[v.lower()] == 1 for v in column.levels])[at]
        return plain_dtype(pd.Series(pd.arrays.BooleanArray(true, gone))).array
    whole = [_WHOLE.fullmatch(v) is not None for v in column.levels]
    if all(whole):
        numbers = np.array(column.levels, dtype=np.int64)[at]
        return plain_dtype(pd.Series(pd.arrays.IntegerArray(numbers, gone))).array
    if all(w or _is_float(v) for w, v in zip(whole, column.levels, strict=True)):
        return np.where(gone, np.nan, np.array(column.levels, dtype=np.float64)[at])
    spelled = np.array((*column.levels, None), dtype=object)
    return spelled[np.where(gone, len(column.levels), codes)]


_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")
"""A whole number as its type writes it: "007" is text, and so is what int64 cannot hold."""

_NANOSECONDS = (seconds("1678-01-01"), seconds("2262-01-01"))
"""Years that 64 bits of nanoseconds can count."""


def _is_float(level: str) -> bool:
    """Whether this is how a float is written, and not "1.10" or "nan"."""
    return _DECIMAL.fullmatch(level) is not None and repr(float(level)) == level


_DECIMAL = re.compile(r"-?\d+\.\d+(e-?\d+)?")


def value_units(
    column: Column, amounts: NDArray[np.float64], clip: float | None, draws: NDArray[np.uint64]
) -> Codes:
    """(n,) int32 within 0..VALUE_UNITS: amounts above the lower bound in units of `value_unit`.

    Dithered: an amount between two whole units becomes the upper one with its fraction as
    chance, else the lower one, so that a sum has no bias whatever the unit. It costs variance,
    f (1 - f) <= 1/4 for a fraction f; an amount at a whole unit is not changed. Wherever it
    falls, one user adds at most VALUE_UNITS; the draws depend on no data, so that what holds for
    each of them (a release's privacy) holds for all.

    amounts: (n,) within the column's bounds; those above `clip` count as it. draws: (n,) words
    of a cryptographic generator.
    """
    low, high = column.span
    top = high if clip is None else clip
    # The share first: it is 1 at most, where a unit of the smallest clips is rounded, even to 0.
    exact = (np.minimum(amounts, top) - low) / (top - low) * VALUE_UNITS
    near = np.rint(exact)
    exact = np.where(np.abs(exact - near) < _WHOLE_UNIT, near, exact)
    below = np.floor(exact)
    up = draws.astype(np.float64) * 2.0**-64 < exact - below
    units: Codes = (below + up).astype(np.int32)
    return units


_WHOLE_UNIT = 1e-9
"""An amount so near to a whole unit is at it: the division has rounded."""


def fingerprint(table: EncodedTable) -> str:
    """Name of the users of a table, for the guard's warning: 32 hex digits, whatever the order.

    The users alone count, not their codes: they are whom releases are about. BLAKE2b (RFC 7693)
    under the project's own domain, so that the digest says nothing under any other name.
    """
    digest = blake2b(digest_size=16, person=b"twinweave-users")
    digest.update("\0".join(sorted(table.ids.tolist())).encode())
    return digest.hexdigest()


def contents(table: EncodedTable) -> str:
    """32 hex digits of the whole table, order of rows and schema included: has it changed?"""
    digest = blake2b(digest_size=16, person=b"twinweave-table")
    digest.update(canonical_json(table.schema).encode() + b"\0")
    digest.update("\0".join(table.ids.tolist()).encode())
    digest.update(np.ascontiguousarray(table.codes, dtype="<i4").tobytes())
    for name in sorted(table.amounts):
        digest.update(np.ascontiguousarray(table.amounts[name], dtype="<f8").tobytes())
    return digest.hexdigest()


def _bins_alone(column: Column, codes: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """The codes of bins; the first bin in place of all others."""
    return np.where((codes >= 0) & (codes < column.bin_count), codes, 0)


def _within_bins(
    column: Column,
    bins: NDArray[np.integer[Any]],
    rng: np.random.Generator,
    users: NDArray[np.floating[Any]] | None,
) -> NDArray[np.float64]:
    """Numbers of the bins: half-open [a, b), the last one closed; none that is special."""
    points = np.array((column.span[0], *column.edges, column.span[1]))
    whole = column.kind is not Kind.CONTINUOUS
    if whole:  # from each bin's first number to the next one's
        points = np.append(np.ceil(points[:-1]), np.floor(points[-1]) + 1)
    low, width = points[:-1], np.diff(points)
    if whole:
        inside = np.searchsorted(points, column.special, side="right") - 1
        width = np.maximum(width - np.bincount(inside, minlength=len(low)), 1)
    if users is None:
        place = rng.random(len(bins))
    else:
        own = np.asarray(users[: len(low)], dtype=np.float64)
        place = densities(own, width).draw(bins, rng)
    drawn = low[bins] + place * width[bins]
    if whole:
        drawn = np.minimum(np.floor(drawn), (low + width - 1)[bins])
        for value in sorted(column.special):  # numbers from it on are one further
            drawn += (low[bins] <= value) & (drawn >= value)
        return np.asarray(drawn)
    below = np.append(np.nextafter(points[1:-1], low[:-1]), points[-1])
    drawn = np.minimum(drawn, below[bins])
    middle = (low + width / 2)[bins]
    return np.where(np.isin(drawn, column.special), np.nextafter(drawn, middle), drawn)


def _floats(cells: pd.Series) -> NDArray[np.float64]:
    return np.asarray(cells.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def _moments(cells: pd.Series) -> NDArray[np.float64]:
    ticks = cells.to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(ticks), np.nan, ticks.astype(np.int64) / 1e6)
