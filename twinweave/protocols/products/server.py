"""The server's steps of the measurement: deal, relay, add up shares, end with noisy tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.parsing import canonical_json
from twinweave.protocols.alignment.server import Slots
from twinweave.protocols.channel.server import Roster
from twinweave.protocols.keystream import KEY_BYTES
from twinweave.protocols.pools.server import pooled_tables
from twinweave.protocols.products.kinds import ServerEnd, server_end
from twinweave.protocols.products.messages import (
    AgreeReply,
    AgreeRequest,
    OpenReply,
    ShareReply,
    ShareRequest,
    addressed,
)
from twinweave.protocols.products.opening import reconstruct
from twinweave.protocols.products.pair import product_of
from twinweave.protocols.products.state import AGREE, OPEN, SHARE
from twinweave.protocols.steps import Question, Steps
from twinweave.protocols.wire import exactly
from twinweave.spec import RunSpec, SecondPlan
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import cells_of


@dataclass(frozen=True, kw_only=True)
class Measured:
    """measurements: one for each planned table, in order. dealt: for the secure sums to come."""

    measurements: tuple[Measurement, ...] = field(repr=False)
    dealt: dict[str, dict[str, bytes]] = field(repr=False)


def measure(
    spec: RunSpec, roster: Roster, slots: Slots, step: int = 0, *, secret: bytes | None = None
) -> Steps[Measured]:
    """One pass through share and open, for the tables of `spec.plan`.

    step: 0, or 1 for the tables chosen after a first pass. secret: 32 bytes of the server in this
    run, from which all that it deals follows; None: fresh ones. Raises ProtocolError where a table
    does not arrive whole.
    """
    end = server_end(spec, roster.n_slots, step, secret or os.urandom(KEY_BYTES))
    requests = _share_requests(spec, roster, slots, step, end)
    if step:
        asked = AgreeRequest(run=spec.run, plan=canonical_json(SecondPlan(plan=spec.plan)))
        told = dict.fromkeys(spec.parties, asked)
        agreed = yield Question(phase=AGREE, requests=told, reply=AgreeReply)
        given = {party: reply.sealed for party, reply in agreed.items()}
        requests = {
            p: replace(r, agreed=addressed(p, [q for q in spec.parties if q != p], given))
            for p, r in requests.items()
        }
    shared = yield Question(phase=SHARE, requests=requests, reply=ShareReply)
    sealed = {party: reply.sealed for party, reply in shared.items()}
    opened: list[dict[str, OpenReply]] = []
    dealt: dict[str, dict[str, bytes]] = {party: {} for party in spec.parties}
    for hop in range(1, end.hops + 1):
        hop_requests = end.requests(hop, sealed)
        opened.append((yield Question(phase=OPEN, requests=hop_requests, reply=OpenReply)))
        sealed = {party: reply.sealed for party, reply in opened[-1].items()}
        for party, reply in opened[-1].items():
            dealt[party] |= reply.dealt
    shares = {party: _shares(spec, party, opened) for party in spec.parties}
    tables = _added(spec, roster.n_slots, shares)
    tables |= _local(spec, shared)
    tables |= pooled_tables(spec, {p: r.pooled for p, r in shared.items()}, shares)
    found = tuple(
        Measurement(query=planned.query, values=tables[i], variance=planned.variance)
        for i, planned in enumerate(spec.plan)
    )
    return Measured(measurements=found, dealt=dealt)


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
            coin_seeds=end.coin_seeds(p),
        )
        for p in spec.parties
    }


def _local(spec: RunSpec, shared: Mapping[str, ShareReply]) -> dict[int, NDArray[np.float64]]:
    """Each party's own noisy tables. Raises ProtocolError for any but those, in their shapes."""
    tables: dict[int, NDArray[np.float64]] = {}
    for party, reply in shared.items():
        asked = spec.tables.local(party)
        exactly(reply.tables, map(str, asked), f"own tables of {party!r}")
        for i, planned in asked.items():
            table, cells = reply.tables[str(i)], cells_of(spec.schema, planned.query)
            if table.shape != cells.shape or table.dtype != np.int64:
                raise ProtocolError(f"a table of {party!r} did not arrive whole. Start a new run.")
            tables[i] = table.astype(np.float64)
    return tables


def _shares(
    spec: RunSpec, party: str, opened: Sequence[Mapping[str, OpenReply]]
) -> dict[int, NDArray[Any]]:
    """A party's shares of its tables across, from every hop. Raises ProtocolError for others."""
    found = [item for hop in opened if party in hop for item in hop[party].shares.items()]
    asked = {i for peer in spec.tables.peers(party) for i in spec.tables.crossing(party, peer)}
    exactly(dict(found), map(str, asked), f"shares of {party!r}")
    if len(found) != len(asked):
        raise ProtocolError(f"{party!r} opened a table twice. Start a new run.")
    return {int(i): share for i, share in found}


def _added(
    spec: RunSpec, n_slots: int, shares: Mapping[str, Mapping[int, NDArray[Any]]]
) -> dict[int, NDArray[np.float64]]:
    """Noisy cross tables by index in the plan: the sums of two parties' shares."""
    tables: dict[int, NDArray[np.float64]] = {}
    for first, second in spec.tables.pairs():
        asked = {
            i: p for i, p in spec.tables.crossing(first, second).items() if not p.query.is_pooled
        }
        pair = product_of(spec, first, second, n_slots)
        tables |= reconstruct(pair, asked, shares[first], shares[second])
    return tables


def sections(spec: RunSpec) -> Iterator[str]:
    """One line a group of tables, for the log."""
    counted = Counter(tuple(sorted(s.label for s in p.query.sides)) for p in spec.plan)
    for names in sorted(counted, key=len):
        where = f"at {names[0]}" if len(names) == 1 else "across " + " and ".join(names)
        yield f"{counted[names]} table{'s' * (counted[names] != 1)} {where}"
