"""The kinds of generators, and one by its configuration. Loads torch only where one is built."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.conf import GeneratorConf
from twinweave.generators.union import OneWay, UnionLayout

if TYPE_CHECKING:
    from twinweave.generators.base import Generator


KINDS = {
    "tvae": "twinweave.generators.tvae:Tvae",
    "ctgan": "twinweave.generators.ctgan:Ctgan",
    "llm": "twinweave.generators.llm:SchemaTransformer",
    "llm_pretrained": "twinweave.generators.pretrained.model:PretrainedTransformer",
}
"""Where the class of each kind is: `kind` of its configuration -> module:class.

Called with (conf, layout, seed=, one_way=), it makes the network as it is before the first round:
the same for the same seed and, where it can start there, at the product of the noisy one-way
tables (post-processing, free of privacy cost).
"""


def build(
    conf: GeneratorConf, layout: UnionLayout, *, seed: int = 0, one_way: OneWay | None = None
) -> Generator:
    """The generator of a configuration, on the CPU, as it is before the first round."""
    module, _, name = KINDS[conf.kind].partition(":")
    made: Generator = getattr(import_module(module), name)(conf, layout, seed=seed, one_way=one_way)
    return made


def load(conf: GeneratorConf, layout: UnionLayout, weights: NDArray[np.float32]) -> Generator:
    """The generator with these weights, (parameters,). Raises ConfigError if they do not fit."""
    network = build(conf, layout)
    network.weights = weights
    return network


def coverage(conf: GeneratorConf, layout: UnionLayout) -> dict[str, NDArray[np.bool_]]:
    """By party, which entries of the vector of weights it trains, (parameters,). Public.

    A party's update is zero elsewhere. A server that averages over the parties divides each
    entry's sum by the number of parties that cover it. Builds one network, which may take seconds.
    """
    network = build(conf, layout)
    return {party: network.coverage(layout.held_by(party)) for party in layout.parties}
