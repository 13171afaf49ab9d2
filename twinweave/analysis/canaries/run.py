"""The audit of a run's guarantee: a lower bound of epsilon for every path by which it releases.

Each path has a run of its own, of canaries alone, with the run's configuration: it asks for the
path's kind of release, and nothing else, with the noise that the run's own planning and
accountant give it for all of epsilon at delta. No row of a person is in it, and no budget of one.
What is audited so is the program that the run uses, at the run's settings: whether what is drawn,
clipped, sampled and counted is what is charged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from twinweave import progress
from twinweave.analysis.audit.results import LowerBound
from twinweave.analysis.canaries.counts import counts_trial
from twinweave.analysis.canaries.kinds import TableKind, kinds_of
from twinweave.analysis.canaries.levels import levels_bound
from twinweave.analysis.canaries.tables import table_trial
from twinweave.config import RunConf
from twinweave.spec import RunSpec
from twinweave.workload.audit import Depth
from twinweave.workload.overlap import counted

log = logging.getLogger("twinweave.run")


@dataclass(frozen=True, kw_only=True)
class Effort:
    """side: of a table of canaries, which has side ** 2. canaries: of a training. levels: of the
    column that has them or not. rounds: of a training at most; None: all."""

    side: int
    canaries: int
    levels: int
    rounds: int | None


EFFORTS: dict[Depth, Effort] = {
    "quick": Effort(side=100, canaries=20_000, levels=100, rounds=1),
    "full": Effort(side=320, canaries=100_000, levels=200, rounds=None),
}


def lower_bounds(
    conf: RunConf, spec: RunSpec, rows: Mapping[str, int], depth: Depth
) -> tuple[LowerBound, ...]:
    """A bound for every path by which a run releases; none where the audit is off.

    spec: of the run, with any of its plans of tables. rows: table sizes, public. The same seed
    puts the same canaries in; the noise is fresh.
    """
    effort = EFFORTS.get(depth)
    if effort is None:
        return ()
    found: list[LowerBound] = []
    audits = [(audit, 1.0) for audit in _audits(conf, spec, rows, effort)]
    for number, (audit, counted_in) in enumerate(progress.parts("canaries", audits)):
        started = time.monotonic()
        with counted_in, progress.heard_by(None):  # what a trial plays is no step of the run
            bounds = audit(np.random.default_rng((conf.seed, number)))
        log.debug("canaries: %s (%.1f s)", bounds[0].path, time.monotonic() - started)
        found += bounds
    return tuple(found)


Audit = Callable[[np.random.Generator], tuple[LowerBound, ...]]
"""Of one path: a run of its own. Its generator decides which canaries are put in."""


def _audits(
    conf: RunConf, spec: RunSpec, rows: Mapping[str, int], effort: Effort
) -> Iterator[Audit]:
    for kind in kinds_of(spec, effort.side):
        yield partial(_tables, kind, conf, effort.side)
    if counted(spec.schema):
        yield lambda rng: (counts_trial(conf, canaries=effort.side**2, rng=rng).bound(),)
    yield lambda rng: (levels_bound(conf, side=effort.levels, rng=rng),)
    if spec.training is not None and not spec.unsafe:  # which claims nothing
        yield partial(training_bounds, conf, rows, effort)


def _tables(
    kind: TableKind, conf: RunConf, side: int, rng: np.random.Generator
) -> tuple[LowerBound, ...]:
    return (table_trial(kind, conf, side=side, rng=rng).bound(),)


def training_bounds(
    conf: RunConf, rows: Mapping[str, int], effort: Effort, rng: np.random.Generator
) -> tuple[LowerBound, ...]:
    """Of a run with a generator: of every noisy gradient; and of the opened sums, where what is
    summed are such."""
    from twinweave.analysis.canaries.sums import opened_trial
    from twinweave.analysis.canaries.training import train_canaries

    assert conf.generator is not None
    generator = conf.generator
    if effort.rounds:
        generator = replace(generator, rounds=min(generator.rounds, effort.rounds))
    conf = replace(conf, generator=generator)
    delta = conf.privacy.delta
    trained = train_canaries(conf, rows, canaries=effort.canaries, rng=rng)
    trials = [trained.trial(delta)]
    if trained.updates:
        trials.append(opened_trial(trained, conf.protocol.secure_sum, delta=delta, rng=rng))
    return tuple(t.bound() for t in trials)
