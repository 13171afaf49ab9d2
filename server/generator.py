"""A run's configuration and findings, as the library's synthesis takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strategies.measuring import Findings
from twinweave import rundir
from twinweave.config import RunConf
from twinweave.generators import registry
from twinweave.generators.pretrained.lineage import Training
from twinweave.generators.union import UnionLayout
from twinweave.synthesis import synthesise
from twinweave.synthesis.public import public_rows


def first_weights(conf: RunConf, findings: Findings) -> NDArray[np.float32]:
    """The generator's weights before the first round, (parameters,)."""
    assert conf.generator is not None
    return synthesise.first_weights(conf.generator, _task(conf, findings))


def synthetic_rows(conf: RunConf, findings: Findings) -> synthesise.SynthesisResult:
    """The trained generator fitted to the measurements, and its rows weighed to meet them.

    Without those that too few are like, where the audit suppresses.
    """
    assert conf.generator is not None
    task, audit = _task(conf, findings), conf.audit
    result = synthesise.synthetic_rows(conf.generator, task, findings.weights)
    if not audit.suppress:
        return result
    return result.anonymous(task.layout.names, audit.quasi_identifiers, audit.k)


def write_fine_tuned(conf: RunConf, findings: Findings) -> Path | None:
    """The checkpoint of a model that was fine-tuned without noise, in the run's folder, marked so
    that no private run starts from it. None where the run made none."""
    if conf.generator is None or findings.weights is None or not findings.spec.unsafe:
        return None
    layout = UnionLayout.of(findings.spec.schema)
    network = registry.load(conf.generator, layout, findings.weights)
    folder = Path(conf.output) / rundir.FINE_TUNED
    training = Training(dataset=conf.data.name, epsilon=None, delta=conf.privacy.delta)
    return folder if network.write_unsafe(folder, training) else None


def _task(conf: RunConf, findings: Findings) -> synthesise.Task:
    schema = findings.spec.schema
    file = conf.generator.public_file if conf.generator else None
    return synthesise.Task(
        public=public_rows(schema, file) if file else None,
        layout=UnionLayout.of(schema),
        measurements=findings.measurements,
        sizes=findings.rows,
        conf=conf.synthesis,
        seed=conf.seed,
        fairness=conf.enforcement,
    )
