"""A party's answers while the generator is trained: private steps, and a protected update.

What leaves is a DP-SGD update (private by itself, at this party's full noise) inside a secure
sum. Discriminator, optimiser and training loss stay here.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from clients.charging import charge, check, within_budget
from clients.party import Party, Session
from twinweave.errors import ProtocolError
from twinweave.generators.local import train_round
from twinweave.generators.union import ABSENT, UnionLayout
from twinweave.parsing import parse
from twinweave.protocols.messages import (
    RevealSumReply,
    RevealSumRequest,
    TrainReply,
    TrainRequest,
)
from twinweave.protocols.secure_sum import RevealRequest, SumParty
from twinweave.spec import TrainingPlan, row_weights

TRAIN = "train.generator"
log = logging.getLogger("twinweave.party")


def train(request: TrainRequest, party: Party) -> tuple[TrainReply, Session]:
    """Take this round's private steps, charged first; protect the update."""
    training = party.spec.training
    if training is None:
        raise ProtocolError("the run specification has no training. Start a new run.")
    plan = parse(TrainingPlan, json.loads(request.plan), where="training plan")
    if request.round == 0:
        _check(party, plan)
    charge(party, f"{TRAIN}/{request.round}", [plan.event(party.name, rounds=1)])
    import torch

    torch.set_num_threads(1)  # small matrices; and the parties of a simulation share the cores
    result = train_round(
        training.generator,
        UnionLayout.of(party.spec.schema),
        party.name,
        request.weights,
        union_codes(party),
        plan.parties[party.name],
        state=party.session.model or None,
        one_way=request.one_way,
    )
    log.debug("round %d: mean loss %.4f", request.round, result.trace.loss)
    summing = party.summing.accept(request.dealt)
    weight = row_weights(party.session.rows)[party.name]
    summing, upload = summing.protect(result.update * np.float32(weight), request.round)
    session = replace(_remember(party.session, summing), model=result.state)
    return TrainReply(words=upload.words, sealed=upload.sealed, secrets=upload.secrets), session


def reveal(request: RevealSumRequest, party: Party) -> tuple[RevealSumReply, Session]:
    """Help to open a round's sum, or refuse."""
    asked = RevealRequest(
        round=request.round, alive=request.alive, words=request.words, sealed=request.sealed
    )
    summing, revealed = party.summing.reveal(asked)
    reply = RevealSumReply(words=revealed.words, secrets=revealed.secrets)
    return reply, _remember(party.session, summing)


def _remember(session: Session, summing: SumParty) -> Session:
    progress = summing.progress
    return replace(session, sum_shares=progress.shares, sum_rounds=progress.rounds)


def _check(party: Party, plan: TrainingPlan) -> None:
    """The plan is what the specification says, and with everything else stays in its budget."""
    training = party.spec.training
    assert training is not None
    if sorted(plan.parties) != sorted(party.spec.parties):
        raise ProtocolError("the training plan is of other parties. Start a new run.")
    for name, own in plan.parties.items():
        wanted = type(own).of(
            training.generator,
            rows=party.session.rows[name],
            noise_multiplier=own.noise_multiplier,
        )
        if asdict(wanted) != asdict(own):
            raise ProtocolError(
                f"the training plan of {name!r} is not the specification's. Start a new run."
            )
    rounds = training.generator.rounds
    for unit in party.spec.schema.units:
        if len({plan.parties[name].noise_multiplier for name in unit}) > 1:
            raise ProtocolError("the members of a pool train with one noise. Start a new run.")
    within_budget(party, [*party.events, *plan.events(party.spec.schema.units, rounds)])
    check(party, [plan.event(party.name, rounds)])


def union_codes(party: Party) -> NDArray[np.int32]:
    """The party's rows over the union's columns: int32 (rows, columns), ABSENT where not held."""
    schema = party.spec.schema
    table = party.table
    own = party.site.schema.names
    codes = np.full((len(table.ids), len(schema.names)), ABSENT, dtype=np.int32)
    for j, name in enumerate(schema.names):
        if name in own:
            codes[:, j] = table.codes[:, own.index(name)]
    return codes
