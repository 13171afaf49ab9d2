"""Products from dealt randomness (`protocol.cross_tables=secret_sharing`): both ends.

| | party | server |
|---|---|---|
| share | seals its masked matrix for the peer | deals a seed to each |
| open | adds its share's noise, and opens it | deals corrections and coins, relays, adds up |
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from twinweave.privacy.guard import Receipt
from twinweave.protocols.products.cross_tables import (
    CoinsFirst,
    CoinsSecond,
    DealFirst,
    DealSecond,
    Pair,
    Role,
    deal,
    deal_coins,
    finish_first,
    finish_second,
    mask,
)
from twinweave.protocols.products.messages import OpenRequest
from twinweave.protocols.products.pair import Opened, Pass, Sealed, addressed, openings, product_of
from twinweave.protocols.ring import Ring, dtype_of
from twinweave.spec import RunSpec

Coins = tuple[dict[str, bytes], dict[str, NDArray[np.uint8]]]


@dataclass(frozen=True)
class DealtParty:
    """A party's end in one pass: both parties open at once."""

    here: Pass

    def check(self) -> None:
        """Every product of a plan fits: rings grow with the sizes."""

    def given(self, peer: str) -> bytes | None:
        """The own matrix under dealt masks, sealed for the peer."""
        return self.here.seal(peer, self.here.shared_in, self.masked(peer))

    def masked(self, peer: str) -> Ring:
        """The own matrix under dealt masks."""
        here, pair = self.here, self.here.pair(peer)
        seed = here.state.seeds[peer]
        dealt: DealFirst | DealSecond = DealFirst(seed=seed)
        if pair.role(here.party.name) is Role.SECOND:
            dealt = DealSecond(seed=seed, correction=np.zeros(pair.shape, dtype_of(pair.bits)))
        return mask(pair, here.blocks(pair), dealt)

    def opens(self, peer: str, hop: int) -> bool:  # noqa: ARG002 (with every peer alike)
        return hop == 1

    def opened(self, peer: str, request: OpenRequest, receipt: Receipt) -> Opened:
        """Shares with noise of every table with the peer."""
        here, pair = self.here, self.here.pair(peer)
        role = pair.role(here.party.name)
        other = Role.SECOND if role is Role.FIRST else Role.FIRST
        arrived = here.arrived(peer, here.shared_in, request)
        shape = pair.n_slots, pair.layout(other).width
        theirs: Ring = np.frombuffer(arrived, dtype_of(pair.bits)).reshape(shape)
        seed = here.state.seeds[peer]
        named = [str(i) for i, p in here.tables(peer).items() if p.coins is not None]
        coins: CoinsFirst | CoinsSecond
        if role is Role.FIRST:
            share = finish_first(pair, DealFirst(seed=seed), theirs)
            coins = CoinsFirst(seeds=tuple(request.coin_seeds[i] for i in named))
        else:
            dealt = DealSecond(seed=seed, correction=request.corrections[peer])
            share = finish_second(pair, here.blocks(pair), dealt, theirs)
            coins = CoinsSecond(words=tuple(request.coin_words[i] for i in named))
        return Opened(shares=here.noisy(peer, pair, share, coins, receipt))


@dataclass(frozen=True, kw_only=True)
class DealtServer:
    """The server's end in one pass: every party opens in one hop."""

    spec: RunSpec
    n_slots: int
    step: int

    @property
    def hops(self) -> int:
        return 1

    @cached_property
    def _deals(self) -> dict[tuple[str, str], tuple[Pair, DealFirst, DealSecond]]:
        """Fresh ones, once a pass."""
        products = {pair: product_of(self.spec, *pair, self.n_slots) for pair in self.spec.pairs()}
        return {pair: (p, *deal(p, os.urandom(32))) for pair, p in products.items()}

    def seeds(self, party: str) -> dict[str, bytes]:
        """What is dealt to a party for `query.share`, by peer."""
        seeds = {b: first.seed for (a, b), (_, first, _) in self._deals.items() if a == party}
        return seeds | {a: two.seed for (a, b), (_, _, two) in self._deals.items() if b == party}

    def requests(self, hop: int, sealed: Sealed) -> dict[str, OpenRequest]:
        """Whom to ask what in a hop. sealed: of `query.share`, then of the hop before."""
        coins = {pair: self._coins(*pair) for pair in self._deals}
        return {
            p: OpenRequest(
                run=self.spec.run,
                step=self.step,
                hop=hop,
                sealed=addressed(p, self.spec.peers(p), sealed),
                corrections={a: d[2].correction for (a, b), d in self._deals.items() if b == p},
                coin_seeds={k: v for (a, _), c in coins.items() if a == p for k, v in c[0].items()},
                coin_words={k: v for (_, b), c in coins.items() if b == p for k, v in c[1].items()},
            )
            for p in self.spec.parties
        }

    def _coins(self, first: str, second: str) -> Coins:
        plans = openings(self.spec, first, second)
        named = [str(i) for i, p in self.spec.crossing(first, second).items() if p.coins]
        for_first, for_second = deal_coins(self._deals[first, second][0], plans, os.urandom(32))
        return (
            dict(zip(named, for_first.seeds, strict=True)),
            dict(zip(named, for_second.words, strict=True)),
        )
