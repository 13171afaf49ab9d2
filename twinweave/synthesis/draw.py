"""Rows that meet the measurements, drawn from what was fitted: weighed candidates, resampled.

As many as wanted, of everyone or of whoever has given levels. No privacy cost: nothing here has
seen more than the measurements and the trained weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import SourceError
from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import RakeConf
from twinweave.synthesis.fit import Mixture
from twinweave.synthesis.population import Population
from twinweave.synthesis.rake import Raked, constraints, rake, sizes
from twinweave.synthesis.resample import exchange, resample, within
from twinweave.synthesis.tilting import Constraint
from twinweave.workload.measurement import Measurement

if TYPE_CHECKING:
    from twinweave.generators.base import Generator

MOST_CELLS = 250_000_000
"""Candidates times tables, at most, unless the rows wanted alone are more: half a gigabyte."""

Codes = Mapping[int, NDArray[np.int32]]
"""By index of a union column, codes of which a row must have one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Where candidates come from. part: of them, the mixture's; the network gives the others.
    None: the network gives as many as it writes at most, the mixture the others.

    network: without soft output, None where the mixture gives all. mixture: fitted to the
    measurements, None where the network gives all.
    """

    network: Generator | None = None
    mixture: Mixture | None = None
    part: float | None = 1.0

    @property
    def most(self) -> float:
        """Candidates, at most: of a network that writes few (`Generator.most_candidates`)."""
        if self.mixture is None:
            return self._few
        return np.inf if self.part is None else self._few / max(1 - self.part, 1e-9)

    @property
    def _few(self) -> float:
        few = self.network.most_candidates if self.network is not None else None
        return np.inf if few is None else few

    def _own(self, n: int) -> int:
        """The network's, of n candidates."""
        if self.mixture is None:
            return n
        return int(min(n, self._few)) if self.part is None else n - round(self.part * n)

    def rows(self, people: Population, n: int, rng: np.random.Generator) -> Rows:
        """n candidates."""
        parts: list[Rows] = []
        own = self._own(n)
        if self.network is not None and own:
            parts.append(_sampled(self.network, people.presence(own), rng))
        if self.mixture is not None and own < n:
            parts.append(self.mixture.sample(n - own, rng))
        return Rows.joined(parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Basis:
    """What rows are drawn from: candidates, and the tables that their weights meet."""

    source: Source
    layout: UnionLayout
    measurements: Sequence[Measurement] = field(repr=False)
    people: Population
    conf: RakeConf

    def candidates(self, n: int) -> int:
        """How many to offer for n rows; fewer than n where the source gives no more."""
        affordable = MOST_CELLS // max(len(self.measurements), 1)
        return self.given(max(n, min(round(self.conf.candidates * n), affordable)))

    def given(self, n: int) -> int:
        """n candidates, or as many as the source gives."""
        return max(1, int(min(n, self.source.most)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Offer:
    """Candidates, weighed to meet the measurements."""

    rows: Rows = field(repr=False)
    tables: Sequence[Constraint] = field(repr=False)
    raked: Raked

    def choose(self, n: int, exchanges: int, rng: np.random.Generator) -> Rows:
        """n rows by weight, closer to the weighted tables than independent draws."""
        weights, presence = self.raked.weights, self.rows.presence
        chosen = resample(weights, self.rows, n, rng)
        return self.rows.take(exchange(chosen, weights, presence, self.tables, exchanges, rng))

    def divided(self, people: Population, n: int) -> Offer:
        """The weights of each presence pattern scaled to its whole number of the n rows."""
        weights = within(self.raked.weights, self.rows, people.patterns, people.whole(n))
        return replace(self, raked=replace(self.raked, weights=weights))

    def among(self, inside: NDArray[np.bool_]) -> Offer:
        """The candidates inside alone, in the same proportions: the conditional distribution."""
        kept = np.flatnonzero(inside)
        weights = self.raked.weights[kept] / self.raked.weights[kept].sum()
        effective = float(1 / (weights**2).sum())
        return Offer(
            rows=self.rows.take(kept),
            tables=[replace(table, cells=table.cells[kept]) for table in self.tables],
            raked=replace(self.raked, weights=weights, effective=effective),
        )


def offer(basis: Basis, n: int, rng: np.random.Generator) -> Offer:
    """n candidates of everyone, weighed."""
    users = float(basis.people.users.sum())
    rows = possible(basis, n, rng)
    tables = constraints(basis.measurements, basis.layout, rows, users)
    tables += sizes(basis.people, basis.layout, rows)
    return Offer(rows=rows, tables=tables, raked=rake(tables, len(rows), users, basis.conf))


def possible(basis: Basis, n: int, rng: np.random.Generator) -> Rows:
    """About n candidates that keep the rules between columns.

    What follows from other columns is set; other rows that break a rule are left out, and so many
    more are drawn once that there should be n.
    Raises SourceError where none keeps them.
    """
    rows = _keeping(basis, n, rng)
    if not len(rows):
        raise SourceError(
            "no synthetic row keeps the rules between columns (implies, impossible). Do two of "
            "them contradict each other, or the data?"
        )
    missing = n - len(rows)
    if not missing:
        return rows
    more = min(-(-missing * n // len(rows)), _MORE * n)
    return Rows.joined([rows, _keeping(basis, more, rng)])


_MORE = 10
"""Times the candidates wanted: so many are drawn, at most, for those that break rules."""


def _keeping(basis: Basis, n: int, rng: np.random.Generator) -> Rows:
    rows, names, rules = (
        basis.source.rows(basis.people, n, rng),
        basis.layout.names,
        basis.layout.rules,
    )
    rows = replace(rows, codes=rules.derive(names, rows.codes))
    return rows.take(np.flatnonzero(rules.possible(names, rows.codes)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """rows: as asked for. everyone, weights: candidates of everyone, and what they weigh."""

    rows: Rows = field(repr=False)
    everyone: Rows = field(repr=False)
    weights: NDArray[np.float64] = field(repr=False)


Offering = Callable[[int, np.random.Generator], Offer]
"""So many candidates, weighed: `offer` of a basis, or what is made of it."""


def draw(
    basis: Basis,
    n: int,
    rng: np.random.Generator,
    given: Codes,
    offering: Offering | None = None,
) -> Drawn:
    """n rows of everyone, or of those who have the codes given.

    As many candidates are weighed as for a whole union, or few rows would have to meet all
    tables; where fewer than n of them have the codes, so many more that n do, as far as memory
    and the source go. offering: None for candidates as measured.
    Raises SourceError where none has.
    """
    offered = offering or partial(offer, basis)
    size = basis.candidates(max(n, basis.people.size))
    found = offered(size, rng)
    inside = _has(found.rows, given)
    if 0 < inside.sum() < n:
        most = MOST_CELLS // max(len(basis.measurements), 1)
        more = basis.given(min(round(1.1 * size * n / inside.sum()), most))
        if more > size:
            found = offered(more, rng)
            inside = _has(found.rows, given)
    if not inside.any():
        raise SourceError(
            "no synthetic row has the levels given together. Give fewer, or more common ones."
        )
    chosen_from = found.among(inside) if given else found.divided(basis.people, n)
    rows = chosen_from.choose(n, basis.conf.exchanges, rng)
    return Drawn(rows=rows, everyone=found.rows, weights=found.raked.weights)


def _has(rows: Rows, given: Codes) -> NDArray[np.bool_]:
    inside = np.ones(len(rows), dtype=bool)
    for column, codes in given.items():
        inside &= np.isin(rows.codes[:, column], codes)
    return inside


def _sampled(network: Generator, presence: NDArray[np.bool_], rng: np.random.Generator) -> Rows:
    import torch

    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    return network.sample(presence, generator)
