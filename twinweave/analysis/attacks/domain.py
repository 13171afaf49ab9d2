"""Does what the output may hold, or happens to hold, give away who was in?

A domain that is taken from data tells that somebody has a value: the value is in the output, or in
its metadata, or it is not. So what a table may hold must be the public schema's, and a rare value
must be no likelier in it for having been in the real rows.

Rare values: of all values, and pairs of values of two columns, that exactly one person among the
used rows and those set aside has, who that is was decided by chance. A table that knows nothing of
single persons has the values of used ones as often as those of the others. Exact where used rows
and others are exchangeable; the unit is a row, as one row may have many rare pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.attacks.intervals import Contrast, means
from twinweave.analysis.attacks.rows import Codes, Exposed
from twinweave.tables.column import Column, Kind

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 20
"""Rows on either side with a rare value, at least: the interval is a normal approximation."""

MOST_CELLS = 1_000_000
"""Of a pair of columns that is looked at."""


def undeclared(columns: tuple[Column, ...], table: pd.DataFrame) -> tuple[str, ...]:
    """Columns of a decoded table with a value that the public schema does not declare."""
    return tuple(c.name for c in columns if not _declared(c, table[c.name]))


def _declared(column: Column, cells: pd.Series) -> bool:
    import pandas as pd

    held = cells.dropna()
    if not column.is_numeric:
        named = column.levels
        if pd.api.types.is_bool_dtype(held):
            return True  # of two declared levels, one is false and the other true
        if pd.api.types.is_numeric_dtype(held):
            return set(held.tolist()) <= {float(level) for level in named}
        return set(held.astype(str)) <= set(named)
    numbers = held
    if column.kind is Kind.DATETIME:
        numbers = (held - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
    low, high = column.span
    return bool(numbers.between(low, high).all())


def rare_values(exposed: Exposed, level: float) -> tuple[Contrast | None, Mapping[str, int]]:
    """How many of its rare values a row finds in the output: of used rows, and of others.

    None where fewer than FEWEST rows on either side have one. And how many have, by side.
    """
    n = len(exposed.members)
    people = np.concatenate([exposed.members, exposed.control])
    rare, shown = np.zeros(len(people), np.int64), np.zeros(len(people), np.int64)
    for cells, own, made in _places(people, exposed.synthetic, exposed.sizes + 1):
        alone = np.bincount(own, minlength=cells)[own] == 1
        rare += alone
        shown += alone & (np.bincount(made, minlength=cells)[own] > 0)
    has = rare > 0
    score = shown / np.maximum(rare, 1)
    used, aside = score[:n][has[:n]], score[n:][has[n:]]
    counts = {"used": len(used), "aside": len(aside)}
    if min(counts.values()) < FEWEST:
        return None, counts
    return means(used, aside, level), counts


def _places(
    people: Codes, synthetic: Codes, sizes: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """For every column and pair: number of cells, and everyone's cell. ABSENT is a code, 0."""
    own, made = people.T.astype(np.int64) + 1, synthetic.T.astype(np.int64) + 1
    for c in range(len(sizes)):
        yield int(sizes[c]), own[c], made[c]
    for a, b in combinations(range(len(sizes)), 2):
        if sizes[a] * sizes[b] <= MOST_CELLS:
            cells = own[a] * sizes[b] + own[b], made[a] * sizes[b] + made[b]
            yield int(sizes[a] * sizes[b]), *cells
