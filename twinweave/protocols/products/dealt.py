"""Products from dealt randomness (`protocol.cross_tables=secret_sharing`): both ends.

Commodity-based secure product: Beaver, "Commodity-based cryptography" (STOC 1997), in the
matrix form of Du and Atallah (2001). The server deals correlated randomness

    R_P, r_P to the first party P,    R_Q, r_Q = R_P^T R_Q - r_P to the second party Q.

P sends X_P + R_P to Q, and Q sends X_Q + R_Q to P, both sealed against the server. Then

    s_Q = (X_P + R_P)^T X_Q + r_Q,    s_P = r_P - R_P^T (X_Q + R_Q),    s_P + s_Q = X_P^T X_Q

in Z_{2^k}, exactly. Differs: R_P, r_P and R_Q expand from 32-byte seeds, r_Q alone travels.
The server knows R_P and r_P, so a bare s_P would show it R_P^T X_Q: `opening` sends none.

A dealer that deviates. With other seeds or another r_Q than these, s_P + s_Q is X_P^T X_Q plus
r_P + r_Q - R_P^T R_Q, a constant that the dealer knows and that depends on no data: its answers
are wrong, and it learns what it would have learned. Neither masked matrix reaches it in the clear,
nor can it hand over another one: they are sealed, sent once a pass, and bound into what is opened.
Seeds that come twice would put two matrices under one mask; a party refuses them.

| | party | server |
|---|---|---|
| share | `mask`: its matrix under dealt masks for the peer, sealed | `deal`: seeds to each |
| open | `finish_first`, `finish_second`: its share; opens it | deals r_Q and coins, adds up |
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from twinweave import progress
from twinweave.errors import ProtocolError
from twinweave.protocols.keystream import KEY_BYTES, Keystream, hkdf
from twinweave.protocols.products import coins
from twinweave.protocols.products.blocks import BlockSet
from twinweave.protocols.products.messages import OpenRequest, Sealed, addressed
from twinweave.protocols.products.opening import Product, coins_of
from twinweave.protocols.products.pair import Pair, product_of
from twinweave.protocols.products.state import Pass, hash_of
from twinweave.protocols.ring import Ring, check_array, dtype_of, matmul_t, next_words, row_chunks
from twinweave.protocols.wire import exactly
from twinweave.spec import RunSpec

# --- the product -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Deal:
    """Correlated randomness of one product.

    seeds: 32 bytes for each party; R_P and r_P expand from the first's, R_Q from the second's.
    correction: r_Q for the second party, ring of `pair.shape`.
    """

    seeds: Mapping[str, bytes] = field(repr=False)
    correction: Ring = field(repr=False)


def deal(pair: Pair, secret: bytes) -> Deal:
    """Server: deal for one product. secret: 32 fresh bytes, never used for another product."""
    seeds = {p: hkdf(secret, "product", *pair.parties, p) for p in pair.parties}
    left, right = (_matrix_stream(seed) for seed in seeds.values())
    total = np.negative(_first_correction(pair, seeds[pair.first.party]))
    for rows in row_chunks(pair.n_slots, max(pair.shape)):
        n = rows.stop - rows.start
        total += matmul_t(
            next_words(left, (n, pair.first.width), pair.bits),
            next_words(right, (n, pair.second.width), pair.bits),
        )
    return Deal(seeds=seeds, correction=total)


def mask(pair: Pair, blocks: BlockSet, seed: bytes) -> Ring:
    """Both parties: X + R, ring (n_slots, width). Uniform without the seed: seal it for the peer.

    Never send two of them under one seed: their difference would be unmasked.
    """
    pair.check_blocks(blocks, blocks.layout.party)
    width, stream = blocks.layout.width, _matrix_stream(seed)
    masked = np.empty((pair.n_slots, width), dtype=dtype_of(pair.bits))
    for rows in row_chunks(pair.n_slots, width):
        masked[rows] = next_words(stream, (rows.stop - rows.start, width), pair.bits)
        blocks.add_to(masked[rows], rows)
    return masked


def finish_first(pair: Pair, seed: bytes, masked: Ring) -> Ring:
    """First party: its share s_P, ring of `pair.shape`. masked: the peer's X_Q + R_Q."""
    check_array(masked, (pair.n_slots, pair.second.width), pair.bits, "masked matrix")
    stream, share = _matrix_stream(seed), _first_correction(pair, seed)
    for rows in row_chunks(pair.n_slots, max(pair.shape)):
        own = next_words(stream, (rows.stop - rows.start, pair.first.width), pair.bits)
        share -= matmul_t(own, masked[rows])
    return share


def finish_second(pair: Pair, blocks: BlockSet, correction: Ring, masked: Ring) -> Ring:
    """Second party: its share s_Q, ring of `pair.shape`. masked: the peer's X_P + R_P."""
    pair.check_blocks(blocks, pair.second.party)
    check_array(masked, (pair.n_slots, pair.first.width), pair.bits, "masked matrix")
    check_array(correction, pair.shape, pair.bits, "correction")
    share = correction.copy()
    for rows in row_chunks(pair.n_slots, max(pair.shape)):
        share += blocks.product_t(masked[rows], rows).T
    return share


def _matrix_stream(seed: bytes) -> Keystream:
    """Row-major, so that chunks of rows do not matter."""
    return Keystream(hkdf(seed, "matrix"))


def _first_correction(pair: Pair, seed: bytes) -> Ring:
    """r_P."""
    return next_words(Keystream(hkdf(seed, "correction")), pair.shape, pair.bits)


# --- the party's end ---------------------------------------------------------------------


@dataclass(frozen=True)
class DealtParty:
    """A party's end in one pass: both parties open at once."""

    here: Pass

    def check_share(self) -> None:
        """Raise ProtocolError unless seeds of 32 bytes came for every peer and table."""
        state, here = self.here.state, self.here
        exactly(state.seeds, here.peers, "dealt seeds")
        first = (peer for peer in here.peers if self._is_first(peer))
        tables = (str(i) for peer in first for i in self._coins[peer])
        exactly(state.coin_seeds, tables, "dealt seeds of coins")
        if any(len(s) != KEY_BYTES for s in (*state.seeds.values(), *state.coin_seeds.values())):
            raise ProtocolError(f"a dealt seed has {KEY_BYTES} bytes. Start a new run.")

    def given(self, peer: str) -> bytes:
        """The own matrix under dealt masks; behind it the first's shares of tested coins."""
        parts = [self.masked(peer).tobytes()]
        for i, dealt in self._coins[peer].items() if self._is_first(peer) else ():
            with self._counted(peer, i):
                shown = coins.shown(dealt, self._coin_seed(i), self._places(peer, i, dealt))
            parts.append(shown.tobytes())
        return b"".join(parts)

    def masked(self, peer: str) -> Ring:
        """The own matrix under dealt masks."""
        pair = self.here.pair(peer)
        return mask(pair, self.here.blocks(pair), self.here.state.seeds[peer])

    def opens(self, peer: str, hop: int) -> bool:  # noqa: ARG002 (with every peer alike)
        """Whether this party opens the tables with the peer in this hop of `query.open`."""
        return hop == 1

    def check_open(self, request: OpenRequest) -> None:
        """Raise ProtocolError unless corrections and words came for every peer and table."""
        second = [peer for peer in self.here.peers if not self._is_first(peer)]
        exactly(request.corrections, second, "dealt corrections")
        tables = (str(i) for peer in second for i in self._coins[peer])
        exactly(request.coin_words, tables, "dealt words of coins")

    def product(self, peer: str, request: OpenRequest) -> Product:
        """This party's share of the product with the peer, and of the coins of its tables.

        Nothing is charged or drawn yet.
        """
        here, pair = self.here, self.here.pair(peer)
        arrived = here.unseal(peer, here.shared_in, request.sealed[peer])
        theirs, shown = self._parts(peer, arrived)
        if self._is_first(peer):
            share = finish_first(pair, here.state.seeds[peer], theirs)
        else:
            share = finish_second(pair, here.blocks(pair), request.corrections[peer], theirs)
        bound = here.bound(peer, here.state.sent[peer], hash_of(arrived), share)
        heads = {}
        for i, dealt in self._coins[peer].items():
            places = self._places(peer, i, dealt)
            signs = hkdf(here.secret(peer), "signs", here.opened_in, bound, str(i))
            with self._counted(peer, i):
                if self._is_first(peer):
                    heads[i] = coins.first_heads(dealt, self._coin_seed(i), places, signs)
                else:
                    words = request.coin_words[str(i)]
                    heads[i] = coins.second_heads(dealt, words, shown[i], places, signs)
        return Product(share=share, bound=bound, heads=heads)

    def _counted(self, peer: str, index: int) -> AbstractContextManager[None]:
        """To work in on the coins of a table with the peer: of all that this party has."""
        before, total = self._work
        own = self._coins[peer][index]
        return progress.part("coins", before[peer, index], own.rounds * own.dealt, total)

    @cached_property
    def _work(self) -> tuple[dict[tuple[str, int], int], int]:
        """Coins to work on before those of each (peer, table), and in all."""
        done, before = 0, {}
        for peer, tables in self._coins.items():
            for index, dealt in tables.items():
                before[peer, index] = done
                done += dealt.rounds * dealt.dealt
        return before, done

    def _parts(self, peer: str, arrived: bytes) -> tuple[Ring, dict[int, NDArray[np.uint8]]]:
        """The peer's masked matrix, and what it shows of tested coins. Raises ProtocolError."""
        pair, shown = self.here.pair(peer), {} if self._is_first(peer) else self._coins[peer]
        shape, dtype = (pair.n_slots, pair.layout(peer).width), dtype_of(pair.bits)
        sizes = [prod(shape) * dtype.itemsize, *(prod(c.shown) for c in shown.values())]
        if len(arrived) != sum(sizes):
            raise ProtocolError(f"the masked matrix of {peer!r} has another size. Start a new run.")
        matrix, *parts = np.split(np.frombuffer(arrived, np.uint8), np.cumsum(sizes)[:-1])
        found = zip(shown.items(), parts, strict=True)
        return matrix.view(dtype).reshape(shape), {i: p.reshape(c.shown) for (i, c), p in found}

    def _is_first(self, peer: str) -> bool:
        return self.here.pair(peer).is_first(self.here.party.name)

    @cached_property
    def _coins(self) -> dict[str, dict[int, coins.Coins]]:
        """The dealt coins of the tables with each peer, by index in the plan."""
        here = self.here
        return {peer: coins_of(here.pair(peer), here.tables(peer)) for peer in here.peers}

    def _coin_seed(self, index: int) -> bytes:
        return self.here.state.coin_seeds[str(index)]

    def _places(self, peer: str, index: int, dealt: coins.Coins) -> coins.Places:
        """The same at both, and drawn only once a pass for a table: one deal is looked at."""
        secret = hkdf(self.here.secret(peer), "places", self.here.shared_in, str(index))
        return coins.Places.of(dealt, secret)


# --- the server's end --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DealtServer:
    """The server's end in one pass: every party opens in one hop.

    secret: 32 bytes of the server in this run. What is dealt follows from it, the pass and the
    run, so that a request can be sent again as it was.
    """

    spec: RunSpec
    n_slots: int
    step: int
    secret: bytes = field(repr=False)

    @property
    def hops(self) -> int:
        """Times that `query.open` is asked."""
        return 1

    @cached_property
    def _deals(self) -> dict[tuple[str, str], tuple[Pair, Deal]]:
        """Once a pass."""
        products = {
            pair: product_of(self.spec, *pair, self.n_slots) for pair in self.spec.tables.pairs()
        }
        return {
            names: (pair, deal(pair, self._drawn("deal", *names)))
            for names, pair in products.items()
        }

    @cached_property
    def _coin_secrets(self) -> dict[str, bytes]:
        """Once a pass, by table."""
        return {i: self._drawn("coins", i) for i in map(str, range(len(self.spec.plan)))}

    def _drawn(self, *purpose: str) -> bytes:
        """32 bytes for one purpose of this pass alone."""
        return hkdf(self.secret, "dealer", self.spec.run, str(self.step), *purpose)

    def _coins(self, pair: Pair) -> dict[str, coins.Coins]:
        found = coins_of(pair, self.spec.tables.crossing(*pair.parties))
        return {str(i): dealt for i, dealt in found.items()}

    def seeds(self, party: str) -> dict[str, bytes]:
        """What is dealt to a party for `query.share`, by peer."""
        deals = [(pair, dealt) for pair, dealt in self._deals.values() if party in pair.parties]
        return {pair.other(party).party: dealt.seeds[party] for pair, dealt in deals}

    def coin_seeds(self, party: str) -> dict[str, bytes]:
        """What is dealt to a party for `query.share`, by table: to the first of its pair."""
        first = [pair for pair, _ in self._deals.values() if pair.first.party == party]
        return {i: coins.seed(self._coin_secrets[i]) for pair in first for i in self._coins(pair)}

    def requests(self, hop: int, sealed: Sealed) -> dict[str, OpenRequest]:
        """Whom to ask what in a hop. sealed: of `query.share`, then of the hop before."""
        requests = {
            p: OpenRequest(
                run=self.spec.run,
                step=self.step,
                hop=hop,
                sealed=addressed(p, self.spec.tables.peers(p), sealed),
            )
            for p in self.spec.parties
        }
        for (first, second), (_, dealt) in self._deals.items():
            requests[second].corrections[first] = dealt.correction
        work = [
            ((second, i, asked), asked.rounds * asked.dealt)
            for (_, second), (pair, _) in self._deals.items()
            for i, asked in self._coins(pair).items()
        ]
        for (second, i, asked), counted_in in progress.parts("deal", work):
            with counted_in:
                requests[second].coin_words[i] = coins.words(asked, self._coin_secrets[i])
        return requests
