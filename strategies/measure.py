"""The server's side of share and open: deal randomness, add up shares, end with noisy tables."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategies.align import Asking
from strategies.crossing import Crossing, Opened, Sealed, crossing
from twinweave.errors import ProtocolError
from twinweave.parsing import canonical_json
from twinweave.protocols import messages as m
from twinweave.protocols.pools.pooled import add_up
from twinweave.protocols.products.cross_tables import reconstruct
from twinweave.spec import RunSpec, SecondPlan
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import shape

log = logging.getLogger("twinweave.run")


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
        end = crossing(self.spec, self.roster.n_slots, self.step)
        shared = self._share(end)
        opened = self._open(end, {party: reply.sealed for party, reply in shared.items()})
        tables = self._added(opened)
        for reply in shared.values():
            tables |= {int(i): table.astype(np.float64) for i, table in reply.tables.items()}
        tables |= self._pooled(shared, opened)
        found = tuple(self._measurement(i, tables) for i in range(len(self.spec.plan)))
        return Measured(measurements=found, dealt=opened.dealt)

    def _measurement(self, index: int, tables: dict[int, NDArray[np.float64]]) -> Measurement:
        planned = self.spec.plan[index]
        expected = shape(self.spec.schema, planned.query)
        if index not in tables or tables[index].shape != expected:
            raise ProtocolError(f"table {planned.query.name!r} did not arrive whole.")
        return Measurement(query=planned.query, values=tables[index], variance=planned.variance)

    def _share(self, end: Crossing) -> dict[str, m.ShareReply]:
        plan = canonical_json(SecondPlan(plan=self.spec.plan)) if self.step else ""
        requests = {
            p: m.ShareRequest(
                run=self.spec.run,
                attempt=0,
                step=self.step,
                plan=plan,
                n_slots=self.roster.n_slots,
                slots=self.slots[p],
                seeds=end.seeds(p),
            )
            for p in self.spec.parties
        }
        return self.ask("query.share", requests, m.ShareReply)

    def _open(self, end: Crossing, sealed: Sealed) -> Opened:
        opened = Opened()
        for hop in range(1, end.hops + 1):
            replies = self.ask("query.open", end.requests(hop, sealed), m.OpenReply)
            opened.add(replies)
            sealed = {party: reply.sealed for party, reply in replies.items()}
        return opened

    def _added(self, opened: Opened) -> dict[int, NDArray[np.float64]]:
        """Noisy cross tables by index in the plan: the sums of the parties' shares."""
        tables: dict[int, NDArray[np.float64]] = {}
        for first, second in self.spec.pairs():
            here = self.spec.crossing(first, second)
            indices = [i for i, planned in here.items() if not planned.query.is_pooled]
            terms = zip(here, self.spec.openings(first, second), strict=True)
            sums = reconstruct(
                self.spec.product(first, second, self.roster.n_slots),
                [opening for i, opening in terms if i in indices],
                [opened.of(first, i) for i in indices],
                [opened.of(second, i) for i in indices],
            )
            tables |= dict(zip(indices, sums, strict=True))
        return tables

    def _pooled(
        self, shared: Mapping[str, m.ShareReply], opened: Opened
    ) -> dict[int, NDArray[np.float64]]:
        """Noisy tables of pools by index in the plan: the sums of all their parties' parts."""
        tables: dict[int, NDArray[np.float64]] = {}
        for i, planned in enumerate(self.spec.plan):
            query = planned.query
            if not query.is_pooled:
                continue
            if query.is_cross:
                parts = [opened.of(party, i) for party in query.parties]
            else:
                parts = [_part(shared[party], party, i) for party in query.parties]
            values = add_up(parts).astype(np.float64).ravel()
            sizes = shape(self.spec.schema, query)
            absent = query.is_cross and query.weight is None  # [absent, absent]: not opened
            if values.size + absent != prod(sizes):
                raise ProtocolError(f"table {query.name!r} did not arrive whole.")
            tables[i] = np.append(values, [0.0] * absent).reshape(sizes)
        return tables


def _part(reply: m.ShareReply, party: str, index: int) -> NDArray[Any]:
    if str(index) not in reply.pooled:
        raise ProtocolError(f"{party!r} sent no part of a pooled table. Start a new run.")
    return reply.pooled[str(index)]


def sections(spec: RunSpec) -> Iterator[str]:
    """One line a group of tables, for the log."""
    counted = Counter(tuple(sorted(s.label for s in p.query.sides)) for p in spec.plan)
    for names in sorted(counted, key=len):
        where = f"at {names[0]}" if len(names) == 1 else "across " + " and ".join(names)
        yield f"{counted[names]} tables {where}"
