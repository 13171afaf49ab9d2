"""Linear counting queries on the union of users: what the protocols measure.

A query asks for a contingency table over columns of one party (local) or of two (cross); which
axes and cells the table has, `tables/contingency.py` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.parsing import Parsed
from twinweave.tables.column import Role, may_clip
from twinweave.tables.contingency import Axis, Cells, group_of
from twinweave.tables.schema import JointSchema, Schema

Summed = tuple[str, float | None]
"""A value column, and the clip of its amounts (None: its upper bound)."""

Grouping = tuple[int, ...]
"""The group of each of a column's codes: every code in one, groups 0, 1, ... all of some code."""


@dataclass(frozen=True, kw_only=True)
class Side(Parsed):
    """The columns of one party, or of the pool that it leads, that take part in a query.

    weight: a `value` column whose amount, in units (0..VALUE_UNITS), is summed instead of
        counting users.
    clip: of a weight: amounts above it count as it, and the units run from the column's lower
        bound to it; in the column's own unit. None: the column's upper bound.
    groups: (), or for every column the groups that its codes are counted in, any that are
        wished: the first of two passes asks coarse tables, of which more users share a cell.
    pool: all parties of the pool (`JointSchema.pools`), `party` the first; () for one party.
        A user is present on the side at any of them; each is at one of them at most.
    """

    party: str
    columns: tuple[str, ...] = ()
    weight: str | None = None
    clip: float | None = None
    groups: tuple[Grouping, ...] = ()
    pool: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        """The side's parties, at any of which a user is present."""
        return self.pool or (self.party,)

    @property
    def summed(self) -> Summed | None:
        """What a weighted side sums; None for a count."""
        return None if self.weight is None else (self.weight, self.clip)

    @property
    def label(self) -> str:
        """Short name of who holds it: "shop", "north+south", "north+4 more"."""
        if len(self.members) <= 2:
            return "+".join(self.members)
        return f"{self.party}+{len(self.members) - 1} more"

    @property
    def absent(self) -> str | None:
        """What the last position of its axis in a table across two is called, if there is one."""
        return None if self.weight else f"{self.party}: absent"

    def axis(self, sizes: Mapping[str, int]) -> Axis:
        """Its axis in a table across two. sizes: codes of each column."""
        own = tuple(map(groups_in, self.groups)) or tuple(sizes[c] for c in self.columns)
        return Axis(names=self.columns, sizes=own, absent=self.absent)

    def places(self, codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """The codes of its columns, (n, columns), in its groups; of absent rows anything."""
        if not self.groups:
            return codes
        grouped = [
            np.array(g, dtype=np.int32)[own] for g, own in zip(self.groups, codes.T, strict=True)
        ]
        return np.stack(grouped, axis=1)


@dataclass(frozen=True, kw_only=True)
class Query(Parsed):
    """One contingency table. One user changes one cell, by at most `sensitivity`.

    A local table has an axis for each column; one across two parties has an axis for each side,
    with a position *absent* for users whom the side does not hold (a weighted side has none: an
    absent user adds 0).
    """

    sides: tuple[Side, ...]
    priority: bool = False

    def __post_init__(self) -> None:
        if len(self.sides) not in (1, 2) or len(set(self.parties)) != len(self.parties):
            raise ConfigError(
                "workload",
                "a query has one side, or two of different parties",
                "Name columns of at most two parties.",
            )
        if any(s.pool and (len(s.pool) < 2 or s.pool[0] != s.party) for s in self.sides):
            raise ConfigError(
                "workload",
                "a pooled side has two members or more, its party first",
                "Take the pool from the schema's units.",
            )
        if any(s.clip is not None and s.weight is None for s in self.sides):
            raise ConfigError(
                "workload", "only a sum's amounts are clipped", "Set `weight`, or leave `clip` out."
            )
        for side in self.sides:
            _check_groups(side)
        if sum(s.weight is not None for s in self.sides) > 1:
            raise ConfigError(
                "workload", "a query sums one value column", "Ask one query for each value column."
            )

    @property
    def parties(self) -> tuple[str, ...]:
        """Whose users it counts: of both sides, all members of a pool."""
        return tuple(p for s in self.sides for p in s.members)

    @property
    def is_pooled(self) -> bool:
        """Whether a side is a pool: every party that is asked then adds noise of its own."""
        return any(s.pool for s in self.sides)

    def between(self, first: str, second: str) -> Query:
        """The part of a cross table that two parties, one a side, compute: sides in own order."""
        both = {first, second}
        parts = (next(p for p in s.members if p in both) for s in self.sides)
        sides = tuple(replace(s, party=p, pool=()) for s, p in zip(self.sides, parts, strict=True))
        return replace(self, sides=sides)

    def crosses(self, first: str, second: str) -> bool:
        """Whether the two parties are on either side of a cross table."""
        if not self.is_cross:
            return False
        one, two = (s.members for s in self.sides)
        return (first in one and second in two) or (second in one and first in two)

    @property
    def is_coarse(self) -> bool:
        """Whether it counts levels in groups."""
        return any(s.groups for s in self.sides)

    @property
    def is_cross(self) -> bool:
        return len(self.sides) == 2

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(c for s in self.sides for c in s.columns)

    @property
    def weight(self) -> str | None:
        """The value column that it sums, or None for a count."""
        return next((s.weight for s in self.sides if s.weight), None)

    @property
    def clip(self) -> float | None:
        """Upper bound of the amounts it sums, in the column's own unit; None: the column's."""
        return next((s.clip for s in self.sides if s.clip is not None), None)

    def cells(self, sizes: Mapping[str, int]) -> Cells:
        """The cells of its table. sizes: codes of each column."""
        axes = tuple(side.axis(sizes) for side in self.sides)
        return Cells(axes=axes if self.is_cross else axes[0].split())

    def sides_alone(self, shape: tuple[int, ...]) -> Cells:
        """The cells of a table of that shape, the columns of a side across two not told apart."""
        if not self.is_cross:
            return Cells(axes=tuple(Axis(sizes=(size,)) for size in shape))
        whole = zip(self.sides, shape, strict=True)
        return Cells(axes=tuple(Axis.whole(size, side.absent) for side, size in whole))

    @property
    def name(self) -> str:
        """Readable and unique within a workload: "a.segment x b.visit", "sum spend by a.segment",
        "sum spend up to 120 by a.segment".

        A coarse side's columns carry their number of groups: "a.age/4".
        """
        label = " x ".join(
            f"{s.label}.{c}" + (f"/{groups_in(s.groups[i])}" if s.groups else "")
            for s in self.sides
            for i, c in enumerate(s.columns)
        )
        if self.weight is None:
            return label
        clipped = "" if self.clip is None else f" up to {self.clip!r}".removesuffix(".0")
        return f"sum {self.weight}{clipped} by {label}"


def groups_in(grouping: Grouping) -> int:
    """How many groups there are."""
    return max(grouping) + 1


def _check_groups(side: Side) -> None:
    """Raise ConfigError unless its columns' codes are in groups 0, 1, ..., none of them empty."""
    if len(side.groups) not in (0, len(side.columns)):
        rule = "a coarse side groups all of its columns"
    elif any(set(g) != set(range(len(set(g)))) or not g for g in side.groups):
        rule = "a column's groups are 0, 1, ..., each of some code"
    else:
        return
    raise ConfigError("workload", rule, "Give every code of every column its group, or no groups.")


def coarse(schema: JointSchema, query: Query, groups: int) -> Query:
    """The query with every column's codes in at most so many groups (`group_of`)."""
    sides = tuple(
        replace(s, groups=tuple(_neighbours(schema, c, groups) for c in s.columns))
        for s in query.sides
    )
    return replace(query, sides=sides)


def _neighbours(schema: JointSchema, name: str, groups: int) -> Grouping:
    return tuple(group_of(schema.column(name), groups).tolist())


def side_of(
    unit: tuple[str, ...],
    columns: tuple[str, ...] = (),
    weight: str | None = None,
    clip: float | None = None,
) -> Side:
    """A side of one party, or of a pool."""
    pool = unit if len(unit) > 1 else ()
    return Side(party=unit[0], columns=columns, weight=weight, clip=clip, pool=pool)


def query_over(schema: JointSchema, *columns: str, priority: bool = False) -> Query | None:
    """The query over some columns, local where one party holds them all, else of two parties.

    Of two, the side of the first column's holder takes all it can: users whom only that party
    holds keep their shared columns. None where no two parties hold them all between them. A
    pool counts as one party: its members' tables are asked as their sum.
    """
    held = {unit: schema.schema(unit[0]).coded_names for unit in schema.units}
    for unit, names in held.items():
        if all(c in names for c in columns):
            return Query(sides=(side_of(unit, columns),), priority=priority)
    home = schema.unit(schema.holders(columns[0])[0])
    ordered = sorted(held, key=lambda unit: unit != home)
    for first, second in combinations(ordered, 2):
        at_first = tuple(c for c in columns if c in held[first])
        at_second = tuple(c for c in columns if c not in at_first and c in held[second])
        if at_first and at_second and len(at_first) + len(at_second) == len(columns):
            sides = (side_of(first, at_first), side_of(second, at_second))
            return Query(sides=sides, priority=priority)
    return None


def axis_of(schema: Schema | JointSchema, side: Side) -> Axis:
    """The axis of a side of a table across two; a weighted side's has no *absent* position."""
    return side.axis(_sizes(schema, side))


def cells_of(schema: JointSchema, query: Query) -> Cells:
    """The cells of a query's table."""
    return query.cells({n: s for side in query.sides for n, s in _sizes(schema, side).items()})


def _sizes(schema: Schema | JointSchema, side: Side) -> dict[str, int]:
    return {c: schema.column(c).size for c in side.columns}


def side_positions(schema: Schema, side: Side, codes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Position of every row on the side's axis: (n,); zeros for no column.

    codes: (n, columns) discrete codes in the order of schema.coded_columns.
    """
    own = side.places(codes[:, [schema.coded_names.index(c) for c in side.columns]])
    return axis_of(schema, side).positions(own)


def check(schema: JointSchema, query: Query) -> None:
    """Raise ConfigError unless every side's columns are at its party, weights are values,
    clusters are counted by arm alone, every code is in one group, and a clip lies above the lower
    bound and no higher than the upper one."""
    for side in query.sides:
        if side.pool and side.pool not in schema.units:
            raise ConfigError(
                "workload",
                f"the parties of {side.label!r} are no pool",
                "Declare them in data.pools.",
            )
        held = schema.schema(side.party)
        for name in (*side.columns, *(() if side.weight is None else (side.weight,))):
            if name not in held.coded_names:
                raise ConfigError(
                    "workload",
                    f"party {side.party!r} has no column {name!r}",
                    "Name a column of that party's schema.",
                )
        named = zip(side.columns, side.groups, strict=False)
        if any(len(groups) != held.column(name).size for name, groups in named):
            raise ConfigError(
                "workload",
                f"the groups of {side.label!r} are not of all of a column's levels",
                "Give every code of the schema its group.",
            )
        roles = [held.column(name).role for name in side.columns]
        if Role.CLUSTER in roles and set(roles) != {Role.MEMBERSHIP, Role.CLUSTER}:
            raise ConfigError(
                "workload",
                f"clusters of {side.party!r} are asked for without the membership alone",
                "Random groups of clusters are for the arms' variance, and for nothing else.",
            )
        if side.weight is not None and held.column(side.weight).role is not Role.VALUE:
            raise ConfigError(
                "workload",
                f"{side.weight!r} is no value column",
                "Give it `role: value` and bounds.",
            )
        summed, clip = side.weight, side.clip
        if summed and clip is not None and not may_clip(held.column(summed), clip):
            raise ConfigError(
                "workload",
                f"{side.weight!r} is clipped outside its bounds",
                "Give a clip clearly above the lower bound, and no higher than the upper one.",
            )
