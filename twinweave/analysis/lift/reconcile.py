"""Noisy tables of the same users made to agree: generalised least squares in closed form.

Tables that share attributes must agree on every margin over them. The best linear unbiased
estimate under such equality constraints (Aitken 1935; Rao, Linear Statistical Inference, 4a.9) is
y - V A' (A V A')^+ A y, of covariance V - V A' (A V A')^+ A V, for tables y whose cells have
independent noise of variances V and constraints A y = 0. Where the noise has one variance in all
cells of a block, no matrix of that size is needed. The margin over each set of attributes, less
what follows from its own margins (every axis centred), is independent of those over all other
sets, and every block that has these attributes tells it, with a variance of its own: so each is
estimated alone, as an average weighted by precision (the residual basis of ResidualPlanner, Xiao
et al., NeurIPS 2023; there for choosing noise). Differs: users are everyone, or those whom some
party holds or lacks, so an average is over a few unknowns and not one.

Work and memory grow with the cells of the tables and of what is read, whatever overlaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from math import prod

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Attribute = tuple[str, str]
"""A column as one side of a table has it: (first party of the side's unit, column)."""

Attributes = tuple[Attribute, ...]

EVERYONE = ""
"""All users that are counted; any other name stands for those of them whom that party holds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Cells of one table that have the same attributes and noise of the same variance.

    counts: whose numbers, each by its factor, the cells are: {EVERYONE: 1}; {"shop": 1} of those
        whom the shop holds; {EVERYONE: 1, "shop": -1} of those whom it lacks.
    values: (groups, *sizes of the attributes): of several groups of users who share no cell.
    variance: of the noise in each cell, in units that each group scales alike.
    """

    counts: Mapping[str, int]
    attributes: Attributes
    values: Floats = field(repr=False)
    variance: float

    @property
    def sizes(self) -> dict[Attribute, int]:
        return dict(zip(self.attributes, self.values.shape[1:], strict=True))

    def residual(self, kept: Attributes) -> tuple[Floats, float]:
        """The margin over `kept`, less what follows from its own margins, and its variance:
        (groups, *sizes of kept), and the number that the projection is to be multiplied by."""
        gone = [1 + i for i, a in enumerate(self.attributes) if a not in kept]
        order = [a for a in self.attributes if a in kept]
        summed = self.values.sum(axis=tuple(gone))
        margin = summed.transpose(0, *(1 + order.index(a) for a in kept))
        for axis in range(1, margin.ndim):
            margin = margin - margin.mean(axis=axis, keepdims=True)
        return margin, self.variance * prod(self.values.shape[axis] for axis in gone)


@dataclass(frozen=True, kw_only=True)
class Margin:
    """How many of `users` have these codes: one cell of a margin of the reconciled tables."""

    users: str = EVERYONE
    at: Mapping[Attribute, int] = field(default_factory=dict)

    @property
    def attributes(self) -> Attributes:
        return tuple(sorted(self.at))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Component:
    """The residual margins over one set of attributes, as all blocks together tell them.

    users: whose they are, along the second axis of `values`, (groups, users, *sizes), and both of
    `cov`, which a projection multiplies.
    """

    users: tuple[str, ...]
    values: Floats
    cov: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconciled:
    """All blocks made to agree. Nothing is computed before it is read."""

    blocks: tuple[Block, ...] = field(repr=False)
    _components: dict[Attributes, _Component] = field(default_factory=dict, repr=False)

    @cached_property
    def sizes(self) -> dict[Attribute, int]:
        return {a: size for block in self.blocks for a, size in block.sizes.items()}

    @cached_property
    def users(self) -> tuple[str, ...]:
        """Whose numbers the blocks tell, in the order in which they do."""
        return tuple(dict.fromkeys(name for block in self.blocks for name in block.counts))

    def tells(self, users: str, attributes: Iterable[Attribute] = ()) -> bool:
        """Whether some block counts these users by all of the attributes."""
        asked = set(attributes)
        return any(users in b.counts and asked <= set(b.attributes) for b in self.blocks)

    def read(self, margins: Sequence[Margin]) -> tuple[Floats, Floats]:
        """Estimates (groups, margins) and the covariance of their noise (margins, margins).

        The covariance does not depend on any block's values, and is in the blocks' own units.
        Every margin must be told.
        """
        groups = self.blocks[0].values.shape[0]
        theta, cov = np.zeros((groups, len(margins))), np.zeros((len(margins), len(margins)))
        for kept in dict.fromkeys(s for m in margins for s in _subsets(m.attributes)):
            inside = [i for i, m in enumerate(margins) if set(kept) <= set(m.at)]
            found = self._component(kept)
            own = [found.users.index(margins[i].users) for i in inside]
            codes = np.array([[margins[i].at[a] for a in kept] for i in inside], dtype=np.int64)
            share = np.array([self._share(margins[i], kept) for i in inside])
            theta[:, inside] += share * found.values[:, own, *codes.T]
            same = codes[:, None, :] == codes[None, :, :]
            centred = np.prod(same - 1 / np.array([self.sizes[a] for a in kept]), axis=-1)
            cov[np.ix_(inside, inside)] += np.outer(share, share) * found.cov[own][:, own] * centred
        return theta, cov

    def _share(self, margin: Margin, kept: Attributes) -> float:
        """Of a residual over `kept`, spread evenly over all cells, the part in one cell."""
        return 1 / prod(self.sizes[a] for a in margin.at if a not in kept)

    def _component(self, kept: Attributes) -> _Component:
        if kept not in self._components:
            told = [b for b in self.blocks if set(kept) <= set(b.attributes)]
            users = tuple(dict.fromkeys(name for b in told for name in b.counts))
            rows = np.array([[b.counts.get(name, 0) for name in users] for b in told], dtype=float)
            found = [b.residual(kept) for b in told]
            precise = rows.T / np.array([variance for _, variance in found])
            cov = np.linalg.inv(precise @ rows)
            stacked = np.stack([values for values, _ in found])
            values = np.einsum("ub,bg...->gu...", cov @ precise, stacked)
            self._components[kept] = _Component(users=users, values=values, cov=cov)
        return self._components[kept]


def reconcile(blocks: Iterable[Block]) -> Reconciled:
    """The blocks made to agree with each other. Raises ValueError without a block."""
    found = tuple(blocks)
    if not found:
        raise ValueError("no table to reconcile")
    return Reconciled(blocks=found)


def _subsets(attributes: Attributes) -> list[Attributes]:
    return [s for n in range(len(attributes) + 1) for s in combinations(attributes, n)]
