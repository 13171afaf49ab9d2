"""The server's side of share and open: deal randomness, add up shares, end with noisy tables."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from strategies.align import Asking
from twinweave.errors import ProtocolError
from twinweave.parsing import canonical_json
from twinweave.privacy.measurement import Measurement
from twinweave.protocols import messages as m
from twinweave.protocols.cross_tables import (
    DealFirst,
    DealSecond,
    Pair,
    deal,
    deal_coins,
    reconstruct,
)
from twinweave.spec import RunSpec, SecondPlan
from twinweave.tables.query import shape

log = logging.getLogger("twinweave.run")
Deals = dict[tuple[str, str], tuple[Pair, DealFirst, DealSecond]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """measurements: one for each planned table, in order. dealt: for the secure sums to come."""

    measurements: tuple[Measurement, ...] = field(repr=False)
    dealt: dict[str, dict[str, bytes]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Measuring(Asking):
    """One pass through share and open, for the tables of `spec.plan`.

    slots: from the alignment. step: 0, or 1 for the tables chosen after a selection.
    """

    slots: dict[str, NDArray[np.int64]] = field(repr=False)
    step: int = 0

    def run(self) -> Measured:
        deals = {pair: self._deal(*pair) for pair in self.spec.pairs()}
        shared = self._share(deals)
        tables, dealt = self._open(shared, deals)
        for reply in shared.values():
            tables |= {int(i): table.astype(np.float64) for i, table in reply.tables.items()}
        found = tuple(self._measurement(i, tables) for i in range(len(self.spec.plan)))
        return Measured(measurements=found, dealt=dealt)

    def _measurement(self, index: int, tables: dict[int, NDArray[np.float64]]) -> Measurement:
        planned = self.spec.plan[index]
        expected = shape(self.spec.schema, planned.query)
        if index not in tables or tables[index].shape != expected:
            raise ProtocolError(f"table {planned.query.name!r} did not arrive whole.")
        return Measurement(query=planned.query, values=tables[index], variance=planned.variance)

    def _deal(self, first: str, second: str) -> tuple[Pair, DealFirst, DealSecond]:
        pair = self.spec.product(first, second, self.roster.n_slots)
        return pair, *deal(pair, os.urandom(32))

    def _share(self, deals: Deals) -> dict[str, m.ShareReply]:
        plan = canonical_json(SecondPlan(plan=self.spec.plan)) if self.step else ""
        seeds: dict[str, dict[str, bytes]] = {p: {} for p in self.spec.parties}
        for (first, second), (_, for_first, for_second) in deals.items():
            seeds[first][second] = for_first.seed
            seeds[second][first] = for_second.seed
        requests = {
            p: m.ShareRequest(
                run=self.spec.run,
                attempt=0,
                step=self.step,
                plan=plan,
                n_slots=self.roster.n_slots,
                slots=self.slots[p],
                seeds=seeds[p],
            )
            for p in self.spec.parties
        }
        return self.ask("query.share", requests, m.ShareReply)

    def _open(
        self,
        shared: dict[str, m.ShareReply],
        deals: Deals,
    ) -> tuple[dict[int, NDArray[np.float64]], dict[str, dict[str, bytes]]]:
        coins = {pair: self._coins(*pair, deals[pair][0]) for pair in deals}
        requests = {
            p: m.OpenRequest(
                run=self.spec.run,
                attempt=0,
                step=self.step,
                sealed={q: shared[q].sealed[p] for q in self.spec.peers(p)},
                corrections={a: d[2].correction for (a, b), d in deals.items() if b == p},
                coin_seeds={k: v for (a, _), c in coins.items() if a == p for k, v in c[0].items()},
                coin_words={k: v for (_, b), c in coins.items() if b == p for k, v in c[1].items()},
            )
            for p in self.spec.parties
        }
        opened = self.ask("query.open", requests, m.OpenReply)
        tables: dict[int, NDArray[np.float64]] = {}
        for (first, second), (pair, _, _) in deals.items():
            indices = list(self.spec.crossing(first, second))
            sums = reconstruct(
                pair,
                self.spec.openings(first, second),
                [opened[first].shares[str(i)] for i in indices],
                [opened[second].shares[str(i)] for i in indices],
            )
            tables |= dict(zip(indices, sums, strict=True))
        return tables, {party: reply.dealt for party, reply in opened.items()}

    def _coins(
        self, first: str, second: str, pair: Pair
    ) -> tuple[dict[str, bytes], dict[str, NDArray[np.uint8]]]:
        plans = self.spec.openings(first, second)
        named = [str(i) for i, p in self.spec.crossing(first, second).items() if p.coins]
        for_first, for_second = deal_coins(pair, plans, os.urandom(32))
        return (
            dict(zip(named, for_first.seeds, strict=True)),
            dict(zip(named, for_second.words, strict=True)),
        )


def sections(spec: RunSpec) -> Iterator[str]:
    """One line a group of tables, for the log."""
    for party in spec.parties:
        yield f"{len(spec.local(party))} tables at {party}"
    for first, second in spec.pairs():
        yield f"{len(spec.crossing(first, second))} tables across {first} and {second}"
