"""Measurements and a generator to synthetic rows of the union.

Fit the generator and then a mixture of products (a generator without soft output, such as the
llm, gives candidates as it is), offer several times the rows wanted, weigh them to meet the
measurements, draw whole rows; with fair labels, where that is asked for. Post-processing: no
privacy cost, deterministic under the seed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError, DivergedError
from twinweave.generators import registry
from twinweave.generators.conf import GeneratorConf
from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import SynthesisConf
from twinweave.synthesis.draw import Basis, Codes, Drawn, Offer, Source, draw, offer
from twinweave.synthesis.fairness.conf import Enforcement
from twinweave.synthesis.fit import fit
from twinweave.synthesis.population import Population, population
from twinweave.synthesis.suppress import suppressed
from twinweave.workload.measurement import Measurement, of_levels, of_rows, one_way_tables

if TYPE_CHECKING:
    from twinweave.generators.base import Generator, Progress
    from twinweave.synthesis.fairness.enforce import Enforced, Fair

log = logging.getLogger("twinweave.run")


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What synthetic rows are made from, and how. sizes: rows of each party's table.

    fairness: of the labels, None where they stay as measured. public: rows that a format stage
    learns from; None: such as meet the measurements.
    """

    layout: UnionLayout
    measurements: Sequence[Measurement] = field(repr=False)
    sizes: Mapping[str, int]
    conf: SynthesisConf
    seed: int
    fairness: Enforcement | None = None
    public: Rows | None = field(default=None, repr=False)

    @cached_property
    def tables(self) -> tuple[Measurement, ...]:
        """The measurements that rows can meet."""
        return of_rows(self.measurements, self.layout.names)

    @cached_property
    def raked(self) -> tuple[Measurement, ...]:
        """Of these those that the candidates' weights meet: all but coarse ones of columns of
        which the levels' own pairs are there too. The fit has met them, and raking takes as long
        as there are tables (twice as long for .0002 of the mean two-way TVD)."""
        pairs = {frozenset(m.query.columns) for m in of_levels(self.tables)}

        def told(m: Measurement) -> bool:
            return all(frozenset(pair) in pairs for pair in combinations(m.query.columns, 2))

        return tuple(m for m in self.tables if not (m.query.is_coarse and told(m)))


@dataclass(frozen=True, kw_only=True, eq=False)
class SynthesisResult:
    """rows: the synthetic union. effective: sample size the candidates' weights are worth.

    misfit: by table, chi-square of the weighted candidates over its cells (about 1: met up to
    the noise). trace: the fit's loss, the same over all cells, along its steps. source: what
    was fitted; more rows can be drawn from it. suppressed: rows left out as too few were alike.
    enforced: what was made fair in the labels, with `original`, the rows as measured, and
    `aimed`, the measurements as the fair rows should meet them; None where nothing was.
    """

    rows: Rows = field(repr=False)
    population: Population
    effective: float
    misfit: dict[str, float] = field(repr=False)
    trace: tuple[float, ...]
    source: Source = field(repr=False)
    suppressed: int = 0
    aimed: Sequence[Measurement] | None = field(default=None, repr=False)
    original: Rows | None = field(default=None, repr=False)
    enforced: Enforced | None = None

    def anonymous(
        self, names: Sequence[str], quasi_identifiers: Sequence[str], k: int
    ) -> SynthesisResult:
        """The same without rows that share their quasi-identifiers with fewer than k - 1 others.

        names: of the union's columns. Raises ConfigError where no row is left.
        """
        left = suppressed(self.rows, names, quasi_identifiers, k)
        if not len(left):
            raise ConfigError(
                "audit.k",
                f"no synthetic row shares its quasi-identifiers with {k - 1} others",
                "Name fewer of them or columns with fewer levels, or lower audit.k.",
            )
        original = self.original and suppressed(self.original, names, quasi_identifiers, k)
        gone = len(self.rows) - len(left)
        return replace(self, rows=left, original=original, suppressed=gone)


def first_weights(generator: GeneratorConf, task: Task) -> NDArray[np.float32]:
    """Weights before the first round, (parameters,): post-processing of the measurements.

    A generator that has a format stage learns from rows that are raked to meet the tables, so
    that it is taught what the tables say; or from public ones, where the task has them. Raises
    DivergedError.
    """
    one_way = one_way_tables(task.measurements)
    network = registry.build(generator, task.layout, seed=task.seed, one_way=one_way)

    def draft() -> Rows:
        if task.public is not None:
            log.info("format stage: on %d rows of a public file", len(task.public))
            return task.public
        progress = by_quarters("drafting rows from the tables")
        rows = synthesise(None, replace(task, fairness=None), progress=progress).rows
        log.info("format stage: on %d drafted rows", len(rows))
        return rows

    network.learn_format(draft, seed=task.seed, progress=by_quarters("format stage"))
    if not np.isfinite(network.weights).all():
        raise DivergedError(
            "the format stage diverged: weights are no finite numbers. Lower "
            "generator.format_learning_rate in a new run."
        )
    return network.weights


def synthetic_rows(
    generator: GeneratorConf, task: Task, weights: NDArray[np.float32] | None
) -> SynthesisResult:
    """`synthesise` with the generator of these weights; of its `first_weights` if never trained."""
    if weights is None:
        weights = first_weights(generator, task)
    network = registry.load(generator, task.layout, weights)
    progress = by_quarters("fitting to the tables")
    return synthesise(network, task, progress=progress)


def synthesise(
    network: Generator | None, task: Task, *, progress: Progress | None = None
) -> SynthesisResult:
    """Synthetic rows of the union. The network, if it has soft output, is changed by the fit.

    Without a network the fit starts from nothing. progress: of the fit. Raises ConfigError if a
    party's size is missing.
    """
    people = _people(task)
    n = task.conf.rows or people.size
    source = _source(network, task, people, progress)
    basis = _basis(source, task, people)
    rng = np.random.default_rng([task.seed, 1])
    offered = offer(basis, basis.candidates(n), rng)
    rows = offered.divided(people, n).choose(n, basis.conf.exchanges, rng)
    found = SynthesisResult(
        rows=rows,
        population=people,
        effective=offered.raked.effective,
        misfit=offered.raked.misfit,
        trace=() if source.mixture is None else source.mixture.trace,
        source=source,
    )
    return found if task.fairness is None else _fair(task, basis, offered, found, n)


def made_fair(found: SynthesisResult, task: Task) -> SynthesisResult:
    """Rows of what was fitted before, with the labels that `task.fairness` asks for."""
    assert task.fairness is not None
    people = _people(task)
    basis, n = _basis(found.source, task, people), task.conf.rows or people.size
    offered = offer(basis, basis.candidates(n), np.random.default_rng([task.seed, 1]))
    return _fair(task, basis, offered, found, n)


def _fair(
    task: Task, basis: Basis, offered: Offer, found: SynthesisResult, n: int
) -> SynthesisResult:
    """The same with fair labels, and the rows as measured beside them."""
    fair = _enforced(task, basis, offered)
    rng = np.random.default_rng([task.seed, 8])
    return replace(
        found,
        rows=fair.offer.divided(basis.people, n).choose(n, basis.conf.exchanges, rng),
        effective=fair.offer.raked.effective,
        misfit=fair.offer.raked.misfit,
        aimed=tuple(fair.tables),
        original=found.rows,
        enforced=fair.enforced,
    )


def _enforced(task: Task, basis: Basis, offered: Offer) -> Fair:
    from twinweave.synthesis.fairness.enforce import enforce

    assert task.fairness is not None
    rng = np.random.default_rng([task.seed, 9])
    return enforce(task.fairness, basis, offered, task.conf.fit, rng)


def more_rows(source: Source, task: Task, n: int, given: Codes) -> Drawn:
    """n further rows from what `synthesise` fitted, of everyone or of those with given codes.

    They meet the measurements as the run's own do, and are as fair; drawn under the task's seed.
    """
    basis = _basis(source, task, _people(task))

    def offering(size: int, rng: np.random.Generator) -> Offer:
        offered = offer(basis, size, rng)
        return offered if task.fairness is None else _enforced(task, basis, offered).offer

    return draw(basis, n, np.random.default_rng([task.seed, 6]), given, offering)


def _people(task: Task) -> Population:
    layout = task.layout
    return population(layout.parties, task.sizes, task.measurements, layout.pools)


def _source(
    network: Generator | None, task: Task, people: Population, progress: Progress | None
) -> Source:
    """The network by itself where it has no soft output, and no mixture is asked for beside it or
    makes up for what it does not write."""
    soft = network.soft if network is not None else None
    alone = network if soft is None else None
    part = 1.0 if alone is None else task.conf.mixture
    if alone is not None and part is None:
        wanted = task.conf.rake.candidates * (task.conf.rows or people.size)
        most = alone.most_candidates
        part = 0.0 if most is None or most >= wanted else None
    if part == 0:
        return Source(network=alone, part=part)
    latents = people.latents(task.conf.fit.latents)
    mixture = fit(soft, task.layout, task.tables, latents, task.conf.fit, task.seed, progress)
    return Source(network=alone, mixture=mixture, part=part)


def _basis(source: Source, task: Task, people: Population) -> Basis:
    return Basis(
        source=source,
        layout=task.layout,
        measurements=task.raked,
        people=people,
        conf=task.conf.rake,
    )


def by_quarters(what: str) -> Progress:
    """Logs each quarter of each stage, so that a log stays short."""
    reached: dict[str, int] = {}

    def report(stage: str, done: int, total: int) -> None:
        quarter = 4 * done // max(total, 1)
        if quarter > reached.get(stage, 0):
            reached[stage] = quarter
            log.debug("%s: %s %d%%", what, stage, 25 * quarter)

    return report
