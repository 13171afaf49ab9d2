"""One round of local private training, whatever the generator: what a party's handler calls.

Imports torch only inside the functions that train, so that the configuration can be read
anywhere. The update of a round is private as a whole: it is a function of the global weights
and of DP-SGD steps alone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.generators.conf import CtganConf, LlmConf, TrainingConf, TvaeConf
from twinweave.generators.union import OneWay, UnionLayout

if TYPE_CHECKING:
    from torch import nn

    from twinweave.generators.dpsgd import Trace
    from twinweave.generators.plan import SgdPlan
    from twinweave.generators.random_source import RandomSource

_MODULES = {
    "tvae": "twinweave.generators.tvae",
    "ctgan": "twinweave.generators.ctgan",
    "llm": "twinweave.generators.llm",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundResult:
    """update: (parameters,) float32, new minus old: all that leaves the party, after masking.

    state: the party's own, for its next round (discriminator, optimisers). trace: without
    noise, for the party's own log.
    """

    update: NDArray[np.float32] = field(repr=False)
    state: bytes = field(repr=False)
    trace: Trace = field(repr=False)


def build(conf: TrainingConf, layout: UnionLayout) -> Any:
    """The network of a configuration (`base.Network`), on the CPU, weights arbitrary."""
    name = getattr(conf, "name", "")
    if name not in _MODULES:
        raise ConfigError("generator.name", "not a known generator", f"Use {', '.join(_MODULES)}.")
    return import_module(_MODULES[name]).build(conf, layout)


def shared(network: Any) -> list[nn.Parameter]:
    """Parameters that travel, in the order of the flat vector."""
    return [p for _, p in network.shared_parameters()]


def initial_weights(
    conf: TrainingConf, layout: UnionLayout, *, seed: int, one_way: OneWay | None = None
) -> NDArray[np.float32]:
    """Global weights before the first round, (parameters,): the same for the same seed.

    one_way: noisy one-way tables by column name, where they are measured already: the
    network then starts at their product (post-processing, costs no privacy).
    """
    from twinweave.generators.flat import flatten

    network: Any
    if isinstance(conf, TvaeConf):
        from twinweave.generators.tvae import Tvae

        network = Tvae(conf, layout, seed=seed, one_way=one_way)
    elif isinstance(conf, CtganConf):
        from twinweave.generators.ctgan import Ctgan

        network = Ctgan(conf, layout, seed=seed, one_way=one_way)
    elif isinstance(conf, LlmConf):
        from twinweave.generators.llm import SchemaTransformer

        network = SchemaTransformer(conf, layout, seed=seed)
    else:
        network = build(conf, layout)
    return flatten(shared(network))


def load(conf: TrainingConf, layout: UnionLayout, weights: NDArray[np.float32]) -> Any:
    """The network with these weights, for sampling or the fit. Raises ConfigError."""
    from twinweave.generators.flat import unflatten

    network = build(conf, layout)
    unflatten(shared(network), weights)
    return network


def coverage(conf: TrainingConf, layout: UnionLayout, party: str) -> NDArray[np.bool_]:
    """Which entries of the flat vector the party trains, (parameters,). Public.

    The party's update is zero elsewhere. A server that averages over the parties divides each
    entry's sum by the number of parties that cover it.
    """
    network = build(conf, layout)
    mask = network.trained_by(layout.held_by(party))
    return np.concatenate([mask[name].ravel() for name, _ in network.shared_parameters()])


def train_round(
    conf: TrainingConf,
    layout: UnionLayout,
    party: str,
    weights: NDArray[np.float32],
    codes: NDArray[np.int32],
    plan: SgdPlan,
    state: bytes | None = None,
    one_way: OneWay | None = None,
    *,
    source: RandomSource | None = None,
    device: str | None = None,
) -> RoundResult:
    """Take `plan.steps` private steps from the global weights on the party's own rows.

    weights: (parameters,) float32. codes: (n, union columns), ABSENT where the party does not
    hold the column. one_way: noisy tables by column name (ctgan's conditions). state: of the
    party's round before. The caller charges `plan.mechanism()` first. Raises ConfigError.
    """
    from twinweave.generators import ctgan
    from twinweave.generators.dpsgd import choose_device, private_steps
    from twinweave.generators.flat import flatten
    from twinweave.generators.random_source import RandomSource

    source = source or RandomSource()
    covered = coverage(conf, layout, party)
    network = load(conf, layout, weights).to(choose_device(device))
    kept = unpack(state)
    if isinstance(conf, CtganConf):
        held = layout.held_by(party)
        trace, kept = ctgan.train_locally(
            network, conf, held, codes, plan, source=source, one_way=one_way, state=kept
        )
    else:
        trace, kept = private_steps(
            network, codes, plan, source=source, active=covered, adam=kept, mode=conf.gradients
        )
    update = np.where(covered, flatten(shared(network)) - weights, np.float32(0))
    return RoundResult(update=update.astype(np.float32), state=pack(kept), trace=trace)


def pack(arrays: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Named arrays as bytes (npz)."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack(state: bytes | None) -> dict[str, NDArray[np.float32]]:
    """Inverse of `pack`; nothing for None. Never unpickles."""
    if not state:
        return {}
    with np.load(io.BytesIO(state), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
