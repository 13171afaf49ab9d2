"""The server's side of the measurement phases: setup, blind, match, share, open.

It relays what it cannot read, matches tags that every party has blinded, deals randomness, and
adds up shares. What it ends with are the noisy tables of the run specification.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from strategies.exchange import Exchange
from twinweave.errors import ChannelError, ProtocolError, RunError
from twinweave.privacy.measurement import Measurement
from twinweave.protocols import messages as m
from twinweave.protocols.alignment import Ristretto, match
from twinweave.protocols.cross_tables import (
    DealFirst,
    DealSecond,
    Pair,
    deal,
    deal_coins,
    reconstruct,
)
from twinweave.protocols.hellos import load_hello
from twinweave.protocols.keystream import Keystream
from twinweave.spec import RunSpec
from twinweave.tables.query import shape

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
class Measured:
    """measurements: one for each planned table, in order. dealt: for the secure sums to come."""

    measurements: tuple[Measurement, ...] = field(repr=False)
    dealt: dict[str, dict[str, bytes]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """The measurement phases of one run, after setup."""

    exchange: Exchange
    spec: RunSpec
    roster: Roster

    def run(self) -> Measured:
        """All phases in order."""
        sizes = " and ".join(f"{n:,} ids of {p}" for p, n in self.roster.rows.items())
        log.info("aligning %s by %s", sizes, self.spec.alignment)
        slots = self._align()
        deals = {pair: self._deal(*pair) for pair in self.spec.pairs()}
        shared = self._share(slots, deals)
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

    # --- alignment ---

    def _align(self) -> dict[str, NDArray[np.int64]]:
        asked = m.BlindRequest(
            run=self.spec.run, attempt=0, hellos=self.roster.hellos, rows=self.roster.rows
        )
        blinded = self._ask("query.blind", dict.fromkeys(self.spec.parties, asked), m.BlindReply)
        if self.spec.alignment == "prf":
            tags = self._tags_prf(blinded)
        else:
            tags = self._tags_ristretto(blinded)
        for party, array in tags.items():
            if len(array) != self.roster.rows[party]:
                raise ProtocolError(f"tags of {party!r} do not match its announced size.")
        return match(tags, self.roster.n_slots, Keystream(os.urandom(32)))

    def _tags_prf(self, blinded: dict[str, m.BlindReply]) -> dict[str, NDArray[np.uint8]]:
        keys = blinded[self.spec.parties[0]].sealed
        requests = {p: self._hop(1, {p: keys[p]} if p in keys else {}) for p in self.spec.parties}
        replies = self._ask("query.match", requests, m.MatchReply)
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
            replies = self._ask("query.match", requests, m.MatchReply)
            sealed = {o: b for reply in replies.values() for o, b in reply.sealed.items()}
            tags |= {o: t for reply in replies.values() for o, t in reply.tags.items()}
        return {owner: tags[owner] for owner in parties}

    def _hop(self, hop: int, sealed: dict[str, bytes]) -> m.MatchRequest:
        return m.MatchRequest(run=self.spec.run, attempt=0, hop=hop, sealed=sealed)

    # --- products and openings ---

    def _deal(self, first: str, second: str) -> tuple[Pair, DealFirst, DealSecond]:
        pair = self.spec.product(first, second, self.roster.n_slots)
        return pair, *deal(pair, os.urandom(32))

    def _share(
        self,
        slots: dict[str, NDArray[np.int64]],
        deals: dict[tuple[str, str], tuple[Pair, DealFirst, DealSecond]],
    ) -> dict[str, m.ShareReply]:
        seeds: dict[str, dict[str, bytes]] = {p: {} for p in self.spec.parties}
        for (first, second), (_, for_first, for_second) in deals.items():
            seeds[first][second] = for_first.seed
            seeds[second][first] = for_second.seed
        requests = {
            p: m.ShareRequest(
                run=self.spec.run,
                attempt=0,
                n_slots=self.roster.n_slots,
                slots=slots[p],
                seeds=seeds[p],
            )
            for p in self.spec.parties
        }
        return self._ask("query.share", requests, m.ShareReply)

    def _open(
        self,
        shared: dict[str, m.ShareReply],
        deals: dict[tuple[str, str], tuple[Pair, DealFirst, DealSecond]],
    ) -> tuple[dict[int, NDArray[np.float64]], dict[str, dict[str, bytes]]]:
        coins = {pair: self._coins(*pair, deals[pair][0]) for pair in deals}
        requests = {
            p: m.OpenRequest(
                run=self.spec.run,
                attempt=0,
                sealed={q: shared[q].sealed[p] for q in self.spec.peers(p)},
                corrections={a: d[2].correction for (a, b), d in deals.items() if b == p},
                coin_seeds={k: v for (a, _), c in coins.items() if a == p for k, v in c[0].items()},
                coin_words={k: v for (_, b), c in coins.items() if b == p for k, v in c[1].items()},
            )
            for p in self.spec.parties
        }
        opened = self._ask("query.open", requests, m.OpenReply)
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

    def _ask(
        self, phase: str, requests: Mapping[str, Any], reply_type: type[Reply]
    ) -> dict[str, Reply]:
        nodes, names = self.roster.nodes, self.roster.names
        by_node = {nodes[party]: request for party, request in requests.items()}
        started = time.perf_counter()
        replies = self.exchange.ask(phase, by_node, reply_type, names=names)
        log.info("%-18s %d answers in %.1f s", phase, len(replies), time.perf_counter() - started)
        return {names[node]: reply for node, reply in replies.items()}


def sections(spec: RunSpec) -> Iterator[str]:
    """One line a group of tables, for the log."""
    for party in spec.parties:
        yield f"{len(spec.local(party))} tables at {party}"
    for first, second in spec.pairs():
        yield f"{len(spec.crossing(first, second))} tables across {first} and {second}"
