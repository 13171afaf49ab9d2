"""A party's steps of the alignment: blind the own ids, blind the others' tags once more."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.alignment.messages import (
    BlindReply,
    BlindRequest,
    MatchReply,
    MatchRequest,
)
from twinweave.protocols.alignment.overlap import NO_COUNTS, noise_on_counts
from twinweave.protocols.alignment.tags import Prf, Ristretto
from twinweave.protocols.channel import keys as channel
from twinweave.protocols.party import Introduced, Joined, Party
from twinweave.protocols.training.plan import accept_training
from twinweave.protocols.wire import exactly
from twinweave.site import Site

BLIND, MATCH = "query.blind", "query.match"
_GROUP_KEY = "group key"


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A party that made its tags. order: int64 (rows,), its table's row behind each of them."""

    introduced: Introduced
    order: NDArray[np.int64] = field(repr=False)


def blind(
    request: BlindRequest, joined: Joined, site: Site
) -> tuple[BlindReply, Introduced | Aligned]:
    """Own tags, blinded once, sealed for the next party (or, for prf, the key they share).

    Before that, the run's training is accepted or refused: nothing is released yet.
    """
    introduced = Introduced(joined=joined, hellos=request.hellos, training=request.training)
    party = Party(site, introduced)
    for peer in party.peers:
        party.keys(peer)  # every peer is who the pins say, or nothing goes on
    party.check_holdout()
    site.check_rows(sum(party.rows.values()))
    accept_training(party)
    if party.spec.alignment == "prf":
        return BlindReply(sealed=_group_key(party)), introduced
    method = Ristretto(run_id=party.run)
    order, tags = method.start(party.table.ids, party.secret)
    onward = method.path(party.name, party.spec.parties)[0]
    sealed = {party.name: party.seal(onward, BLIND, party.name, tags)}
    return BlindReply(sealed=sealed), Aligned(introduced=introduced, order=order)


def match(
    request: MatchRequest, state: Introduced | Aligned, site: Site
) -> tuple[MatchReply, Aligned]:
    """Blind the tags that arrive once more, and hand them on; the last hop's go to the server.

    For prf there is one hop, and the tags are the party's own. With the first hop goes noise on
    what the server will count.
    """
    if isinstance(state, Introduced):
        return _match_prf(request, Party(site, state))
    party = Party(site, state.introduced)
    if party.spec.alignment == "prf":
        raise ProtocolError("this party's tags are with the server already. Start a new run.")
    method, sealed, tags = Ristretto(run_id=party.run), {}, {}
    paths = {owner: method.path(owner, party.spec.parties) for owner in party.peers}
    at = request.hop - 1
    due = [o for o, path in paths.items() if 0 <= at < len(path) and path[at] == party.name]
    if not due:
        raise ProtocolError("the hop is none of the run's. Start a new run.")
    exactly(request.sealed, due, "tags for this party to blind now")
    for owner, blob in request.sealed.items():
        path = paths[owner]
        sender = path[request.hop - 2] if request.hop > 1 else owner
        phase = BLIND if request.hop == 1 else MATCH
        arrived = np.frombuffer(party.unseal(sender, phase, owner, blob), np.uint8)
        if arrived.size != party.rows[owner] * method.tag_bytes:
            raise ProtocolError(f"the tags of {owner!r} do not match its announced size.")
        doubled = method.hop(arrived.reshape(-1, method.tag_bytes), party.secret)
        if request.hop == len(path):
            tags[owner] = doubled
        else:
            sealed[owner] = party.seal(path[request.hop], MATCH, owner, doubled)
    noise = noise_on_counts(party, MATCH) if request.hop == 1 else NO_COUNTS
    return MatchReply(sealed=sealed, tags=tags, noise=noise), state


def _group_key(party: Party) -> dict[str, bytes]:
    """The key of the tags, by party, from the first party; nothing from the others."""
    if party.name != party.spec.parties[0]:
        return {}
    key = channel.make_group_key(party.secret, party.run)
    return {peer: party.seal(peer, BLIND, _GROUP_KEY, key) for peer in party.peers}


def _match_prf(request: MatchRequest, party: Party) -> tuple[MatchReply, Aligned]:
    if party.spec.alignment != "prf":
        raise ProtocolError("this party has not blinded its ids yet. Start a new run.")
    if request.hop != 1:
        raise ProtocolError("tags under a shared key take one hop. Start a new run.")
    first = party.spec.parties[0]
    if party.name == first:
        key = channel.make_group_key(party.secret, party.run)
    elif party.name not in request.sealed:
        raise ProtocolError("the key for the tags did not arrive. Start a new run.")
    else:
        key = party.unseal(first, BLIND, _GROUP_KEY, request.sealed[party.name])
    order, tags = Prf(run_id=party.run, key=key).start(party.table.ids, party.secret)
    noise = noise_on_counts(party, MATCH)
    reply = MatchReply(sealed={}, tags={party.name: tags}, noise=noise)
    return reply, Aligned(introduced=party.state, order=order)
