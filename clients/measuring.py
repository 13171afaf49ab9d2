"""A party's answers in the measurement phases: setup, blind, match, share, open.

Each is a function of (request, party) to (reply, session to remember). What leaves is either
sealed for a peer, blinded by every party, or carries noise that the guard has been charged for.
"""

from __future__ import annotations

import os
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from clients.charging import charge, foresee
from clients.party import Party, Session, read_table
from clients.site import Site
from twinweave.errors import ProtocolError, SchemaError
from twinweave.parsing import canonical_json
from twinweave.privacy.mechanisms import discrete_gaussian, release_table
from twinweave.protocols import alignment as aligning
from twinweave.protocols import channel
from twinweave.protocols.blocks import BlockSet, build_blocks
from twinweave.protocols.cross_tables import (
    CoinsFirst,
    CoinsSecond,
    DealFirst,
    DealSecond,
    Pair,
    Role,
    finish_first,
    finish_second,
    mask,
    open_cells,
    open_shares,
)
from twinweave.protocols.hellos import dump_hello
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
from twinweave.protocols.ring import Ring, dtype_of
from twinweave.spec import PlannedQuery, RunSpec
from twinweave.tables.query import Query, raised, shape, side_codes

BLIND, MATCH, SHARE, OPEN = "query.blind", "query.match", "query.share", "query.open"


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
    sealed = {party.name: _seal(party, onward, BLIND, party.name, tags)}
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
        arrived = np.frombuffer(_open(party, sender, phase, owner, blob), np.uint8)
        if arrived.size != party.session.rows.get(owner, 0) * method.tag_bytes:
            raise ProtocolError(f"the tags of {owner!r} do not match its announced size.")
        doubled = method.hop(arrived.reshape(-1, method.tag_bytes), party.session.secret)
        if request.hop == len(path):
            tags[owner] = doubled
        else:
            sealed[owner] = _seal(party, path[request.hop], MATCH, owner, doubled)
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
    local = party.now.local(party.name)
    charge(party, _step(SHARE, request.step), request.attempt, [p.event for p in local.values()])
    tables = {str(i): release_table(_count(party, p.query), p.scale) for i, p in local.items()}
    sealed = {
        peer: _seal(party, peer, _step(SHARE, request.step), party.name, _masked(party, peer))
        for peer in party.now.peers(party.name)
    }
    return ShareReply(sealed=sealed, tables=tables), session


def _step(phase: str, step: int) -> str:
    """Name of a phase in a pass: what messages are sealed for and charges are booked under."""
    return f"{phase}/{step}" if step else phase


def _masked(party: Party, peer: str) -> Ring:
    pair = party.now.product(party.name, peer, party.session.n_slots)
    seed = party.session.seeds[peer]
    dealt: DealFirst | DealSecond = DealFirst(seed=seed)
    if pair.role(party.name) is Role.SECOND:
        dealt = DealSecond(seed=seed, correction=np.zeros(pair.shape, dtype_of(pair.bits)))
    return mask(pair, _blocks(party, pair), dealt)


def _blocks(party: Party, pair: Pair) -> BlockSet:
    layout = pair.layout(pair.role(party.name))
    return build_blocks(
        party.site.schema,
        layout,
        n_slots=party.session.n_slots,
        slots=party.session.slots,
        codes=party.table.codes,
        units=party.table.units,
    )


def open_(request: OpenRequest, party: Party) -> tuple[OpenReply, Session]:
    """Shares of the cross tables with noise, uniform alone; charged before any noise is drawn."""
    planned = [p for peer in party.now.peers(party.name) for p in _crossing(party, peer).values()]
    if request.step != party.session.step:
        raise ProtocolError("the tables to open are of another pass. Start a new run.")
    charge(party, _step(OPEN, request.step), request.attempt, [p.event for p in planned])
    shares: dict[str, Ring] = {}
    for peer in party.now.peers(party.name):
        opened = _open_pair(request, party, peer)
        shares |= {str(i): s for i, s in zip(_crossing(party, peer), opened, strict=True)}
    last = request.step == int(party.spec.selects)
    dealt = party.summing.deal() if party.spec.training and last else {}
    return OpenReply(shares=shares, dealt=dealt), party.session


def _open_pair(request: OpenRequest, party: Party, peer: str) -> tuple[Ring, ...]:
    pair = party.now.product(party.name, peer, party.session.n_slots)
    role = pair.role(party.name)
    other = Role.SECOND if role is Role.FIRST else Role.FIRST
    arrived = _open(party, peer, _step(SHARE, request.step), peer, request.sealed[peer])
    masked = np.frombuffer(arrived, dtype_of(pair.bits)).reshape(
        pair.n_slots, pair.layout(other).width
    )
    seed = party.session.seeds[peer]
    with_coins = [str(i) for i, p in _crossing(party, peer).items() if p.coins is not None]
    coins: CoinsFirst | CoinsSecond
    if role is Role.FIRST:
        share_matrix = finish_first(pair, DealFirst(seed=seed), masked)
        coins = CoinsFirst(seeds=tuple(request.coin_seeds[i] for i in with_coins))
    else:
        dealt = DealSecond(seed=seed, correction=request.corrections[peer])
        share_matrix = finish_second(pair, _blocks(party, pair), dealt, masked)
        coins = CoinsSecond(words=tuple(request.coin_words[i] for i in with_coins))
    return open_shares(
        pair,
        share_matrix,
        party.now.openings(party.name, peer),
        pair_secret=channel.pair_secret(party.keys(peer), "open cross tables"),
        label=f"{_step(OPEN, request.step)}/{request.attempt}",
        coins=coins,
        noise=_own_noise(pair, _crossing(party, peer)),
    )


def _own_noise(pair: Pair, planned: dict[int, PlannedQuery]) -> list[NDArray[np.int64]]:
    return [
        discrete_gaussian((open_cells(pair, p.query),), p.scale)
        for p in planned.values()
        if p.coins is None
    ]


def _crossing(party: Party, peer: str) -> dict[int, PlannedQuery]:
    return party.now.crossing(party.name, peer)


def _count(party: Party, query: Query) -> NDArray[np.int64]:
    """The exact local table, int64. Never leaves without noise."""
    side = query.sides[0]
    sizes = shape(party.spec.schema, query)
    combined = side_codes(party.site.schema, side, party.table.codes)
    if side.weight is None:
        return np.bincount(combined, minlength=prod(sizes)).reshape(sizes).astype(np.int64)
    amounts = raised(party.table.units[side.weight], side.power)
    sums = np.bincount(combined, weights=amounts, minlength=prod(sizes))
    return np.rint(sums).astype(np.int64).reshape(sizes)


def _seal(party: Party, peer: str, phase: str, label: str, array: NDArray[np.generic]) -> bytes:
    return channel.seal(
        np.ascontiguousarray(array).data.cast("B"),
        run=party.session.run,
        phase=phase,
        sender=party.name,
        receiver=peer,
        keys=party.keys(peer),
        label=label,
    )


def _open(party: Party, peer: str, phase: str, label: str, blob: bytes) -> bytes:
    return channel.open_sealed(
        blob,
        run=party.session.run,
        phase=phase,
        sender=peer,
        receiver=party.name,
        keys=party.keys(peer),
        label=label,
    )
