"""A pretrained run's cost from public numbers: tokens of a row, weights, steps, rows.

Measured on SmolLM2-135M, German credit, one core of a two-core machine without an accelerator:
9.4 CPU s for loss and gradient of 16 rows of 86 tokens in float32, 3.9 for 8 in bfloat16; 6.4 and
4.4 to draw 8 rows of 175 tokens. A multiply-add a weight and token forward, and as much backward:
frozen weights need no gradient of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twinweave.generators.cost import Cost
from twinweave.generators.pretrained.checkpoint import (
    Checkpoint,
    adapted_weights,
    checked,
    config_of,
    layers_of,
    number_of,
    weights_of,
)
from twinweave.generators.pretrained.template import Template, template

if TYPE_CHECKING:
    from twinweave.generators.conf import PretrainedConf
    from twinweave.generators.union import UnionLayout

TRAINING = {"float32": 62e9, "bfloat16": 75e9}
DECODING = {"float32": 46e9, "bfloat16": 67e9}
"""Floating-point operations a CPU second, by the precision of the frozen weights."""
ACTIVATIONS = 28
"""Numbers kept for the backward pass, a token, a layer and a unit of width."""
PROCESS = 500_000_000
"""Bytes of a process that has loaded torch and transformers."""

_LOOKED_UP = ("embed", "wte", "wpe", "shared.", "lm_head", "logits", "relative", "encoder.")
"""Parts of names of matrices that no token of a row is multiplied with."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """weights: that a token is multiplied with. whole: all there are. sides: inputs and outputs of
    all adapted layers. width, layers: of the decoder."""

    weights: int
    whole: int
    sides: int
    width: int
    layers: int


def estimate(
    conf: PretrainedConf, layout: UnionLayout, parties: Sequence[str], *, drawn: float
) -> Cost:
    """Of a run with these parties that draws so many rows. Raises ConfigError (`checked`)."""
    checkpoint = checked(conf.checkpoint, conf.digest, unsafe=conf.unsafe_checkpoint)
    written, shape = template(layout, checkpoint), shape_of(checkpoint)
    own = sum(_tokens(written, checkpoint, layout, party) for party in parties)
    trained = conf.steps * conf.expected_batch * own
    trained += conf.format_steps * conf.format_batch * written.slots
    seconds = 4 * shape.weights * trained / TRAINING[conf.precision]
    seconds += 2 * shape.weights * drawn * written.slots / DECODING[conf.precision]
    size = 4 if conf.precision == "float32" else 2
    at_once = min(conf.micro_batch, conf.format_batch) if conf.format_steps else 1
    kept = at_once * written.slots * shape.layers * shape.width * ACTIVATIONS * size
    return Cost(
        cpu_seconds=seconds,
        memory=PROCESS + shape.whole * size + kept,
        update=4 * conf.rank * shape.sides,
    )


def _tokens(written: Template, checkpoint: Checkpoint, layout: UnionLayout, party: str) -> int:
    """Slots of a row as a party holds it; with an encoder, all columns have theirs."""
    if not checkpoint.architecture.causal:
        return written.slots
    lacking = [c for c, held in enumerate(layout.held_by(party)) if not held]
    return written.slots - sum(written.columns[c].slots for c in lacking)


def shape_of(checkpoint: Checkpoint) -> Shape:
    """From the heads of the weight files and the configuration; no weight is read."""
    shapes = weights_of(checkpoint.folder)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    config = config_of(checkpoint.folder)
    return Shape(
        weights=sum(
            sizes[name]
            for name, shape in shapes.items()
            if len(shape) == 2 and not any(part in name for part in _LOOKED_UP)
        ),
        whole=sum(sizes.values()),
        sides=sum(map(sum, adapted_weights(checkpoint.folder, checkpoint.architecture))),
        width=number_of(config, "units of its width", "hidden_size", "n_embd", "d_model"),
        layers=layers_of(config),
    )
