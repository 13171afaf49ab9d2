"""A party's steps of the training: private steps on its own rows, and a protected update.

What leaves is a DP-SGD update (private by itself, at this party's full noise) inside a secure
sum. Discriminator, optimiser and training loss stay here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import DivergedError, ProtocolError
from twinweave.generators.rounds import train_round
from twinweave.generators.union import UnionLayout
from twinweave.protocols.party import Finished, Party, Released
from twinweave.protocols.products.state import Shared
from twinweave.protocols.secure_sum.interface import Progress, Revealed, Upload
from twinweave.protocols.secure_sum.updates import summing
from twinweave.protocols.training.messages import RevealSumRequest, TrainRequest
from twinweave.protocols.training.plan import DIVERGED, TrainingPlan, row_weights, terms_of
from twinweave.site import Site
from twinweave.tables.contingency import ABSENT

if TYPE_CHECKING:
    from twinweave.generators.base import Generator

TRAIN, REVEAL = "train.generator", "train.reveal"
log = logging.getLogger("twinweave.party")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A party that has taken a round's private steps. round: the last one, from 0.

    model: private state of the training (discriminator, optimiser). sums: what the secure sums
    need.
    """

    shared: Shared
    round: int
    model: bytes = field(repr=False)
    sums: Progress


def train(
    request: TrainRequest, state: Shared | Trained, site: Site
) -> tuple[Upload, Trained | Released | Finished]:
    """Take this round's private steps, charged first; protect the update.

    A round that is charged for ends with an update, whatever the rows are; but for one out of
    the range of the sum, which is private as it is and so charged for.
    """
    earlier = state if isinstance(state, Trained) else None
    shared = state.shared if isinstance(state, Trained) else state
    party = Party(site, shared.aligned.introduced)
    plan = _accepted(request, party, earlier)
    network = _network(request, party)
    summed = summing(party, earlier.sums if earlier else None).accept(request.dealt)
    codes = union_codes(party)
    event = plan.event(party.name, rounds=1)
    receipt = party.charge(f"{TRAIN}/{request.round}", [event])
    result = train_round(
        network,
        party.name,
        codes,
        plan.parties[party.name],
        event,
        receipt,
        state=earlier.model if earlier else None,
        one_way=request.one_way,
    )
    log.debug("round %d: mean loss %.4f", request.round, result.trace.loss)
    weight = row_weights(party.rows)[party.name]
    terms = terms_of(party.rows, request.plan, request.weights, request.one_way)
    update = result.update * np.float32(weight)
    if not np.abs(update).max(initial=0) <= summed.plan.encoding.limit:  # so that a NaN fails it
        raise DivergedError(DIVERGED)
    summed, upload = summed.protect(update, request.round, terms)
    if request.round + 1 == party.spec.trained.generator.rounds and summed.needs_no_request:
        return upload, party.done()
    return upload, Trained(
        shared=shared,
        round=request.round,
        model=result.state,
        sums=summed.progress,
    )


def reveal(
    request: RevealSumRequest, state: Trained, site: Site
) -> tuple[Revealed, Trained | Released | Finished]:
    """Help to open the last round's sum, or refuse."""
    if request.round != state.round:
        raise ProtocolError("the sum to open is of another round. Start a new run.")
    party = Party(site, state.shared.aligned.introduced)
    summed, revealed = summing(party, state.sums).reveal(request)
    if request.round + 1 == party.spec.trained.generator.rounds:
        return revealed, party.done()
    return revealed, replace(state, sums=summed.progress)


def _accepted(request: TrainRequest, party: Party, earlier: Trained | None) -> TrainingPlan:
    """The plan of the request. Raises ProtocolError unless the round is the next, and the plan
    the one that was accepted before anything was released; as setup does where the run trains
    without noise and the site agrees no more."""
    party.site.check_unsafe(party.spec.unsafe)
    rounds = party.spec.trained.generator.rounds
    if request.round != (earlier.round + 1 if earlier else 0) or request.round >= rounds:
        raise ProtocolError("the round is not the run's next. Start a new run.")
    if request.plan != party.state.training:
        raise ProtocolError("the training plan is not the accepted one. Start a new run.")
    return TrainingPlan.loads(request.plan)


def _network(request: TrainRequest, party: Party) -> Generator:
    """The generator as the round begins. Raises ProtocolError or ConfigError where the numbers
    of the request are not those of this network and these columns."""
    import torch

    from twinweave.generators import registry

    layout = UnionLayout.of(party.spec.schema)
    if request.weights.dtype != np.float32:
        raise ProtocolError("weights are float32. Start a new run.")
    numbers: list[NDArray[np.floating[Any]]] = [request.weights]
    for name, table in request.one_way.items():
        if name not in layout.size or table.shape != (layout.size[name],):
            raise ProtocolError("a one-way table is of no column of the run. Start a new run.")
        numbers.append(table)
    if any(n.dtype.kind != "f" or not np.isfinite(n).all() for n in numbers):
        raise ProtocolError("weights and one-way tables are finite numbers. Start a new run.")
    generator = party.site.placed(party.spec.trained.generator)
    torch.set_num_threads(generator.threads)
    return registry.load(generator, layout, request.weights)


def union_codes(party: Party) -> NDArray[np.int32]:
    """The party's rows over the union's columns: int32 (rows, columns), ABSENT where not held."""
    names, own = party.spec.schema.names, party.site.schema.names
    codes = np.full((len(party.table), len(names)), ABSENT, dtype=np.int32)
    for j, name in enumerate(names):
        if name in own:
            codes[:, j] = party.table.codes[:, own.index(name)]
    return codes
