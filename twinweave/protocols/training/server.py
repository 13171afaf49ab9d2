"""The server's steps of the training: global weights out, protected updates in, their sum."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import DivergedError
from twinweave.generators.registry import coverage
from twinweave.generators.union import UnionLayout
from twinweave.parsing import canonical_json
from twinweave.protocols.channel.server import Roster
from twinweave.protocols.secure_sum.interface import Revealed, Upload
from twinweave.protocols.secure_sum.kinds import SumServer, server_end
from twinweave.protocols.secure_sum.plan import SumPlan
from twinweave.protocols.secure_sum.updates import sums_of
from twinweave.protocols.training.messages import RevealSumRequest, TrainRequest
from twinweave.protocols.training.plan import DIVERGED, TrainingPlan, row_weights
from twinweave.spec import RunSpec

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

    @cached_property
    def sums(self) -> SumPlan:
        return sums_of(self.spec)

    @property
    def rounds(self) -> int:
        return self.spec.trained.generator.rounds

    def requests(self, number: int, weights: Weights) -> dict[str, TrainRequest]:
        """What to ask each party in round `number` (from 0)."""
        text = canonical_json(self.plan)
        return {
            party: TrainRequest(
                run=self.spec.run,
                round=number,
                plan=text,
                weights=weights,
                one_way=dict(self.one_way),
                dealt={s: sealed[party] for s, sealed in self.dealt.items() if party in sealed},
            )
            for party in self.spec.parties
        }

    def close(
        self, number: int, length: int, uploads: Mapping[str, Upload]
    ) -> tuple[SumServer, dict[str, RevealSumRequest]]:
        """Add up a round's uploads; what must still be asked to open their sum, by party."""
        kind = self.spec.trained.secure_sum
        server = server_end(kind, self.sums, round_=number, length=length)
        for party, upload in uploads.items():
            server.add(party, upload)
        asked = {
            party: RevealSumRequest(run=self.spec.run, **vars(request))
            for party, request in server.requests().items()
        }
        return server, asked

    def step(
        self, weights: Weights, server: SumServer, revealed: Mapping[str, Revealed], came: Set[str]
    ) -> Weights:
        """The next global weights: each entry moves by the mean update of those who train it.

        Raises DivergedError where they are no numbers.
        """
        total = server.finish(revealed)
        moved: Weights = (weights + total / self._divisor(came)).astype(np.float32)
        if not np.isfinite(moved).all():
            raise DivergedError(DIVERGED)
        return moved

    @cached_property
    def _covered(self) -> dict[str, NDArray[np.bool_]]:
        """The same in every round."""
        return coverage(self.spec.trained.generator, UnionLayout.of(self.spec.schema))

    def _divisor(self, came: Set[str]) -> NDArray[np.float64]:
        """Total weight of the parties that train each entry; 1 where nobody does."""
        weight = row_weights(self.roster.rows)
        masks = [weight[party] * self._covered[party] for party in sorted(came)]
        divisor = np.sum(masks, axis=0, dtype=np.float64)
        return np.where(divisor > 0, divisor, 1.0)
