"""The server's side of the cross tables: what it deals, relays and asks, one class a kind.

See clients/crossing.py for the parties' side. The server adds up the opened shares either way.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from twinweave.config import RunConf
from twinweave.errors import ConfigError, ProtocolError
from twinweave.protocols import lattice
from twinweave.protocols import messages as m
from twinweave.protocols.products import homomorphic_tables
from twinweave.protocols.products.cross_tables import (
    DealFirst,
    DealSecond,
    Pair,
    Role,
    deal,
    deal_coins,
)
from twinweave.spec import RunSpec
from twinweave.workload.queries import Query

log = logging.getLogger("twinweave.run")
Coins = tuple[dict[str, bytes], dict[str, NDArray[np.uint8]]]
Sealed = Mapping[str, Mapping[str, bytes]]  # sender -> receiver -> what it sealed


class Crossing(Protocol):
    """One kind of product over all pairs of parties, in one pass."""

    @property
    def hops(self) -> int:
        """Times that `query.open` is asked."""

    def seeds(self, party: str) -> dict[str, bytes]:
        """What is dealt to a party for `query.share`, by peer."""

    def requests(self, hop: int, sealed: Sealed) -> dict[str, m.OpenRequest]:
        """Whom to ask what in a hop. sealed: of `query.share`, then of the hop before."""


def crossing(spec: RunSpec, n_slots: int, step: int) -> Crossing:
    """The server's end, as the specification says. Raises ConfigError as `check`."""
    check(spec, n_slots)
    if spec.cross_tables == "homomorphic":
        return Encrypted(spec=spec, n_slots=n_slots, step=step)
    return Dealt(spec=spec, n_slots=n_slots, step=step)


def check(spec: RunSpec, n_slots: int) -> None:
    """Raise ConfigError where a product is too large for its kind. Sizes are known since setup."""
    if spec.cross_tables == "homomorphic":
        for first, second in spec.pairs():
            homomorphic_tables.check(spec.product(first, second, n_slots))


def measurable(kind: str, queries: tuple[Query, ...]) -> tuple[Query, ...]:
    """Those of the queries that this kind of product is for; says which it leaves out.

    Raises ConfigError where homomorphic finds tables across parties, and none with priority, or
    where TenSEAL is missing.
    """
    if kind != "homomorphic":
        return queries
    lattice.available(homomorphic_tables.FIELD)
    kept = tuple(q for q in queries if q.priority or not q.is_cross)
    left_out = len(queries) - len(kept)
    if left_out and not any(q.is_cross for q in kept):
        raise ConfigError(
            homomorphic_tables.FIELD,
            "homomorphic measures the priority tables alone, and none of them crosses the parties",
            "Use protocol.cross_tables=secret_sharing.",
        )
    if left_out:
        log.info(
            "homomorphic: priority tables alone; %d other tables across parties are left out "
            "(protocol.cross_tables=secret_sharing measures them)",
            left_out,
        )
    return kept


def selects(conf: RunConf) -> bool:
    """Whether this kind of product can select features, which takes many tables across parties.

    Raises ConfigError where homomorphic is told to.
    """
    if conf.protocol.cross_tables != "homomorphic":
        return True
    if conf.selection.when == "always":
        raise ConfigError(
            "selection.when",
            "homomorphic tables are too few to select features by",
            "Use selection.when=never, or protocol.cross_tables=secret_sharing.",
        )
    return False


@dataclass(frozen=True, kw_only=True)
class Dealt:
    """Secret sharing: deals correlated randomness and coins; every party opens in one hop."""

    spec: RunSpec
    n_slots: int
    step: int

    @property
    def hops(self) -> int:
        return 1

    @cached_property
    def _deals(self) -> dict[tuple[str, str], tuple[Pair, DealFirst, DealSecond]]:
        """Fresh ones, once a pass."""
        products = {pair: self.spec.product(*pair, self.n_slots) for pair in self.spec.pairs()}
        return {pair: (p, *deal(p, os.urandom(32))) for pair, p in products.items()}

    def seeds(self, party: str) -> dict[str, bytes]:
        seeds = {b: first.seed for (a, b), (_, first, _) in self._deals.items() if a == party}
        return seeds | {a: two.seed for (a, b), (_, _, two) in self._deals.items() if b == party}

    def requests(self, hop: int, sealed: Sealed) -> dict[str, m.OpenRequest]:
        coins = {pair: self._coins(*pair) for pair in self._deals}
        return {
            p: m.OpenRequest(
                run=self.spec.run,
                attempt=0,
                step=self.step,
                hop=hop,
                sealed=_for(p, self.spec.peers(p), sealed),
                corrections={a: d[2].correction for (a, b), d in self._deals.items() if b == p},
                coin_seeds={k: v for (a, _), c in coins.items() if a == p for k, v in c[0].items()},
                coin_words={k: v for (_, b), c in coins.items() if b == p for k, v in c[1].items()},
            )
            for p in self.spec.parties
        }

    def _coins(self, first: str, second: str) -> Coins:
        plans = self.spec.openings(first, second)
        named = [str(i) for i, p in self.spec.crossing(first, second).items() if p.coins]
        for_first, for_second = deal_coins(self._deals[first, second][0], plans, os.urandom(32))
        return (
            dict(zip(named, for_first.seeds, strict=True)),
            dict(zip(named, for_second.words, strict=True)),
        )


@dataclass(frozen=True, kw_only=True)
class Encrypted:
    """BFV: deals nothing; hands an offer to the one party, its answer back to the other."""

    spec: RunSpec
    n_slots: int
    step: int

    @property
    def hops(self) -> int:
        return 2 if self.spec.pairs() else 1

    def seeds(self, party: str) -> dict[str, bytes]:  # noqa: ARG002
        return {}

    def requests(self, hop: int, sealed: Sealed) -> dict[str, m.OpenRequest]:
        """Hop 1 to all: who offers has shares for the secure sums to deal. Hop 2 to who offered."""
        senders: dict[str, list[str]] = {p: [] for p in self.spec.parties}
        for offering, other in map(self._roles, self.spec.pairs()):
            sender, receiver = (offering, other) if hop == 1 else (other, offering)
            senders[receiver].append(sender)
        return {
            p: m.OpenRequest(
                run=self.spec.run,
                attempt=0,
                step=self.step,
                hop=hop,
                sealed=_for(p, peers, sealed),
                corrections={},
                coin_seeds={},
                coin_words={},
            )
            for p, peers in senders.items()
            if peers or hop == 1
        }

    def _roles(self, pair: tuple[str, str]) -> tuple[str, str]:
        """(offering party, the other)."""
        first = homomorphic_tables.offering(self.spec.product(*pair, self.n_slots)) is Role.FIRST
        return pair if first else (pair[1], pair[0])


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What the parties' replies to every hop hold together, by party."""

    shares: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict, repr=False)
    dealt: dict[str, dict[str, bytes]] = field(default_factory=dict, repr=False)

    def add(self, replies: Mapping[str, m.OpenReply]) -> None:
        for party, reply in replies.items():
            self.shares.setdefault(party, {}).update(reply.shares)
            self.dealt.setdefault(party, {}).update(reply.dealt)

    def of(self, party: str, index: int) -> NDArray[Any]:
        """A party's share of a table. Raises ProtocolError where it did not come."""
        if str(index) not in self.shares.get(party, {}):
            raise ProtocolError(f"a share of {party!r} did not arrive. Start a new run.")
        return self.shares[party][str(index)]


def _for(receiver: str, senders: Iterable[str], sealed: Sealed) -> dict[str, bytes]:
    """What each sender sealed for the receiver. Raises ProtocolError where something lacks."""
    found = {}
    for sender in senders:
        if receiver not in sealed.get(sender, {}):
            raise ProtocolError(f"party {sender!r} sent nothing for {receiver!r}. Start a new run.")
        found[sender] = sealed[sender][receiver]
    return found
