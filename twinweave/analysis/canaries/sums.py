"""Canaries in what the server opens of a training: sums of updates, once the masks are off.

Each canary's own parameter travels in the update like any other, through the run's secure sum.
The other party of the sum knows its own update and takes it off: with two parties that is what
it can do, and why every update carries its party's full noise.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.canaries.training import TrainedCanaries
from twinweave.analysis.canaries.trial import Trial
from twinweave.protocols.channel.keys import PairKeys
from twinweave.protocols.keystream import KEY_BYTES
from twinweave.protocols.secure_sum.fixed_point import FixedPoint
from twinweave.protocols.secure_sum.interface import SumParty
from twinweave.protocols.secure_sum.kinds import party_end, server_end
from twinweave.protocols.secure_sum.plan import SumPlan
from twinweave.protocols.secure_sum.updates import UPDATE_BOUND
from twinweave.spec import SecureSum

_READER = "reader"


def opened_trial(
    trained: TrainedCanaries, kind: SecureSum, *, delta: float, rng: np.random.Generator
) -> Trial:
    """For an observer of the opened sums of all rounds who knows the other party's updates.

    Adam divides a gradient by its own size, so what the rounds add up to is close to the mean
    noisy gradient, and nearly all that there is to see: half way between what is expected of a
    canary that was put in and of one that was not, the observer changes its mind.
    """
    theirs = [rng.normal(0, 0.1, len(u)).astype(np.float32) for u in trained.updates]
    sums = _opened(trained.party, trained.updates, theirs, kind)
    moved = -np.sum([s - t for s, t in zip(sums, theirs, strict=True)], axis=0)
    plan, steps = trained.plan, trained.plan.steps * trained.rounds
    drift = plan.learning_rate * steps * plan.sampling_rate
    scale = math.hypot(plan.noise_multiplier, plan.sampling_rate)
    return Trial(
        path=f"training: {trained.generator}, the opened sums ({kind})",
        events=(trained.event,),
        delta=delta,
        included=trained.included,
        scores=np.asarray(moved - drift / (2 * scale), dtype=np.float64),
    )


def _opened(
    party: str,
    ours: tuple[NDArray[np.float32], ...],
    theirs: list[NDArray[np.float32]],
    kind: SecureSum,
) -> list[NDArray[np.float64]]:
    """Every round's sum, as the server opens it."""
    reader = f"{_READER} beside {party}"
    plan = SumPlan(
        run="canaries",
        label="training",
        parties=(party, reader),
        rounds=len(ours),
        encoding=FixedPoint.fitting(UPDATE_BOUND, n_parties=2, bits=32),
        colluding=0,
    )
    ends, sums = _agreed(plan, kind), []
    for number, values in enumerate(zip(ours, theirs, strict=True)):
        server = server_end(kind, plan, round_=number, length=len(values[0]))
        for name, own in zip(plan.parties, values, strict=True):
            ends[name], upload = ends[name].protect(own, number)
            server.add(name, upload)
        revealed = {}
        for name, request in server.requests().items():
            ends[name], revealed[name] = ends[name].reveal(request)
        sums.append(server.finish(revealed))
    return sums


def _agreed(plan: SumPlan, kind: SecureSum) -> dict[str, SumParty]:
    """Both parties, once they have dealt to each other."""
    root = os.urandom(KEY_BYTES)
    ends: dict[str, SumParty] = {}
    for own, peer in (plan.parties, plan.parties[::-1]):
        keys = {peer: PairKeys(own=own, peer=peer, run_id=plan.run, root=root)}
        secret = os.urandom(KEY_BYTES)
        ends[own] = party_end(kind, plan=plan, own=own, secret=secret, keys=keys)
    dealt: Mapping[str, Mapping[str, bytes]] = {own: end.deal() for own, end in ends.items()}
    return {
        own: end.accept({peer: given[own] for peer, given in dealt.items() if own in given})
        for own, end in ends.items()
    }
