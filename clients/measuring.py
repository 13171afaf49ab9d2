"""A party's answers in the measurement phases: setup, blind, match, share, open.

Each is a function of (request, party) to (reply, session to remember). What leaves is either
sealed for a peer, blinded by every party, or carries noise that the guard has been charged for.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clients.charging import charge, foresee
from clients.counting import exact_table
from clients.crossing import OPEN, SHARE, check_installed, crossing, in_pass
from clients.party import Party, Session, read_table
from clients.pooling import across, own_tables
from clients.sealing import seal, unseal
from clients.site import Site
from twinweave.errors import ProtocolError, SchemaError
from twinweave.parsing import canonical_json
from twinweave.privacy.mechanisms import release_table
from twinweave.protocols.alignment import tags as aligning
from twinweave.protocols.channel import keys as channel
from twinweave.protocols.channel.hellos import dump_hello
from twinweave.protocols.messages import (
    BlindReply,
    BlindRequest,
    MatchReply,
    MatchRequest,
    OpenReply,
    OpenRequest,
    SetupReply,
    SetupRequest,
    ShareReply,
    ShareRequest,
)
from twinweave.protocols.ring import Ring
from twinweave.spec import RunSpec

BLIND, MATCH = "query.blind", "query.match"


def setup(request: SetupRequest, site: Site | None) -> tuple[SetupReply, Session | None]:
    """Check the specification against the own schema and table; announce a signed key.

    site None: a spare node of a simulation, which plays no party.
    """
    from twinweave.tables.encoding import contents, fingerprint

    if site is None:
        return SetupReply(party="", rows=0, spec_hash="", hello="", guard="off"), None

    spec = RunSpec.loads(request.spec)
    if spec.run != request.run:
        raise ProtocolError("the specification is of another run. Start a new run.")
    _check_schema(spec, site)
    check_installed(spec)
    table = read_table(site, spec.run)
    session = Session(
        run=request.run,
        spec=spec.dumps(),
        secret=os.urandom(32),
        fingerprint=fingerprint(table),
        contents=contents(table),
    )
    party = Party(site, session)
    foresee(party)
    reply = SetupReply(
        party=site.party,
        rows=len(table.ids),
        spec_hash=spec.digest,
        hello=dump_hello(party.hello),
        guard=site.guard.mode,
    )
    return reply, session


def _check_schema(spec: RunSpec, site: Site) -> None:
    proposed = spec.schema.schema(site.party)
    if canonical_json(proposed) == canonical_json(site.schema):
        return
    for mine in site.schema.columns:
        if mine.name not in {c.name for c in proposed.columns}:
            raise SchemaError(f"column {mine.name!r}: not in the run's schema. Agree on one.")
        if mine != proposed.column(mine.name):
            raise SchemaError(
                f"column {mine.name!r}: the run's schema and this party's own disagree. "
                "Agree on levels, bounds, bins and rules."
            )
    raise SchemaError("the run's schema and this party's own differ in columns. Agree on one.")


def blind(request: BlindRequest, party: Party) -> tuple[BlindReply, Session]:
    """Own tags, blinded once, sealed for the next party (or, for prf, the key they share)."""
    session = replace(party.session, hellos=request.hellos, rows=request.rows)
    party = Party(party.site, session)
    parties = party.spec.parties
    for peer in parties:
        if peer != party.name:
            party.keys(peer)  # every peer is who the pins say, or nothing goes on
    if party.spec.alignment == "prf":
        return BlindReply(sealed=_group_key(party) if party.name == parties[0] else {}), session
    method = aligning.Ristretto(run_id=session.run)
    state, tags = method.start(party.table.ids, session.secret)
    onward = method.path(party.name, parties)[0]
    sealed = {party.name: seal(party, onward, BLIND, party.name, tags)}
    return BlindReply(sealed=sealed), replace(session, order=state.order)


def _group_key(party: Party) -> dict[str, bytes]:
    key = channel.make_group_key(party.session.secret, party.session.run)
    return {
        peer: channel.seal_group_key(key, phase=BLIND, receiver=peer, keys=party.keys(peer))
        for peer in party.spec.parties
        if peer != party.name
    }


def match(request: MatchRequest, party: Party) -> tuple[MatchReply, Session]:
    """Blind the tags that arrive once more, and hand them on; the last hop's go to the server."""
    if party.spec.alignment == "prf":
        return _match_prf(request, party)
    parties = party.spec.parties
    method = aligning.Ristretto(run_id=party.session.run)
    sealed: dict[str, bytes] = {}
    tags: dict[str, NDArray[np.uint8]] = {}
    for owner, blob in request.sealed.items():
        path = method.path(owner, parties)
        if not 0 < request.hop <= len(path) or path[request.hop - 1] != party.name:
            raise ProtocolError(f"the tags of {owner!r} are not this party's to blind now.")
        sender = path[request.hop - 2] if request.hop > 1 else owner
        phase = BLIND if request.hop == 1 else MATCH
        arrived = np.frombuffer(unseal(party, sender, phase, owner, blob), np.uint8)
        if arrived.size != party.session.rows.get(owner, 0) * method.tag_bytes:
            raise ProtocolError(f"the tags of {owner!r} do not match its announced size.")
        doubled = method.hop(arrived.reshape(-1, method.tag_bytes), party.session.secret)
        if request.hop == len(path):
            tags[owner] = doubled
        else:
            sealed[owner] = seal(party, path[request.hop], MATCH, owner, doubled)
    return MatchReply(sealed=sealed, tags=tags), party.session


def _match_prf(request: MatchRequest, party: Party) -> tuple[MatchReply, Session]:
    first = party.spec.parties[0]
    if party.name == first:
        key = channel.make_group_key(party.session.secret, party.session.run)
    elif party.name not in request.sealed:
        raise ProtocolError("the key for the tags did not arrive. Start a new run.")
    else:
        key = channel.open_group_key(
            request.sealed[party.name], phase=BLIND, sender=first, keys=party.keys(first)
        )
    method = aligning.Prf(run_id=party.session.run, key=key)
    state, tags = method.start(party.table.ids, party.session.secret)
    reply = MatchReply(sealed={}, tags={party.name: tags})
    return reply, replace(party.session, order=state.order)


def share(request: ShareRequest, party: Party) -> tuple[ShareReply, Session]:
    """Masked matrices for the peers; the own tables with their noise, charged first."""
    if request.n_slots < sum(party.session.rows.values()):
        raise ProtocolError("the spine is not padded: it would show the size of the overlap.")
    if set(request.seeds.values()) & set(party.session.seeds.values()):
        raise ProtocolError("a dealt seed comes twice: two matrices under one mask. Deal anew.")
    state = aligning.AlignmentState(order=party.session.order)
    session = replace(
        party.session,
        step=request.step,
        tables=request.plan,
        slots=aligning.to_table_order(state, request.slots, n_slots=request.n_slots),
        n_slots=request.n_slots,
        seeds=request.seeds,
    )
    party = Party(party.site, session)
    if request.step:
        foresee(party)
    end = crossing(party)
    end.check()
    local, phase = party.now.local(party.name), in_pass(SHARE, request.step)
    planned = [*local.values(), *party.now.pooled(party.name).values()]
    receipt = charge(party, phase, [p.event for p in planned])
    tables = {
        str(i): release_table(exact_table(party, p.query.sides[0]), p.event, receipt)
        for i, p in local.items()
    }
    pooled = own_tables(party, f"{phase}/{request.attempt}", receipt)
    given = {peer: end.given(peer) for peer in party.now.peers(party.name)}
    sealed = {peer: blob for peer, blob in given.items() if blob is not None}
    return ShareReply(sealed=sealed, tables=tables, pooled=pooled), session


def open_(request: OpenRequest, party: Party) -> tuple[OpenReply, Session]:
    """Shares of the cross tables with noise, uniform alone; charged before any noise is drawn."""
    if request.step != party.session.step:
        raise ProtocolError("the tables to open are of another pass. Start a new run.")
    end = crossing(party)
    tables = {
        peer: party.now.crossing(party.name, peer)
        for peer in party.now.peers(party.name)
        if end.opens(peer, request.hop)
    }
    phase = in_pass(OPEN, request.step) + (f", hop {request.hop}" if request.hop > 1 else "")
    planned = {i: p for here in tables.values() for i, p in here.items()}
    receipt = charge(party, phase, [p.event for p in planned.values()])
    parts: dict[int, list[Ring]] = {i: [] for i in planned}
    sealed: dict[str, bytes] = {}
    for peer, here in tables.items():
        opened = end.opened(peer, request, receipt)
        for i, part in zip(here, opened.shares, strict=True):
            parts[i].append(part)
        sealed |= {peer: opened.answer} if opened.answer else {}
    shares = {
        str(i): across(party, planned[i], found, receipt)
        if planned[i].query.is_pooled
        else found[0]
        for i, found in parts.items()
    }
    last = request.step == int(party.spec.selects) and request.hop == 1
    dealt = party.summing.deal() if party.spec.training and last else {}
    return OpenReply(shares=shares, sealed=sealed, dealt=dealt), party.session
