"""What the measurements say about the union: who is present where, and which cell a row is in.

Post-processing of measurements: no privacy cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.fit import Latents
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query

NOWHERE = -1
"""Cell of a row that a query does not count."""


@dataclass(frozen=True, kw_only=True)
class Population:
    """Estimated users of the union by presence pattern.

    patterns: bool (patterns, parties), every non-empty combination that can be. users: float64
    (patterns,), non-negative.
    """

    patterns: NDArray[np.bool_] = field(repr=False)
    users: NDArray[np.float64]

    @property
    def size(self) -> int:
        """Users of the union, whole ones."""
        return max(1, int(self.counts.sum()))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Whole users by pattern: (patterns,). Every party has as many as its public size: of
        those whom several hold the nearest number, of those whom one alone holds the rest."""
        count = np.rint(self.users).astype(np.int64)
        sizes = np.rint(self.users @ self.patterns).astype(np.int64)
        alone = self.patterns.sum(axis=1) == 1
        count[alone] = 0
        for party, size in enumerate(sizes):
            held = np.flatnonzero(self.patterns[:, party] & ~alone)
            while count[held].sum() > size:  # rounded up
                count[held[count[held].argmax()]] -= 1
        own = self.patterns[alone].argmax(axis=1)
        count[alone] = (sizes - count @ self.patterns)[own]
        return count

    def whole(self, n: int) -> NDArray[np.int64]:
        """n rows by pattern: (patterns,); `counts` where they are as many as the users."""
        return self.counts if n == self.size else _apportion(self._expected, n)

    @property
    def _expected(self) -> NDArray[np.float64]:
        """The users, half of one at least where rounding has made one."""
        return np.where(self.counts > 0, np.maximum(self.users, 0.5), self.users)

    def presence(self, n: int) -> NDArray[np.bool_]:
        """n rows with the patterns in proportion: bool (n, parties)."""
        return np.repeat(self.patterns, self.whole(n), axis=0)

    def latents(self, n: int) -> Latents:
        """n components, a pattern's number proportional to the root of its users.

        Small patterns get more components than users: a small overlap of the parties is
        where all that is known across them sits. Each pattern of a whole user has one.
        """
        real = self.counts > 0
        patterns, users = self.patterns[real], self._expected[real]
        count = 1 + _apportion(np.sqrt(users), max(n - len(users), 0))
        each = users * (self.users.sum() / users.sum()) / count
        return Latents(presence=np.repeat(patterns, count, axis=0), users=np.repeat(each, count))


def _apportion(weights: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Whole numbers that add up to n, proportional to the weights by largest remainders."""
    share = n * weights / weights.sum()
    count: NDArray[np.int64] = np.floor(share).astype(np.int64)
    spare = np.argsort(count - share, kind="stable")[: n - int(count.sum())]
    count[spare] += 1
    return count


def population(
    parties: Sequence[str],
    sizes: Mapping[str, int],
    measurements: Sequence[Measurement],
    pools: Sequence[tuple[int, ...]] = (),
) -> Population:
    """Presence patterns from the public table sizes and the cross tables' noisy overlaps.

    Every cross table estimates its pair's overlap three times: the sum of its inner cells,
    and each party's size less the other's absent row; estimates are averaged by precision.
    With three parties or more, pairs leave the higher overlaps open: the smallest solution
    (ridge) of the non-negative least-squares problem is taken. pools: indices of parties of
    whom a user is at one at most.
    Raises ConfigError if a party's size is missing.
    """
    if missing := [p for p in parties if p not in sizes]:
        raise ConfigError("sizes", f"no table size of {missing}", "Give every party's row count.")
    patterns = _patterns(len(parties), pools)
    rows, wanted = [], []
    for i, party in enumerate(parties):
        rows.append(patterns[:, i] * 1e3)
        wanted.append(sizes[party] * 1e3)
    for (one, two), (value, variance) in overlaps(parties, sizes, measurements).items():
        both = patterns[:, one].any(axis=1) & patterns[:, two].any(axis=1)
        rows.append(both / np.sqrt(variance))
        wanted.append(value / np.sqrt(variance))
    from scipy.optimize import nnls

    ridge = 1e-6 * np.eye(len(patterns))
    users, _ = nnls(np.vstack([rows, ridge]), np.array([*wanted, *np.zeros(len(patterns))]))
    return Population(patterns=patterns, users=np.asarray(users, dtype=np.float64))


def _patterns(n_parties: int, pools: Sequence[tuple[int, ...]]) -> NDArray[np.bool_]:
    """Every possible presence but none at all: bool (patterns, parties), fullest first."""
    own = {party: tuple(pool) for pool in pools for party in pool}
    units = dict.fromkeys(own.get(i, (i,)) for i in range(n_parties))
    found = []
    for chosen in product(*((*unit, None) for unit in units)):
        pattern = np.zeros(n_parties, dtype=bool)
        pattern[[i for i in chosen if i is not None]] = True
        found.append(pattern)
    return np.array(found[:-1])


Members = tuple[int, ...]


def overlaps(
    parties: Sequence[str], sizes: Mapping[str, int], measurements: Sequence[Measurement]
) -> dict[tuple[Members, Members], tuple[float, float]]:
    """Each measured pair's overlap: (estimate in users, its variance).

    By the indices of the parties on either side: of a pool's side, of all its members.
    """
    sums: dict[tuple[Members, Members], tuple[float, float]] = {}
    for m in measurements:
        if not m.query.is_cross or m.query.weight is not None:
            continue
        ends = [tuple(parties.index(p) for p in side.members) for side in m.query.sides]
        first, second = (sum(sizes[parties[i]] for i in end) for end in ends)
        table = m.by_sides
        at_second_alone, at_first_alone = table.absent(0).total, table.absent(1).total
        estimates = (
            table.present().total,
            (second - at_second_alone[0], at_second_alone[1]),
            (first - at_first_alone[0], at_first_alone[1]),
        )
        a, b = sorted(ends)
        top, bottom = sums.get((a, b), (0.0, 0.0))
        for value, variance in estimates:
            precision = 1 / max(variance, 1e-9)
            top, bottom = top + value * precision, bottom + precision
        sums[a, b] = (top, bottom)
    caps = {p: min(sum(sizes[parties[i]] for i in end) for end in p) for p in sums}
    return {p: (min(max(t / b, 0.0), caps[p]), 1 / b) for p, (t, b) in sums.items()}


def row_cells(query: Query, layout: UnionLayout, rows: Rows) -> NDArray[np.int32]:
    """The flat cell of the query's table that each row adds to; NOWHERE if none: (n,) int32."""
    cells = query.cells(layout.size)
    held = [rows.presence[:, layout.members(side)].any(axis=1) for side in query.sides]
    codes = [
        side.places(rows.codes[:, [layout.names.index(n) for n in side.columns]])
        for side in query.sides
    ]
    if not query.is_cross:
        codes = [codes[0][:, [i]] for i in range(codes[0].shape[1])] or codes
    # On the axes of a local table there is no absent position: the row is in no cell.
    present = held if query.is_cross else [None] * len(cells.axes)
    places = zip(cells.axes, codes, present, strict=True)
    found = cells.of([axis.positions(own, here) for axis, own, here in places])
    found[~np.any(held, axis=0)] = NOWHERE
    return found.astype(np.int32)


def row_counts(query: Query, layout: UnionLayout, rows: Rows) -> NDArray[np.int64]:
    """How many rows each cell of the query's table counts: int64, of the table's shape."""
    cells = row_cells(query, layout, rows)
    counts: NDArray[np.int64] = query.cells(layout.size).count(cells[cells != NOWHERE])
    return counts
