"""Measurements and a generator to synthetic rows of the union.

Fit the generator and then a mixture of products (a generator without soft output, such as the
llm, gives candidates as it is), offer several times the rows wanted, weigh them to meet the
measurements, draw whole rows. Post-processing: no privacy cost, deterministic under the seed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave.generators import registry
from twinweave.generators.conf import GeneratorConf
from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import SynthesisConf
from twinweave.synthesis.fit import fit
from twinweave.synthesis.population import Population, population
from twinweave.synthesis.rake import constraints, rake
from twinweave.synthesis.resample import exchange, resample
from twinweave.workload.measurement import Measurement, one_way_tables

if TYPE_CHECKING:
    from twinweave.generators.base import Generator, Progress

log = logging.getLogger("twinweave.run")

MOST_CELLS = 250_000_000
"""Candidates times tables, at most, unless the rows wanted alone are more: half a gigabyte."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What synthetic rows are made from, and how. sizes: rows of each party's table."""

    layout: UnionLayout
    measurements: Sequence[Measurement] = field(repr=False)
    sizes: Mapping[str, int]
    conf: SynthesisConf
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SynthesisResult:
    """rows: the synthetic union. effective: sample size the candidates' weights are worth.

    misfit: by table, chi-square of the weighted candidates over its cells (about 1: met up to
    the noise). trace: the fit's loss, the same over all cells, along its steps.
    """

    rows: Rows = field(repr=False)
    population: Population
    effective: float
    misfit: dict[str, float] = field(repr=False)
    trace: tuple[float, ...]


def first_weights(generator: GeneratorConf, task: Task) -> NDArray[np.float32]:
    """Weights before the first round, (parameters,): post-processing of the measurements.

    A generator that has a format stage learns from rows that are raked to meet the tables, so
    that it is taught what the tables say.
    """
    one_way = one_way_tables(task.measurements)
    network = registry.build(generator, task.layout, seed=task.seed, one_way=one_way)

    def draft() -> Rows:
        progress = by_quarters("drafting rows from the tables")
        rows = synthesise(None, task, progress=progress).rows
        log.info("format stage: on %d drafted rows", len(rows))
        return rows

    network.learn_format(draft, seed=task.seed, progress=by_quarters("format stage"))
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
    layout, measurements, conf = task.layout, task.measurements, task.conf
    people = population(layout.parties, task.sizes, measurements, layout.pools)
    n, users = conf.rows or people.size, people.users.sum()
    affordable = MOST_CELLS // max(len(measurements), 1)
    wanted = max(n, min(round(conf.rake.candidates * n), affordable))
    rng = np.random.default_rng([task.seed, 1])
    soft = network.soft if network is not None else None
    drawn = 0
    parts: list[Rows] = []
    trace: tuple[float, ...] = ()
    if network is not None and soft is None:
        drawn = wanted - round(conf.mixture * wanted)
        parts.append(_sampled(network, people.presence(drawn), rng))
    if drawn < wanted:
        latents = people.latents(conf.fit.latents)
        mixture = fit(soft, layout, measurements, latents, conf.fit, task.seed, progress)
        parts.append(mixture.sample(wanted - drawn, rng))
        trace = mixture.trace
    candidates = Rows.joined(parts)
    linear = constraints(measurements, layout, candidates, users)
    raked = rake(linear, len(candidates), users, conf.rake)
    chosen = resample(raked.weights, candidates, n, rng)
    chosen = exchange(chosen, raked.weights, linear, conf.rake.exchanges, rng)
    return SynthesisResult(
        rows=candidates.take(chosen),
        population=people,
        effective=raked.effective,
        misfit=raked.misfit,
        trace=trace,
    )


def _sampled(network: Generator, presence: NDArray[np.bool_], rng: np.random.Generator) -> Rows:
    import torch

    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    return network.sample(presence, generator)


def by_quarters(what: str) -> Progress:
    """Logs each quarter of each stage, so that a log stays short."""
    reached: dict[str, int] = {}

    def report(stage: str, done: int, total: int) -> None:
        quarter = 4 * done // max(total, 1)
        if quarter > reached.get(stage, 0):
            reached[stage] = quarter
            log.info("%s: %s %d%%", what, stage, 25 * quarter)

    return report
