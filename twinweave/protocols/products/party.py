"""A party's steps of the measurement: share masked matrices, open shares with noise inside."""

from __future__ import annotations

from dataclasses import replace

from twinweave.errors import ProtocolError
from twinweave.privacy.mechanisms import release_table
from twinweave.protocols.alignment.party import Aligned
from twinweave.protocols.alignment.tags import to_table_order
from twinweave.protocols.counting import counted
from twinweave.protocols.party import Finished, Party, Released
from twinweave.protocols.pools.party import across, pooled_tables
from twinweave.protocols.products.kinds import check_sizes, party_end
from twinweave.protocols.products.messages import (
    AgreeReply,
    AgreeRequest,
    OpenReply,
    OpenRequest,
    ShareReply,
    ShareRequest,
)
from twinweave.protocols.products.opening import open_shares
from twinweave.protocols.products.state import AGREE, Agreed, Pass, Shared, hash_of
from twinweave.protocols.ring import Ring
from twinweave.protocols.secure_sum.updates import summing
from twinweave.protocols.wire import exactly
from twinweave.site import Site


def agree(request: AgreeRequest, state: Shared, site: Site) -> tuple[AgreeReply, Agreed]:
    """Accept the tables chosen after a first pass, and tell every other party which they are.

    A server that told two parties different ones could spend what is left of the run's budget
    at each of them. So each seals for the others a message that only the same plan opens.
    """
    party = Party(site, state.aligned.introduced)
    if state.step:
        raise ProtocolError("the tables of this run's last pass are settled. Start a new run.")
    second = party.spec.second(request.plan)
    second.tables.check()
    party.spec.within_reserve(second.tables)
    everyones = [*party.spec.tables.events(), *second.tables.events()]
    party.foresee(second.tables.events(party.name), everyones)
    sealed = {peer: party.seal(peer, AGREE, second.digest, b"") for peer in party.peers}
    return AgreeReply(sealed=sealed), Agreed(shared=state, tables=request.plan)


def share(request: ShareRequest, state: Aligned | Agreed, site: Site) -> tuple[ShareReply, Shared]:
    """Masked matrices for the peers; the own tables with their noise, charged first."""
    here = _begin(request, state, site)
    party, end = here.party, party_end(here)
    check_sizes(here.spec, here.state.n_slots)
    end.check_share()
    given = {peer: blob for peer in here.peers if (blob := end.given(peer)) is not None}
    local, pooled = here.spec.tables.local(party.name), here.spec.tables.pooled(party.name)
    events = [p.event for p in (*local.values(), *pooled.values())]
    receipt = party.charge(here.shared_in, events)
    tables = {
        str(i): release_table(counted(party, p.query.sides[0]), p.event, receipt)
        for i, p in local.items()
    }
    reply = ShareReply(
        sealed={peer: here.seal(peer, here.shared_in, blob) for peer, blob in given.items()},
        tables=tables,
        pooled=pooled_tables(party, here.spec, here.shared_in, receipt),
    )
    sent = {peer: hash_of(blob) for peer, blob in given.items()}
    return reply, replace(here.state, sent=sent)


def _begin(request: ShareRequest, state: Aligned | Agreed, site: Site) -> Pass:
    """The pass that a request opens, checked before anything is charged for it."""
    before = state.shared if isinstance(state, Agreed) else None
    aligned = before.aligned if before else state
    settled = (1, state.tables) if isinstance(state, Agreed) else (0, "")
    if not isinstance(aligned, Aligned) or (request.step, request.plan) != settled:
        raise ProtocolError("the request is of another pass than the run's next. Start a new run.")
    party = Party(site, aligned.introduced)
    exactly(request.agreed, party.peers if before else (), "agreements of the other parties")
    if request.n_slots != sum(party.rows.values()):
        raise ProtocolError("the spine is not the sum of the table sizes. Start a new run.")
    seeds = [*request.seeds.values(), *request.coin_seeds.values()]
    if before:
        seeds += [*before.seeds.values(), *before.coin_seeds.values()]
    if len(set(seeds)) != len(seeds):
        raise ProtocolError("a dealt seed comes twice: two matrices under one mask. Deal anew.")
    shared = Shared(
        aligned=aligned,
        step=request.step,
        tables=request.plan,
        slots=to_table_order(aligned.order, request.slots, n_slots=request.n_slots),
        n_slots=request.n_slots,
        seeds=request.seeds,
        coin_seeds=request.coin_seeds,
        sent={},
    )
    here = Pass(party, shared)
    for peer, blob in request.agreed.items():
        party.unseal(peer, AGREE, here.spec.digest, blob)
    return here


def open_(
    request: OpenRequest, state: Shared, site: Site
) -> tuple[OpenReply, Shared | Released | Finished]:
    """Shares of the cross tables with noise, uniform alone; charged before any noise is drawn."""
    here = Pass(Party(site, state.aligned.introduced), state)
    party = here.party
    end = party_end(here)
    asked = {peer: here.tables(peer) for peer in here.peers if end.opens(peer, request.hop)}
    if request.step != state.step or (request.hop != 1 and not asked):
        raise ProtocolError("the tables to open are of another pass. Start a new run.")
    exactly(request.sealed, asked, "sealed messages of the peers")
    end.check_open(request)
    products = {peer: end.product(peer, request) for peer in asked}
    phase = here.opened_in + (f", hop {request.hop}" if request.hop > 1 else "")
    planned = {i: p for tables in asked.values() for i, p in tables.items()}
    receipt = party.charge(phase, [p.event for p in planned.values()])
    parts: dict[int, list[Ring]] = {i: [] for i in planned}
    for peer, tables in asked.items():
        opened = open_shares(
            here.pair(peer),
            products[peer],
            tables,
            own=party.name,
            secret=here.secret(peer),
            label=here.opened_in,
            receipt=receipt,
        )
        for i, part in opened.items():
            parts[i].append(part)
    shares = {
        str(i): across(party, planned[i], part, receipt) if planned[i].query.is_pooled else part[0]
        for i, part in parts.items()
    }
    sealed = {peer: product.answer for peer, product in products.items() if product.answer}
    last = request.step == int(party.spec.two_passes) and request.hop == 1
    dealt = summing(party).deal() if party.spec.training and last else {}
    reply = OpenReply(shares=shares, sealed=sealed, dealt=dealt)
    over = party.spec.training is None and request.step == int(party.spec.two_passes)
    if over and not any(end.opens(peer, request.hop + 1) for peer in here.peers):
        return reply, party.done()
    return reply, state
