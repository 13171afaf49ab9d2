"""The server's steps of the measurement: deal, relay, add up shares, end with noisy tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.parsing import canonical_json
from twinweave.protocols.alignment.server import Slots
from twinweave.protocols.channel.server import Roster
from twinweave.protocols.pools.server import pooled_tables
from twinweave.protocols.products.kinds import ServerEnd, server_end
from twinweave.protocols.products.messages import OpenReply, ShareReply, ShareRequest
from twinweave.protocols.products.opening import reconstruct
from twinweave.protocols.products.pair import product_of
from twinweave.protocols.products.state import OPEN, SHARE
from twinweave.protocols.steps import Question, Steps
from twinweave.spec import RunSpec, SecondPlan
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import cells_of


@dataclass(frozen=True, kw_only=True)
class Measured:
    """measurements: one for each planned table, in order. dealt: for the secure sums to come."""

    measurements: tuple[Measurement, ...] = field(repr=False)
    dealt: dict[str, dict[str, bytes]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What the parties' replies to every hop hold together, by party."""

    shares: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict, repr=False)
    dealt: dict[str, dict[str, bytes]] = field(default_factory=dict, repr=False)

    def add(self, replies: Mapping[str, OpenReply]) -> None:
        for party, reply in replies.items():
            self.shares.setdefault(party, {}).update(reply.shares)
            self.dealt.setdefault(party, {}).update(reply.dealt)

    def of(self, party: str, index: int) -> NDArray[Any]:
        """A party's share of a table. Raises ProtocolError where it did not come."""
        if str(index) not in self.shares.get(party, {}):
            raise ProtocolError(f"a share of {party!r} did not arrive. Start a new run.")
        return self.shares[party][str(index)]


def measure(spec: RunSpec, roster: Roster, slots: Slots, step: int = 0) -> Steps[Measured]:
    """One pass through share and open, for the tables of `spec.plan`.

    step: 0, or 1 for the tables chosen after a selection. Raises ProtocolError where a table
    does not arrive whole.
    """
    end = server_end(spec, roster.n_slots, step)
    requests = _share_requests(spec, roster, slots, step, end)
    shared = yield Question(phase=SHARE, requests=requests, reply=ShareReply)
    collected, sealed = Collected(), {party: reply.sealed for party, reply in shared.items()}
    for hop in range(1, end.hops + 1):
        asked = end.requests(hop, sealed)
        replies = yield Question(phase=OPEN, requests=asked, reply=OpenReply)
        collected.add(replies)
        sealed = {party: reply.sealed for party, reply in replies.items()}
    tables = _added(spec, roster.n_slots, collected)
    tables |= _local(spec, shared)
    tables |= pooled_tables(spec, {p: r.pooled for p, r in shared.items()}, collected.of)
    found = tuple(_measurement(spec, i, tables) for i in range(len(spec.plan)))
    return Measured(measurements=found, dealt=collected.dealt)


def _share_requests(
    spec: RunSpec, roster: Roster, slots: Slots, step: int, end: ServerEnd
) -> dict[str, ShareRequest]:
    plan = canonical_json(SecondPlan(plan=spec.plan)) if step else ""
    return {
        p: ShareRequest(
            run=spec.run,
            step=step,
            plan=plan,
            n_slots=roster.n_slots,
            slots=slots[p],
            seeds=end.seeds(p),
        )
        for p in spec.parties
    }


def _local(spec: RunSpec, shared: Mapping[str, ShareReply]) -> dict[int, NDArray[np.float64]]:
    """Each party's own noisy tables: those that are its own to answer, and no other."""
    tables: dict[int, NDArray[np.float64]] = {}
    for party, reply in shared.items():
        if set(reply.tables) != {str(i) for i in spec.tables.local(party)}:
            raise ProtocolError(f"{party!r} answered other tables than its own. Start a new run.")
        tables |= {int(i): table.astype(np.float64) for i, table in reply.tables.items()}
    return tables


def _added(spec: RunSpec, n_slots: int, collected: Collected) -> dict[int, NDArray[np.float64]]:
    """Noisy cross tables by index in the plan: the sums of two parties' shares."""
    tables: dict[int, NDArray[np.float64]] = {}
    for pair in spec.tables.pairs():
        asked = {i: p for i, p in spec.tables.crossing(*pair).items() if not p.query.is_pooled}
        shares = ({i: collected.of(party, i) for i in asked} for party in pair)
        tables |= reconstruct(product_of(spec, *pair, n_slots), asked, *shares)
    return tables


def _measurement(
    spec: RunSpec, index: int, tables: Mapping[int, NDArray[np.float64]]
) -> Measurement:
    planned = spec.plan[index]
    if index not in tables or tables[index].shape != cells_of(spec.schema, planned.query).shape:
        raise ProtocolError(f"table {planned.query.name!r} did not arrive whole.")
    return Measurement(query=planned.query, values=tables[index], variance=planned.variance)


def sections(spec: RunSpec) -> Iterator[str]:
    """One line a group of tables, for the log."""
    counted = Counter(tuple(sorted(s.label for s in p.query.sides)) for p in spec.plan)
    for names in sorted(counted, key=len):
        where = f"at {names[0]}" if len(names) == 1 else "across " + " and ".join(names)
        yield f"{counted[names]} tables {where}"
