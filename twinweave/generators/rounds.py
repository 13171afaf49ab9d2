"""One round of local private training, whatever the generator: what a party's handler calls.

Loads torch only where it trains. The update of a round is private as a whole: it is a function
of the global weights and of DP-SGD steps alone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.generators.plan import SgdPlan
from twinweave.generators.random_source import RandomSource
from twinweave.generators.union import OneWay
from twinweave.privacy.events import Event
from twinweave.privacy.guard import Receipt

if TYPE_CHECKING:
    from twinweave.generators.base import Generator
    from twinweave.generators.engine import PrivacyEngine
    from twinweave.generators.training import Trace


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundResult:
    """update: (parameters,) float32, new minus old: all that leaves the party, after masking.

    state: the party's own, for its next round (discriminator, optimisers). trace: without
    noise, for the party's own log.
    """

    update: NDArray[np.float32] = field(repr=False)
    state: bytes = field(repr=False)
    trace: Trace = field(repr=False)


def train_round(
    network: Generator,
    party: str,
    codes: NDArray[np.int32],
    plan: SgdPlan,
    event: Event,
    receipt: Receipt,
    *,
    state: bytes | None = None,
    one_way: OneWay | None = None,
    source: RandomSource | None = None,
    engine: PrivacyEngine | None = None,
) -> RoundResult:
    """Take `plan.steps` private steps on the party's own rows, from the network's weights.

    network: with the global weights (`registry.load`); it moves. codes: (n, union columns),
    ABSENT where the party does not hold the column. one_way: noisy tables by column name
    (ctgan's conditions). state: of the party's round before. engine: of this plan; None: one
    with randomness from `source`. Uses an accelerator where torch sees one. Raises ProtocolError
    unless the receipt paid for the event, the event is what the plan draws, and the steps that
    the engine counted are the event's.
    """
    receipt.check(event)
    if event.mechanism != plan.mechanism():
        raise ProtocolError(f"{event.label!r} was charged for other steps than are taken.")
    import torch

    from twinweave.generators.base import LocalRound
    from twinweave.generators.engine import PrivacyEngine

    engine = engine or PrivacyEngine.of(plan, source)
    weights, held = network.weights, network.layout.held_by(party)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    local = LocalRound(
        codes=codes,
        held=held,
        plan=plan,
        engine=engine,
        one_way=one_way or {},
        state=unpack(state),
    )
    trace, kept = network.train_privately(local)
    if engine.accountant.mechanisms() != (event.mechanism,):
        raise ProtocolError(f"{event.label!r} was charged for other steps than were taken.")
    update = np.where(network.coverage(held), network.weights - weights, np.float32(0))
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
