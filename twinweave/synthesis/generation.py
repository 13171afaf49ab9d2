"""The server's use of a generator: first weights before training, synthetic rows after it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from strategies.weave import Findings
from twinweave.config import RunConf
from twinweave.generators.conf import LlmConf
from twinweave.generators.local import initial_weights, load, shared
from twinweave.generators.union import UnionLayout
from twinweave.synthesis.synthesise import SynthesisResult, synthesise
from twinweave.workload.measurement import one_way_tables

Weights = NDArray[np.float32]
log = logging.getLogger("twinweave.run")


def first_weights(conf: RunConf, findings: Findings) -> Weights:
    """Weights before the first round: a function of seed and measurements, so free of cost."""
    assert conf.generator is not None
    layout = UnionLayout.of(findings.spec.schema)
    tables = one_way_tables(findings.measurements)
    weights = initial_weights(conf.generator, layout, seed=conf.seed, one_way=tables)
    if isinstance(conf.generator, LlmConf) and conf.generator.format_steps:
        return _formatted(conf, conf.generator, findings, weights)
    return weights


def _formatted(conf: RunConf, generator: LlmConf, findings: Findings, weights: Weights) -> Weights:
    """The llm's format stage: plain training on rows drawn from the noisy tables."""
    import torch

    from twinweave.generators.flat import flatten
    from twinweave.generators.llm import pretrain

    layout = UnionLayout.of(findings.spec.schema)
    # Raked to meet the tables: what the format stage teaches is what the tables say.
    drafted = synthesise(
        None,
        layout,
        findings.measurements,
        findings.rows,
        conf.synthesis,
        conf.seed,
        progress=by_quarters("drafting rows from the tables"),
    )
    log.info(
        "format stage: %d plain steps on %d drafted rows", generator.format_steps, len(drafted.rows)
    )
    network = load(generator, layout, weights)
    pretrain(
        network,
        drafted.rows,
        steps=generator.format_steps,
        lr=generator.format_learning_rate,
        batch=generator.format_batch,
        one_party=generator.one_party,
        generator=torch.Generator().manual_seed(conf.seed),
        progress=by_quarters("format stage"),
    )
    return flatten(shared(network))


def synthetic_rows(conf: RunConf, findings: Findings) -> SynthesisResult:
    """Fit the trained network to the measurements, and weigh its rows to meet them."""
    assert conf.generator is not None
    layout = UnionLayout.of(findings.spec.schema)
    weights = findings.weights
    if weights is None:  # a generator that is not trained still starts from the tables
        weights = first_weights(conf, findings)
    network = load(conf.generator, layout, weights)
    return synthesise(
        network,
        layout,
        findings.measurements,
        findings.rows,
        conf.synthesis,
        conf.seed,
        progress=by_quarters("fitting to the tables"),
    )


def by_quarters(what: str) -> Callable[[str, int, int], None]:
    """A progress callback that logs each quarter of each stage, so that a log stays short."""
    reached: dict[str, int] = {}

    def report(stage: str, done: int, total: int) -> None:
        quarter = 4 * done // max(total, 1)
        if quarter > reached.get(stage, 0):
            reached[stage] = quarter
            log.info("%s: %s %d%%", what, stage, 25 * quarter)

    return report
