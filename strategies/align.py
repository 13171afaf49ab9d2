"""The server's side of setup and alignment: who takes part, and the slots of the hidden spine.

It relays what it cannot read and matches tags that every party has blinded.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from strategies.crossing import check
from strategies.exchange import Exchange
from twinweave.errors import ChannelError, ProtocolError, RunError
from twinweave.protocols import messages as m
from twinweave.protocols.alignment.tags import Ristretto, match
from twinweave.protocols.channel.hellos import load_hello
from twinweave.protocols.keystream import Keystream
from twinweave.spec import RunSpec

log = logging.getLogger("twinweave.run")
Reply = TypeVar("Reply")


@dataclass(frozen=True, kw_only=True)
class Roster:
    """Who takes part: party name -> Flower node, table size, signed hello, guard on or off."""

    nodes: dict[str, int]
    rows: dict[str, int]
    hellos: dict[str, str] = field(repr=False)
    guards: dict[str, str]

    @property
    def names(self) -> dict[int, str]:
        return {node: party for party, node in self.nodes.items()}

    @property
    def n_slots(self) -> int:
        """Full padding: the size of the overlap stays hidden from the parties."""
        return sum(self.rows.values())


def setup(exchange: Exchange, spec: RunSpec, *, sites: str, timeout: float) -> Roster:
    """Wait for the nodes, send the specification, check who answered and what they accepted."""
    nodes = _wait_for_nodes(exchange, len(spec.parties), timeout)
    request = m.SetupRequest(run=spec.run, attempt=0, spec=spec.dumps(), sites=sites)
    asked = exchange.ask(
        "query.setup", dict.fromkeys(nodes, request), m.SetupReply, timeout=timeout
    )
    answers = {node: reply for node, reply in asked.items() if reply.party}
    found = [reply.party for reply in answers.values()]
    if sorted(found) != sorted(spec.parties):
        raise RunError(
            f"parties that answered: {', '.join(sorted(found)) or 'none'}; the run needs exactly: "
            f"{', '.join(spec.parties)}. Start one SuperNode for each."
        )
    for reply in answers.values():
        hello = load_hello(reply.hello)
        if hello.party != reply.party or hello.spec_hash != spec.digest:
            raise ChannelError(f"party {reply.party!r} did not accept this run's specification.")
    by_party = {reply.party: (node, reply) for node, reply in answers.items()}
    return Roster(
        nodes={p: by_party[p][0] for p in spec.parties},
        rows={p: by_party[p][1].rows for p in spec.parties},
        hellos={p: by_party[p][1].hello for p in spec.parties},
        guards={p: by_party[p][1].guard for p in spec.parties},
    )


def _wait_for_nodes(exchange: Exchange, wanted: int, timeout: float) -> list[int]:
    deadline = time.monotonic() + timeout
    while len(nodes := list(exchange.grid.get_node_ids())) < wanted:
        if time.monotonic() > deadline:
            raise RunError(
                f"{len(nodes)} of {wanted} parties connected within {timeout:.0f} s. Start a "
                "SuperNode at each party (in a simulation: set num-supernodes)."
            )
        time.sleep(0.2)
    return nodes


@dataclass(frozen=True, kw_only=True)
class Asking:
    """A run's questions by party instead of by node."""

    exchange: Exchange
    spec: RunSpec
    roster: Roster

    def ask(
        self, phase: str, requests: Mapping[str, Any], reply_type: type[Reply]
    ) -> dict[str, Reply]:
        nodes, names = self.roster.nodes, self.roster.names
        by_node = {nodes[party]: request for party, request in requests.items()}
        started = time.perf_counter()
        replies = self.exchange.ask(phase, by_node, reply_type, names=names)
        log.info("%-18s %d answers in %.1f s", phase, len(replies), time.perf_counter() - started)
        return {names[node]: reply for node, reply in replies.items()}


class Aligning(Asking):
    """From setup to slots, once a run."""

    def run(self) -> dict[str, NDArray[np.int64]]:
        """A slot on the spine for every row of every party, in the order of its tags.

        Raises ConfigError where a product over such a spine is too large for its protocol.
        """
        check(self.spec, self.roster.n_slots)
        sizes = " and ".join(f"{n:,} ids of {p}" for p, n in self.roster.rows.items())
        log.info("aligning %s by %s", sizes, self.spec.alignment)
        asked = m.BlindRequest(
            run=self.spec.run, attempt=0, hellos=self.roster.hellos, rows=self.roster.rows
        )
        blinded = self.ask("query.blind", dict.fromkeys(self.spec.parties, asked), m.BlindReply)
        if self.spec.alignment == "prf":
            tags = self._tags_prf(blinded)
        else:
            tags = self._tags_ristretto(blinded)
        for party, array in tags.items():
            if len(array) != self.roster.rows[party]:
                raise ProtocolError(f"tags of {party!r} do not match its announced size.")
        slots = match(tags, self.roster.n_slots, Keystream(os.urandom(32)))
        for pool in self.spec.pools:
            _check_disjoint(pool, slots)
        return slots

    def _tags_prf(self, blinded: dict[str, m.BlindReply]) -> dict[str, NDArray[np.uint8]]:
        keys = blinded[self.spec.parties[0]].sealed
        requests = {p: self._hop(1, {p: keys[p]} if p in keys else {}) for p in self.spec.parties}
        replies = self.ask("query.match", requests, m.MatchReply)
        return {p: replies[p].tags[p] for p in self.spec.parties}

    def _tags_ristretto(self, blinded: dict[str, m.BlindReply]) -> dict[str, NDArray[np.uint8]]:
        parties = self.spec.parties
        method = Ristretto(run_id=self.spec.run)
        sealed = {owner: blinded[owner].sealed[owner] for owner in parties}
        tags: dict[str, NDArray[np.uint8]] = {}
        for hop in range(1, len(parties)):
            at = {owner: method.path(owner, parties)[hop - 1] for owner in parties}
            requests = {
                party: self._hop(hop, {o: sealed[o] for o in parties if at[o] == party})
                for party in parties
            }
            replies = self.ask("query.match", requests, m.MatchReply)
            sealed = {o: b for reply in replies.values() for o, b in reply.sealed.items()}
            tags |= {o: t for reply in replies.values() for o, t in reply.tags.items()}
        return {owner: tags[owner] for owner in parties}

    def _hop(self, hop: int, sealed: dict[str, bytes]) -> m.MatchRequest:
        return m.MatchRequest(run=self.spec.run, attempt=0, hop=hop, sealed=sealed)


def _check_disjoint(pool: Sequence[str], slots: Mapping[str, NDArray[np.int64]]) -> None:
    """Raise RunError where two members of a pool hold the same user, before anything is released.

    Such a user would change two cells of the pool's tables, and be paid for once.
    """
    for first, second in combinations(pool, 2):
        if np.intersect1d(slots[first], slots[second], assume_unique=True).size:
            raise RunError(
                f"{first!r} and {second!r} are pooled, but hold people in common. Keep each "
                "person at one of them, or take them out of data.pools."
            )
