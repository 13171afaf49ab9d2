"""A run's configuration and findings, as the library's synthesis takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from strategies.weave import Findings
from twinweave.config import RunConf
from twinweave.generators.union import UnionLayout
from twinweave.synthesis import synthesise as library
from twinweave.workload.measurement import Measurement


def first_weights(conf: RunConf, findings: Findings) -> NDArray[np.float32]:
    """The generator's weights before the first round, (parameters,)."""
    assert conf.generator is not None
    return library.first_weights(conf.generator, *_known(findings), conf.synthesis, conf.seed)


def synthetic_rows(conf: RunConf, findings: Findings) -> library.SynthesisResult:
    """The trained generator fitted to the measurements, and its rows weighed to meet them."""
    assert conf.generator is not None
    return library.synthetic_rows(
        conf.generator, *_known(findings), conf.synthesis, conf.seed, findings.weights
    )


def _known(findings: Findings) -> tuple[UnionLayout, Sequence[Measurement], Mapping[str, int]]:
    layout = UnionLayout.of(findings.spec.schema)
    return layout, findings.measurements, findings.rows
