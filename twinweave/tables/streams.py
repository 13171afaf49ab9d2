"""A table on its way in: the names of its columns first, then its rows, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

CELLS = 1 << 20
"""Of one part of a table: what is held as text or objects at a time, some 100 MB at most."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One file, or the answer to one query.

    names: of its columns, before any row is read; they may repeat.
    parts: its rows in order, in frames with an index from 0, of the named columns (None: all).
        A column's cells are the same whatever the size of the parts. Raises SourceError.
    close: gives up what stands open, read to the end or not.
    """

    names: tuple[str, ...]
    parts: Callable[[Sequence[str] | None], Iterator[pd.DataFrame]]
    close: Callable[[], None] = lambda: None


def rows_at_once(cells: int, columns: int) -> int:
    """How many rows of so many columns have about `cells` cells; one at least."""
    return max(1, cells // max(1, columns))
