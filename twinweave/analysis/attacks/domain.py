"""Does a rare value that is in the output give away that somebody who has it was in?

A domain taken from data tells that: the value of one person is in the output, or it is not. What a
table of a run may hold is the public schema's, so that a rare value must be no likelier in it for
having been in the real rows.

Looked at are values, and pairs of values of two columns, that exactly one person among the used
rows and those set aside has: whether that person was used was decided by chance. A table that knows
nothing of single persons shows the rare values of used ones as often as those of the others. The
unit is a row, as one row may have many rare pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.attacks.intervals import Contrast, means
from twinweave.analysis.attacks.rows import Codes, Exposed

FEWEST = 20
"""Rows on either side with a rare value, at least: the interval is a normal approximation."""

MOST_CELLS = 1_000_000
"""Of a pair of columns that is looked at."""


def rare_values(exposed: Exposed, level: float) -> tuple[Contrast | None, tuple[int, int]]:
    """How many of its rare values a row finds in the output: of used rows, and of others.

    None where fewer than FEWEST rows on either side have one. And how many have: used, set
    aside.
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
    sizes = len(used), len(aside)
    return (None if min(sizes) < FEWEST else means(used, aside, level)), sizes


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
