"""A training of its own for canaries, by the real rounds of the run's generator.

Planned as the run plans its training, for all of the run's (epsilon, delta): its clip, steps,
sampling rate and network, on rows drawn at random from the public schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.canaries.trial import Trial, drawn
from twinweave.config import RunConf
from twinweave.generators import registry
from twinweave.generators.plan import SgdPlan
from twinweave.generators.rounds import train_round
from twinweave.generators.union import OneWay, UnionLayout
from twinweave.privacy.allocation import SgdItem, calibrate
from twinweave.privacy.events import Event, PoissonSgd, Stage
from twinweave.privacy.guard import Receipt
from twinweave.protocols.training.plan import TrainingPlan
from twinweave.tables.contingency import ABSENT

ORDINARY = 8
"""Rows beside the canaries: few, since all rows of their batches go through the network."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedCanaries:
    """included: (canaries,). evidence: (observers, canaries). plan: of each round. updates:
    (canaries,) of each round, as the party would send them; none of a generator that canaries are
    no part of."""

    party: str
    plan: SgdPlan
    rounds: int
    generator: str
    included: NDArray[np.bool_] = field(repr=False)
    evidence: NDArray[np.float64] = field(repr=False)
    updates: tuple[NDArray[np.float32], ...] = field(repr=False)

    @property
    def event(self) -> Event:
        """What the ledger says of all rounds together."""
        return TrainingPlan(parties={self.party: self.plan}).event(self.party, self.rounds)

    def trial(self, delta: float) -> Trial:
        """For an observer of every noisy gradient, which is what is charged for."""
        return Trial(
            path=f"training: {self.generator}, every noisy gradient",
            events=(self.event,),
            delta=delta,
            included=self.included,
            scores=self.evidence,
        )


def train_canaries(
    conf: RunConf, rows: Mapping[str, int], *, canaries: int, rng: np.random.Generator
) -> TrainedCanaries:
    """Rounds of the run's generator at the party where they cost most. rows: table sizes."""
    from twinweave.analysis.canaries.gradients import Evidence, WatchedEngine
    from twinweave.generators.canaries import OWN, Canaries

    assert conf.generator is not None
    party, plan = _planned(conf, rows)
    layout, included = UnionLayout.of(conf.data.schema), drawn(canaries, rng)
    codes = _rows(layout, party, included, rng)
    event = TrainingPlan(parties={party: plan}).event(party, rounds=1)
    evidence = Evidence(cast("PoissonSgd", event.mechanism), canaries)  # as noise was planned
    updates, state = [], None
    weights: NDArray[np.float32] | None = None
    for number in range(conf.generator.rounds):
        plain = registry.build(conf.generator, layout)
        network = plain.with_canaries(Canaries(canaries, plan.clip))
        network.weights = network.weights if weights is None else weights
        done = train_round(
            network,
            party,
            codes,
            plan,
            event,
            _receipt(event, number),
            state=state,
            one_way=_uniform(layout),
            engine=WatchedEngine.watching(plan, evidence),
        )
        state, weights = done.state, network.weights
        *_, (last, _) = network.shared_parameters()
        if last == OWN:
            updates.append(done.update[-canaries - 1 : -1])
    return TrainedCanaries(
        party=party,
        plan=plan,
        rounds=conf.generator.rounds,
        generator=conf.generator.kind,
        included=included,
        evidence=evidence.scores,
        updates=tuple(updates),
    )


def _planned(conf: RunConf, rows: Mapping[str, int]) -> tuple[str, SgdPlan]:
    """The party whose rows are sampled most often, and its steps of a round for the whole
    (epsilon, delta)."""
    assert conf.generator is not None
    party = min(rows, key=lambda p: rows[p])
    plan = SgdPlan.of(conf.generator, rows=rows[party], noise_multiplier=1.0)
    item = SgdItem(party=party, sampling_rate=plan.sampling_rate, steps=conf.generator.steps)
    noise = calibrate(
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        shares={Stage.TRAINING: 1.0},
        priority_share=conf.privacy.priority_share,
        items=[],
        sgd=[item],
    ).training[0]
    return party, replace(plan, noise_multiplier=noise)


def _rows(
    layout: UnionLayout, party: str, included: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int32]:
    """A row for each canary that was put in, and ORDINARY others; the last column says whose."""
    put_in = np.flatnonzero(included)
    whose = np.append(put_in, np.full(ORDINARY, len(included)))
    codes = rng.integers(0, layout.sizes, (len(whose), len(layout.sizes)))
    codes = np.where(layout.held_by(party), codes, ABSENT)
    return np.column_stack([codes, whose]).astype(np.int32)


def _uniform(layout: UnionLayout) -> OneWay:
    return {n: np.ones(s) for n, s in zip(layout.names, layout.sizes, strict=True)}


def _receipt(event: Event, number: int) -> Receipt:
    """Of made-up rows, no guard is asked."""
    return Receipt(
        run="canaries",
        phase=f"train.generator/{number}",
        request_hash="",
        events=(event,),
        epsilon=0.0,
        fresh=True,
        guarded=False,
    )
