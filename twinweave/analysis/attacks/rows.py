"""What an attack is played on: a party's rows that went in, others that did not, and what came out.

Attacks see codes. What a run hands out is drawn from codes, public bins and densities that follow
from the codes, so that a number within its bin can tell no more about a person than its bin does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import SchemaError
from twinweave.tables.column import Column
from twinweave.tables.contingency import ABSENT

Codes = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Exposed:
    """Rows that were used, rows of the same source that were not, and the synthetic ones.

    columns: of all three, in order. members, control, synthetic: int32 (n, columns) codes; a cell
    of a column that the row's holder lacks is ABSENT. Raises SchemaError where they do not fit.
    """

    columns: tuple[Column, ...]
    members: Codes = field(repr=False)
    control: Codes = field(repr=False)
    synthetic: Codes = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("members", "control", "synthetic"):
            codes = getattr(self, name)
            if codes.ndim != 2 or codes.shape[1] != len(self.columns):
                raise SchemaError(
                    f"attacks: {name} are no rows of {len(self.columns)} columns. Give a code a "
                    "column."
                )
            if (codes < ABSENT).any() or (codes >= self.sizes).any():
                raise SchemaError(
                    f"attacks: {name} have a code outside its column's domain. Encode them again "
                    "with the run's schema."
                )

    @property
    def fewest(self) -> int:
        """Rows of the smallest of the three."""
        return min(len(self.members), len(self.control), len(self.synthetic))

    def drawn(self, most: int, rng: np.random.Generator) -> Exposed:
        """The same with `most` rows of each kind, at random, where there are more."""
        return Exposed(
            columns=self.columns,
            members=drawn(self.members, most, rng),
            control=drawn(self.control, most, rng),
            synthetic=drawn(self.synthetic, most, rng),
        )

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Codes of each column: (columns,)."""
        return np.array([c.size for c in self.columns], dtype=np.int64)


def drawn(rows: Codes, most: int, rng: np.random.Generator) -> Codes:
    """All rows, or `most` of them at random without repetition."""
    return rows if len(rows) <= most else rows[rng.choice(len(rows), most, replace=False)]


def halves(rows: Codes, rng: np.random.Generator) -> tuple[Codes, Codes]:
    """The rows in two random halves."""
    order = rng.permutation(len(rows))
    cut = len(rows) // 2
    return rows[order[:cut]], rows[order[cut:]]


def one_hot(codes: NDArray[np.integer[Any]], sizes: Sequence[int]) -> NDArray[np.float32]:
    """(n, sum of sizes + columns) indicator of every cell's code; ABSENT is a code of its own."""
    widths = np.asarray(sizes) + 1
    starts = np.cumsum(widths) - widths
    out = np.zeros((len(codes), int(widths.sum())), dtype=np.float32)
    places = starts + np.where(codes == ABSENT, widths - 1, codes)
    np.put_along_axis(out, places, np.float32(1), axis=1)
    return out
