"""Rows of the union as arrays, and their layout: what every generator, fit and rake shares.

A row is a presence bit for each party and one discrete code for each union column; a column
none of whose holders is present, or that a trainer does not hold, has code ABSENT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.tables.column import Role
from twinweave.tables.rules import Rules
from twinweave.tables.schema import JointSchema
from twinweave.workload.queries import Side

OneWay = Mapping[str, NDArray[np.floating[Any]]]
"""Noisy one-way tables by column name: counts or shares, (size,) each."""


@dataclass(frozen=True, kw_only=True)
class UnionLayout:
    """Sizes, holders and roles of the union columns, in `JointSchema.columns` order.

    sizes: discrete codes of each column. holders: for each column, the indices of the
    parties that hold it. roles: of each column, or () where they do not matter. pools: indices
    of parties of whom a row is present at one at most (`JointSchema.pools`). rules: between
    columns, that rows keep. labels: of each column's codes, or () where texts do not matter.
    All public.
    """

    parties: tuple[str, ...]
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    holders: tuple[tuple[int, ...], ...]
    roles: tuple[Role, ...] = ()
    pools: tuple[tuple[int, ...], ...] = ()
    rules: Rules = field(default_factory=Rules)
    labels: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, schema: JointSchema) -> UnionLayout:
        index = {party: i for i, party in enumerate(schema.parties)}
        return cls(
            parties=schema.parties,
            names=schema.names,
            sizes=tuple(c.size for c in schema.columns),
            holders=tuple(tuple(index[p] for p in schema.holders(n)) for n in schema.names),
            roles=tuple(c.role for c in schema.columns),
            pools=tuple(tuple(index[p] for p in unit) for unit in schema.units if unit[1:]),
            rules=schema.rules,
            labels=tuple(c.labels for c in schema.columns),
        )

    @property
    def units(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the parties, pools together, in order."""
        own = {party: pool for pool in self.pools for party in pool}
        return tuple(dict.fromkeys(own.get(i, (i,)) for i in range(len(self.parties))))

    @cached_property
    def size(self) -> dict[str, int]:
        """Discrete codes of each column, by its name."""
        return dict(zip(self.names, self.sizes, strict=True))

    def members(self, side: Side) -> tuple[int, ...]:
        """Indices of a query side's parties, at any of which a row is present on it."""
        return tuple(self.parties.index(p) for p in side.members)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """First one-hot position of each column, and the total width last: (columns + 1,)."""
        return np.concatenate(([0], np.cumsum(self.sizes))).astype(np.int64)

    @property
    def width(self) -> int:
        return int(self.offsets[-1])

    def held_by(self, party: str) -> NDArray[np.bool_]:
        """Which union columns the party holds: (columns,)."""
        i = self.parties.index(party)
        return np.array([i in h for h in self.holders])

    def visible(self, presence: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(n, parties) presence -> (n, columns): whether some holder is present."""
        return np.stack([presence[:, list(h)].any(axis=1) for h in self.holders], axis=1)

    def positions(self, columns: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(columns,) chosen -> (width,): their one-hot positions."""
        return np.repeat(columns, self.sizes)

    @cached_property
    def alone(self) -> NDArray[np.bool_]:
        """(columns, parties): whether the party is a column's only holder."""
        out = np.zeros((len(self.sizes), len(self.parties)), dtype=bool)
        for column, holders in enumerate(self.holders):
            if len(holders) == 1:
                out[column, holders[0]] = True
        return out

    def proven(self, held: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Parties of whose presence a row with these columns is proof: (parties,)."""
        out: NDArray[np.bool_] = self.alone[held].any(axis=0)
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Synthetic rows of the union. codes: int32 (n, columns); presence: bool (n, parties)."""

    codes: NDArray[np.int32] = field(repr=False)
    presence: NDArray[np.bool_] = field(repr=False)

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, index: NDArray[np.integer[Any]]) -> Rows:
        return Rows(codes=self.codes[index], presence=self.presence[index])

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        return cls(
            codes=np.concatenate([part.codes for part in parts]),
            presence=np.concatenate([part.presence for part in parts]),
        )
