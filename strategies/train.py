"""The server's side of the training: global weights out, protected updates in, their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from strategies.align import Roster
from twinweave.generators.local import coverage
from twinweave.generators.union import UnionLayout
from twinweave.parsing import canonical_json
from twinweave.protocols import messages as m
from twinweave.protocols.secure_sum import (
    Revealed,
    RevealRequest,
    SumServer,
    Upload,
    server_end,
)
from twinweave.spec import RunSpec, TrainingPlan, row_weights
from twinweave.workload.measurement import Measurement

Weights = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Training:
    """The terms of one run's training, from the server's side.

    one_way: noisy one-way tables by column. dealt: sender -> receiver -> sealed shares.
    """

    spec: RunSpec
    roster: Roster
    plan: TrainingPlan
    one_way: Mapping[str, NDArray[np.float64]] = field(repr=False)
    dealt: Mapping[str, Mapping[str, bytes]] = field(repr=False)

    def requests(self, number: int, weights: Weights) -> dict[str, m.TrainRequest]:
        """What to ask each party in round `number` (from 0)."""
        text = canonical_json(self.plan)
        return {
            party: m.TrainRequest(
                run=self.spec.run,
                attempt=0,
                round=number,
                plan=text,
                weights=weights,
                one_way=dict(self.one_way),
                dealt={
                    sender: sealed[party]
                    for sender, sealed in self.dealt.items()
                    if party in sealed
                },
            )
            for party in self.spec.parties
        }

    def close(
        self, number: int, length: int, replies: Mapping[str, m.TrainReply]
    ) -> tuple[SumServer, dict[str, m.RevealSumRequest]]:
        """Add up a round's uploads; what must still be asked to open their sum, by party."""
        assert self.spec.training is not None
        kind = self.spec.training.secure_sum
        server = server_end(kind, self.spec.sums, round_=number, length=length)
        for party, reply in replies.items():
            upload = Upload(words=reply.words, sealed=reply.sealed, secrets=reply.secrets)
            server.add(party, upload)
        asked = {party: self._reveal(number, r) for party, r in server.requests().items()}
        return server, asked

    def _reveal(self, number: int, request: RevealRequest) -> m.RevealSumRequest:
        return m.RevealSumRequest(
            run=self.spec.run,
            attempt=0,
            round=number,
            alive=request.alive,
            words=request.words,
            sealed=request.sealed,
        )

    def step(
        self,
        weights: Weights,
        server: SumServer,
        revealed: Mapping[str, m.RevealSumReply],
        came: Mapping[str, object],
    ) -> Weights:
        """The next global weights: each entry moves by the mean update of those who train it."""
        answers = {
            party: Revealed(words=reply.words, secrets=reply.secrets)
            for party, reply in revealed.items()
        }
        total = server.finish(answers)
        return (weights + total / self._divisor(came)).astype(np.float32)

    def _divisor(self, came: Mapping[str, object]) -> NDArray[np.float64]:
        """Total weight of the parties that train each entry; 1 where nobody does."""
        assert self.spec.training is not None
        layout = UnionLayout.of(self.spec.schema)
        weight = row_weights(self.roster.rows)
        masks = (
            weight[party] * coverage(self.spec.training.generator, layout, party) for party in came
        )
        divisor = np.sum(list(masks), axis=0, dtype=np.float64)
        return np.where(divisor > 0, divisor, 1.0)


def one_way_tables(found: Sequence[Measurement]) -> dict[str, NDArray[np.float64]]:
    """Noisy one-way table of every column, summed over its holders where several have it."""
    tables: dict[str, NDArray[np.float64]] = {}
    for measurement in found:
        query = measurement.query
        if not query.is_cross and len(query.columns) == 1 and query.weight is None:
            name = query.columns[0]
            tables[name] = tables.get(name, 0) + measurement.values
    return tables
