"""A party's end of the cross tables with each peer: `protocol.cross_tables`, one class a kind.

A product takes three steps, in the messages of share and open: what a party seals for a peer
(`given`), what it then answers the peer (`opened`, sealed), and its share of every table between
them, with its noise inside (`opened`). Who opens in which hop of `query.open` is public.

| kind | share: both, or one, seal | open, hop 1 | open, hop 2 |
|---|---|---|---|
| secret_sharing | masked matrices | both open | |
| homomorphic | the offering party its encrypted matrix | the other opens, and answers | it opens |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clients.party import Party
from clients.sealing import seal, unseal
from twinweave.errors import ProtocolError
from twinweave.privacy.guard import Receipt
from twinweave.privacy.mechanisms import draw
from twinweave.protocols import lattice
from twinweave.protocols.channel import keys as channel
from twinweave.protocols.keystream import hkdf
from twinweave.protocols.messages import OpenRequest
from twinweave.protocols.products import homomorphic_tables
from twinweave.protocols.products.blocks import BlockSet, build_blocks
from twinweave.protocols.products.cross_tables import (
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
from twinweave.protocols.ring import Ring, dtype_of
from twinweave.spec import PlannedQuery, RunSpec

SHARE, OPEN = "query.share", "query.open"


def in_pass(phase: str, step: int) -> str:
    """Name of a phase in a pass: what messages are sealed for and charges are booked under."""
    return f"{phase}/{step}" if step else phase


@dataclass(frozen=True, kw_only=True)
class Opened:
    """shares: noisy, one a table between two parties, in plan order. answer: sealed, or b""."""

    shares: tuple[Ring, ...] = field(repr=False)
    answer: bytes = field(default=b"", repr=False)


class Crossing(Protocol):
    """One kind of product, seen from one party in one pass."""

    def check(self) -> None:
        """Raise ConfigError where a product of this pass cannot be computed; sizes are known."""

    def given(self, peer: str) -> bytes | None:
        """What this party seals for the peer in `query.share`; None where it has nothing to."""

    def opens(self, peer: str, hop: int) -> bool:
        """Whether this party opens the tables with the peer in this hop of `query.open`."""

    def opened(self, peer: str, request: OpenRequest, receipt: Receipt) -> Opened:
        """Shares with noise, which the receipt paid for."""


def crossing(party: Party) -> Crossing:
    """This party's end, as the specification says."""
    kinds: dict[str, type[Dealt] | type[Encrypted]] = {
        "secret_sharing": Dealt,
        "homomorphic": Encrypted,
    }
    return kinds[party.spec.cross_tables](party)


def check_installed(spec: RunSpec) -> None:
    """Raise ConfigError where this party lacks what the kind needs."""
    if spec.cross_tables == "homomorphic":
        lattice.available(homomorphic_tables.FIELD)


@dataclass(frozen=True)
class Dealt:
    """Secret sharing: the server deals correlated randomness; both parties open at once."""

    party: Party

    def check(self) -> None:
        """Every product of a plan fits: rings grow with the sizes."""

    def given(self, peer: str) -> bytes | None:
        party = self.party
        return seal(party, peer, _shared_in(party), party.name, masked(party, peer))

    def opens(self, peer: str, hop: int) -> bool:  # noqa: ARG002 (with every peer alike)
        return hop == 1

    def opened(self, peer: str, request: OpenRequest, receipt: Receipt) -> Opened:
        party, pair = self.party, pair_with(self.party, peer)
        role = pair.role(party.name)
        other = Role.SECOND if role is Role.FIRST else Role.FIRST
        arrived = unseal(party, peer, _shared_in(party), peer, _of(request, peer))
        shape = pair.n_slots, pair.layout(other).width
        theirs = np.frombuffer(arrived, dtype_of(pair.bits)).reshape(shape)
        seed = party.session.seeds[peer]
        tables = party.now.crossing(party.name, peer)
        with_coins = [str(i) for i, p in tables.items() if p.coins is not None]
        coins: CoinsFirst | CoinsSecond
        if role is Role.FIRST:
            share = finish_first(pair, DealFirst(seed=seed), theirs)
            coins = CoinsFirst(seeds=tuple(request.coin_seeds[i] for i in with_coins))
        else:
            dealt = DealSecond(seed=seed, correction=request.corrections[peer])
            share = finish_second(pair, blocks(party, pair), dealt, theirs)
            coins = CoinsSecond(words=tuple(request.coin_words[i] for i in with_coins))
        return Opened(shares=_noisy(party, peer, pair, share, coins, request.attempt, receipt))


@dataclass(frozen=True)
class Encrypted:
    """BFV, no dealer: one party offers its matrix encrypted, the other answers under masks.

    Every table gets a discrete Gaussian from each party: shared coins would need the dealer.
    """

    party: Party

    def check(self) -> None:
        for peer in self.party.now.peers(self.party.name):
            homomorphic_tables.check(pair_with(self.party, peer))

    def given(self, peer: str) -> bytes | None:
        party, pair = self.party, pair_with(self.party, peer)
        if not self._offers(pair):
            return None
        offer = homomorphic_tables.offer(pair, blocks(party, pair), self._key(peer))
        return seal(party, peer, _shared_in(party), party.name, offer)

    def opens(self, peer: str, hop: int) -> bool:
        return hop == (2 if self._offers(pair_with(self.party, peer)) else 1)

    def opened(self, peer: str, request: OpenRequest, receipt: Receipt) -> Opened:
        """Also the answer, where the peer offered."""
        party, pair = self.party, pair_with(self.party, peer)
        phase, answer = in_pass(OPEN, party.session.step), b""
        if self._offers(pair):
            answered = unseal(party, peer, phase, peer, _of(request, peer))
            share = homomorphic_tables.finish(pair, self._key(peer), answered)
        else:
            offered = unseal(party, peer, _shared_in(party), peer, _of(request, peer))
            share, plain = homomorphic_tables.respond(pair, blocks(party, pair), offered)
            answer = seal(party, peer, phase, party.name, plain)
        first = pair.role(party.name) is Role.FIRST
        none = CoinsFirst(seeds=()) if first else CoinsSecond(words=())
        shares = _noisy(party, peer, pair, share, none, request.attempt, receipt)
        return Opened(shares=shares, answer=answer)

    def _offers(self, pair: Pair) -> bool:
        return homomorphic_tables.offering(pair) is pair.role(self.party.name)

    def _key(self, peer: str) -> bytes:
        session = self.party.session
        return hkdf(session.secret, "bfv", peer, str(session.step))


# --- of one pair ---------------------------------------------------------------------------


def pair_with(party: Party, peer: str) -> Pair:
    return party.now.product(party.name, peer, party.session.n_slots)


def masked(party: Party, peer: str) -> Ring:
    """The own matrix under dealt masks."""
    pair, seed = pair_with(party, peer), party.session.seeds[peer]
    dealt: DealFirst | DealSecond = DealFirst(seed=seed)
    if pair.role(party.name) is Role.SECOND:
        dealt = DealSecond(seed=seed, correction=np.zeros(pair.shape, dtype_of(pair.bits)))
    return mask(pair, blocks(party, pair), dealt)


def blocks(party: Party, pair: Pair) -> BlockSet:
    """The own matrix."""
    return build_blocks(
        party.site.schema,
        pair.layout(pair.role(party.name)),
        n_slots=party.session.n_slots,
        slots=party.session.slots,
        codes=party.table.codes,
        units=party.table.units,
    )


def own_noise(
    pair: Pair, planned: Sequence[PlannedQuery], receipt: Receipt
) -> list[NDArray[np.int64]]:
    """This party's draw for every table without coins; for a pooled one, which it draws for once
    all products are done (clients/pooling.py), zeros. The receipt paid for every table."""
    draws = []
    for p in planned:
        receipt.check(p.event)
        if p.coins is None:
            cells = open_cells(pair, p.query.between(pair.first.party, pair.second.party))
            pooled = p.query.is_pooled
            draws.append(np.zeros(cells, np.int64) if pooled else draw(cells, p.event, receipt))
    return draws


def _noisy(
    party: Party,
    peer: str,
    pair: Pair,
    share: Ring,
    coins: CoinsFirst | CoinsSecond,
    attempt: int,
    receipt: Receipt,
) -> tuple[Ring, ...]:
    return open_shares(
        pair,
        share,
        party.now.openings(party.name, peer),
        pair_secret=channel.pair_secret(party.keys(peer), "open cross tables"),
        label=f"{in_pass(OPEN, party.session.step)}/{attempt}",
        coins=coins,
        noise=own_noise(pair, list(party.now.crossing(party.name, peer).values()), receipt),
    )


def _shared_in(party: Party) -> str:
    return in_pass(SHARE, party.session.step)


def _of(request: OpenRequest, peer: str) -> bytes:
    if peer not in request.sealed:
        raise ProtocolError(f"nothing of {peer!r} arrived to open tables with. Start a new run.")
    return request.sealed[peer]
