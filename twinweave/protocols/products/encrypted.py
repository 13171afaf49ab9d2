"""Products under encryption (`protocol.cross_tables=homomorphic`, BFV, no dealer): both ends.

One party of each pair offers its matrix encrypted, the other answers under masks. Every table
gets a discrete Gaussian from each party: shared coins would need the dealer.

| | the offering party | the other | server |
|---|---|---|---|
| share | seals its encrypted matrix | | |
| open, hop 1 | | opens its share, and seals the answer | relays the offer |
| open, hop 2 | opens its share | | relays the answer, adds up |
"""

from __future__ import annotations

from dataclasses import dataclass

from twinweave.privacy.guard import Receipt
from twinweave.protocols.keystream import hkdf
from twinweave.protocols.products import homomorphic_tables
from twinweave.protocols.products.cross_tables import CoinsFirst, CoinsSecond, Pair, Role
from twinweave.protocols.products.messages import OpenRequest
from twinweave.protocols.products.pair import Opened, Pass, Sealed, addressed, product_of
from twinweave.spec import RunSpec


@dataclass(frozen=True)
class EncryptedParty:
    """A party's end in one pass."""

    here: Pass

    def check(self) -> None:
        """Raise ConfigError where a product of this pass is too large; sizes are known."""
        for peer in self.here.peers:
            homomorphic_tables.check(self.here.pair(peer))

    def given(self, peer: str) -> bytes | None:
        """The own matrix encrypted, sealed for the peer; None from the party that answers."""
        here, pair = self.here, self.here.pair(peer)
        if not self._offers(pair):
            return None
        offer = homomorphic_tables.offer(pair, here.blocks(pair), self._key(peer))
        return here.seal(peer, here.shared_in, offer)

    def opens(self, peer: str, hop: int) -> bool:
        return hop == (2 if self._offers(self.here.pair(peer)) else 1)

    def opened(self, peer: str, request: OpenRequest, receipt: Receipt) -> Opened:
        """Shares with noise of every table with the peer, and the answer to its offer."""
        here, pair, answer = self.here, self.here.pair(peer), b""
        if self._offers(pair):
            answered = here.arrived(peer, here.opened_in, request)
            share = homomorphic_tables.finish(pair, self._key(peer), answered)
        else:
            offered = here.arrived(peer, here.shared_in, request)
            share, plain = homomorphic_tables.respond(pair, here.blocks(pair), offered)
            answer = here.seal(peer, here.opened_in, plain)
        first = pair.role(here.party.name) is Role.FIRST
        none = CoinsFirst(seeds=()) if first else CoinsSecond(words=())
        return Opened(shares=here.noisy(peer, pair, share, none, receipt), answer=answer)

    def _offers(self, pair: Pair) -> bool:
        return homomorphic_tables.offering(pair) is pair.role(self.here.party.name)

    def _key(self, peer: str) -> bytes:
        return hkdf(self.here.party.secret, "bfv", peer, str(self.here.state.step))


@dataclass(frozen=True, kw_only=True)
class EncryptedServer:
    """The server's end in one pass: hands an offer to the one party, its answer to the other."""

    spec: RunSpec
    n_slots: int
    step: int

    @property
    def hops(self) -> int:
        return 2 if self.spec.pairs() else 1

    def seeds(self, party: str) -> dict[str, bytes]:  # noqa: ARG002
        return {}

    def requests(self, hop: int, sealed: Sealed) -> dict[str, OpenRequest]:
        """Hop 1 to all: who offers has shares for the secure sums to deal. Hop 2 to who offered."""
        senders: dict[str, list[str]] = {p: [] for p in self.spec.parties}
        for offering, other in map(self._roles, self.spec.pairs()):
            sender, receiver = (offering, other) if hop == 1 else (other, offering)
            senders[receiver].append(sender)
        return {
            p: OpenRequest(
                run=self.spec.run,
                step=self.step,
                hop=hop,
                sealed=addressed(p, peers, sealed),
                corrections={},
                coin_seeds={},
                coin_words={},
            )
            for p, peers in senders.items()
            if peers or hop == 1
        }

    def _roles(self, pair: tuple[str, str]) -> tuple[str, str]:
        """(offering party, the other)."""
        first = (
            homomorphic_tables.offering(product_of(self.spec, *pair, self.n_slots)) is Role.FIRST
        )
        return pair if first else (pair[1], pair[0])
