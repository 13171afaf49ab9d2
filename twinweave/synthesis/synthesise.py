"""Measurements and a network to synthetic rows of the union (DESIGN section 10).

Fit the network and then a mixture of products (networks with soft output; others, such as
the llm, give candidates as they are), offer several times the rows wanted, weigh them to meet
the measurements, draw whole rows. Post-processing: no privacy cost, deterministic under the seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from twinweave.generators.base import Network
from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import SynthesisConf
from twinweave.synthesis.fit import Mixture, Progress, fit
from twinweave.synthesis.population import Population, population
from twinweave.synthesis.rake import Constraint, constraints, rake
from twinweave.synthesis.resample import exchange, resample
from twinweave.workload.measurement import Measurement

MOST_CELLS = 250_000_000
"""Candidates times tables, at most, unless the rows wanted alone are more: half a gigabyte."""

Also = Callable[[Rows], Sequence[Constraint]]
"""Further linear constraints on the candidates, such as fairness."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SynthesisResult:
    """rows: the synthetic union. effective: sample size the candidates' weights are worth.

    misfit: by table, chi-square of the weighted candidates over its cells (about 1: met up to
    the noise). trace: the fit's loss, the same over all cells, along its steps.
    """

    rows: Rows = field(repr=False)
    population: Population
    candidates: int
    effective: float
    misfit: dict[str, float] = field(repr=False)
    trace: tuple[float, ...]
    cpu_seconds: float


def synthesise(
    network: Network | None,
    layout: UnionLayout,
    measurements: Sequence[Measurement],
    sizes: Mapping[str, int],
    conf: SynthesisConf,
    seed: int,
    *,
    also: Also | None = None,
    progress: Progress | None = None,
) -> SynthesisResult:
    """Synthetic rows of the union. The network, if it has soft output, is changed by the fit.

    sizes: rows of each party's table. Without a network the fit starts from nothing.
    also: constraints that the weights meet beside the measurements. progress: of the fit.
    Raises ConfigError if a party's size is missing.
    """
    started = time.process_time()
    people = population(layout.parties, sizes, measurements, layout.pools)
    n = conf.rows or people.size
    rng = np.random.default_rng([seed, 1])
    affordable = MOST_CELLS // max(len(measurements), 1)
    wanted = max(n, min(round(conf.rake.candidates * n), affordable))
    mixture = _mixture(network, layout, measurements, people, conf, seed, progress)
    candidates = _candidates(network, mixture, people, wanted, conf, rng)
    linear = [
        *constraints(measurements, layout, candidates, people.users.sum()),
        *(also(candidates) if also else ()),
    ]
    raked = rake(linear, len(candidates), people.users.sum(), conf.rake)
    chosen = resample(raked.weights, candidates, n, rng)
    chosen = exchange(chosen, raked.weights, linear, conf.rake.exchanges, rng)
    return SynthesisResult(
        rows=candidates.take(chosen),
        population=people,
        candidates=len(candidates),
        effective=raked.effective,
        misfit=raked.misfit,
        trace=mixture.trace if mixture else (),
        cpu_seconds=time.process_time() - started,
    )


def is_soft(network: Network | None) -> bool:
    """Whether the fit can train the network: it gives logits for a latent."""
    return hasattr(network, "logits") and hasattr(network, "latent")


def _mixture(
    network: Network | None,
    layout: UnionLayout,
    measurements: Sequence[Measurement],
    people: Population,
    conf: SynthesisConf,
    seed: int,
    progress: Progress | None,
) -> Mixture | None:
    if network is not None and not is_soft(network) and conf.mixture <= 0:
        return None
    latents = people.latents(conf.fit.latents)
    soft = network if is_soft(network) else None
    return fit(soft, layout, measurements, latents, conf.fit, seed, progress)  # type: ignore[arg-type]


def _candidates(
    network: Network | None,
    mixture: Mixture | None,
    people: Population,
    wanted: int,
    conf: SynthesisConf,
    rng: np.random.Generator,
) -> Rows:
    """Rows from the mixture, from the network itself where it has none, or from both."""
    if network is None or is_soft(network):
        assert mixture is not None
        return mixture.sample(wanted, rng)
    import torch

    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    own = wanted - round(conf.mixture * wanted)
    rows = [network.sample(people.presence(own), generator)]
    if mixture is not None:
        rows.append(mixture.sample(wanted - own, rng))
    return Rows(
        codes=np.concatenate([r.codes for r in rows]),
        presence=np.concatenate([r.presence for r in rows]),
    )
