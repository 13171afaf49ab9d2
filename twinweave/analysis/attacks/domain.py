"""Does a rare value that is in the output give away that somebody who has it was in?

A domain taken from data tells that: the value of one person is in the output, or it is not. What a
table of a run may hold is the public schema's, so that a rare value must be no likelier in it for
having been in the real rows.

Looked at are values, and values of two and three columns, that exactly one person among the used
rows and those set aside has: whether that person was used was decided by chance. A table that knows
nothing of single persons shows the rare values of used ones as often as those of the others. The
unit is a row, as one row may have many of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.attacks.intervals import Contrast, means
from twinweave.analysis.attacks.rows import Exposed
from twinweave.tables.contingency import ABSENT, Axis

FEWEST = 20
"""Rows on either side with a rare value, at least: the interval is a normal approximation."""

MOST_CELLS = 1_000_000
"""Of columns that are looked at together."""

MOST_TRIPLES = 500
"""Three columns that are looked at together; of wider tables so many, drawn."""


def rare_values(
    exposed: Exposed, level: float, rng: np.random.Generator
) -> tuple[Contrast | None, tuple[int, int]]:
    """How many of its rare values a row finds in the output: of used rows, and of others.

    None where fewer than FEWEST rows on either side have one. And how many have: used, set
    aside.
    """
    n = len(exposed.members)
    people = np.concatenate([exposed.members, exposed.control])
    own, made = (codes.T.astype(np.int64) - ABSENT for codes in (people, exposed.synthetic))
    rare, shown = np.zeros(len(people), np.int64), np.zeros(len(people), np.int64)
    for columns in _together(exposed.sizes + 1, rng):
        axis = Axis(sizes=tuple((exposed.sizes[columns] + 1).tolist()))
        places, written = axis.positions(own[columns].T), axis.positions(made[columns].T)
        alone = np.bincount(places, minlength=axis.size)[places] == 1
        rare += alone
        shown += alone & (np.bincount(written, minlength=axis.size)[places] > 0)
    has = rare > 0
    score = shown / np.maximum(rare, 1)
    used, aside = score[:n][has[:n]], score[n:][has[n:]]
    sizes = len(used), len(aside)
    return (None if min(sizes) < FEWEST else means(used, aside, level)), sizes


def _together(sizes: NDArray[np.int64], rng: np.random.Generator) -> Iterator[list[int]]:
    """Columns to look at together: one, two, and three of them."""
    every = range(len(sizes))
    triples = list(combinations(every, 3))
    if len(triples) > MOST_TRIPLES:
        triples = [triples[i] for i in rng.choice(len(triples), MOST_TRIPLES, replace=False)]
    for columns in (*combinations(every, 1), *combinations(every, 2), *triples):
        if sizes[list(columns)].prod() <= MOST_CELLS:
            yield list(columns)
