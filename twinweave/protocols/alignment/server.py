"""The server's steps of the alignment: relay what it cannot read, match what all have blinded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError, RunError
from twinweave.protocols.alignment.messages import (
    BlindReply,
    BlindRequest,
    MatchReply,
    MatchRequest,
)
from twinweave.protocols.alignment.overlap import Counts, stop_where_hardly_anyone_matches
from twinweave.protocols.alignment.party import BLIND, MATCH
from twinweave.protocols.alignment.tags import Ristretto, Tags
from twinweave.protocols.alignment.tags import match as match_tags
from twinweave.protocols.channel.server import Roster
from twinweave.protocols.keystream import KEY_BYTES, Keystream, hkdf
from twinweave.protocols.steps import Question, Steps
from twinweave.spec import RunSpec

Slots = dict[str, NDArray[np.int64]]
"""Party -> int64 (rows,): a slot of the spine for each of its rows, in the order of its tags."""


def align(
    spec: RunSpec, roster: Roster, training: str = "", *, secret: bytes | None = None
) -> Steps[Slots]:
    """From setup to slots, once a run. training: JSON of the planned training, or "".

    secret: 32 bytes of the server in this run, from which the slots follow, so that a run that is
    taken up again sends the same requests; None: fresh ones.

    Raises ProtocolError where tags do not fit the sizes; RunError where two members of a pool
    hold the same person, or hardly anyone matches, before any table is released.
    """
    asked = BlindRequest(run=spec.run, hellos=roster.hellos, training=training)
    requests = dict.fromkeys(spec.parties, asked)
    blinded = yield Question(phase=BLIND, requests=requests, reply=BlindReply)
    hops = _hops_prf if spec.alignment == "prf" else _hops_ristretto
    tags, noise = yield from hops(spec, {party: reply.sealed for party, reply in blinded.items()})
    for party, array in tags.items():
        if len(array) != roster.rows[party]:
            raise ProtocolError(f"tags of {party!r} do not match its announced size.")
    key = hkdf(secret or os.urandom(KEY_BYTES), "slots", spec.run)
    slots = match_tags(tags, roster.n_slots, Keystream(key))
    for pool in spec.pools:
        _check_disjoint(pool, slots)
    stop_where_hardly_anyone_matches(spec, roster, slots, noise)
    return slots


Matched = tuple[dict[str, Tags], dict[str, Counts]]
"""By party: its tags, and its noise on the counts of users in common."""


def _hops_prf(spec: RunSpec, sealed: Mapping[str, Mapping[str, bytes]]) -> Steps[Matched]:
    keys = sealed[spec.parties[0]]
    requests = {
        p: MatchRequest(run=spec.run, hop=1, sealed={p: keys[p]} if p in keys else {})
        for p in spec.parties
    }
    replies = yield Question(phase=MATCH, requests=requests, reply=MatchReply)
    tags = {p: _own(p, replies[p].tags) for p in spec.parties}
    return tags, {p: replies[p].noise for p in spec.parties}


def _hops_ristretto(spec: RunSpec, blinded: Mapping[str, Mapping[str, bytes]]) -> Steps[Matched]:
    parties, method = spec.parties, Ristretto(run_id=spec.run)
    sealed = {owner: _own(owner, blinded[owner]) for owner in parties}
    tags: dict[str, Tags] = {}
    noise: dict[str, Counts] = {}
    for hop in range(1, len(parties)):
        at = {owner: method.path(owner, parties)[hop - 1] for owner in parties}
        requests = {
            party: MatchRequest(
                run=spec.run, hop=hop, sealed={o: sealed[o] for o in parties if at[o] == party}
            )
            for party in parties
        }
        replies = yield Question(phase=MATCH, requests=requests, reply=MatchReply)
        if hop == 1:
            noise = {party: replies[party].noise for party in parties}
        last = hop == len(parties) - 1
        for owner in parties:
            if last:
                tags[owner] = _own(owner, replies[at[owner]].tags)
            else:
                sealed[owner] = _own(owner, replies[at[owner]].sealed)
    return tags, noise


def _own(owner: str, found: Mapping[str, Any]) -> Any:
    """What was asked of the owner's tags. Raises ProtocolError where it did not come."""
    if owner not in found:
        raise ProtocolError(f"the tags of {owner!r} did not arrive. Start a new run.")
    return found[owner]


def _check_disjoint(pool: Sequence[str], slots: Mapping[str, NDArray[np.int64]]) -> None:
    """Raise RunError where two members of a pool hold the same user.

    Such a user would change two cells of the pool's tables, and be paid for once.
    """
    for first, second in combinations(pool, 2):
        if np.intersect1d(slots[first], slots[second], assume_unique=True).size:
            raise RunError(
                f"{first!r} and {second!r} are pooled, but hold people in common. Keep each "
                "person at one of them, or take them out of data.pools."
            )
