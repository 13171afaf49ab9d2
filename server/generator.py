"""A run's configuration and findings, as the library's synthesis takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from strategies.measuring import Findings
from twinweave.config import RunConf
from twinweave.generators.conf import GeneratorConf
from twinweave.generators.union import UnionLayout
from twinweave.synthesis import synthesise as library
from twinweave.synthesis.conf import SynthesisConf
from twinweave.workload.measurement import Measurement

Known = tuple[
    GeneratorConf, UnionLayout, Sequence[Measurement], Mapping[str, int], SynthesisConf, int
]


def first_weights(conf: RunConf, findings: Findings) -> NDArray[np.float32]:
    """The generator's weights before the first round, (parameters,)."""
    return library.first_weights(*_known(conf, findings))


def synthetic_rows(conf: RunConf, findings: Findings) -> library.SynthesisResult:
    """The trained generator fitted to the measurements, and its rows weighed to meet them."""
    return library.synthetic_rows(*_known(conf, findings), findings.weights)


def _known(conf: RunConf, findings: Findings) -> Known:
    """What both take, in their order. Only of a run that has a generator."""
    assert conf.generator is not None
    layout = UnionLayout.of(findings.spec.schema)
    known = conf.generator, layout, findings.measurements, findings.rows
    return *known, conf.synthesis, conf.seed
