"""Products from dealt randomness (`protocol.cross_tables=secret_sharing`): both ends.

Commodity-based secure product: Beaver, "Commodity-based cryptography" (STOC 1997), in the
matrix form of Du and Atallah (2001). The server deals correlated randomness

    R_P, r_P to the first party P,    R_Q, r_Q = R_P^T R_Q - r_P to the second party Q.

P sends X_P + R_P to Q, and Q sends X_Q + R_Q to P, both sealed against the server. Then

    s_Q = (X_P + R_P)^T X_Q + r_Q,    s_P = r_P - R_P^T (X_Q + R_Q),    s_P + s_Q = X_P^T X_Q

in Z_{2^k}, exactly. Differs: R_P, r_P and R_Q expand from 32-byte seeds, r_Q alone travels.
The server knows R_P and r_P, so a bare s_P would show it R_P^T X_Q: `opening` sends none.

| | party | server |
|---|---|---|
| share | `mask`: seals its matrix under dealt masks for the peer | `deal`: a seed to each |
| open | `finish_first`, `finish_second`: its share; opens it | deals r_Q and coins, adds up |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from twinweave.protocols.keystream import Keystream, hkdf
from twinweave.protocols.products import coins
from twinweave.protocols.products.blocks import BlockSet
from twinweave.protocols.products.messages import OpenRequest, Sealed, addressed
from twinweave.protocols.products.opening import Product, coins_of
from twinweave.protocols.products.pair import Pair, product_of
from twinweave.protocols.products.state import Pass
from twinweave.protocols.ring import Ring, check_array, dtype_of, matmul_t, next_words, row_chunks
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

    def given(self, peer: str) -> bytes | None:
        """The own matrix under dealt masks, sealed for the peer."""
        return self.here.seal(peer, self.here.shared_in, self.masked(peer))

    def masked(self, peer: str) -> Ring:
        """The own matrix under dealt masks."""
        pair = self.here.pair(peer)
        return mask(pair, self.here.blocks(pair), self.here.state.seeds[peer])

    def opens(self, peer: str, hop: int) -> bool:  # noqa: ARG002 (with every peer alike)
        """Whether this party opens the tables with the peer in this hop of `query.open`."""
        return hop == 1

    def product(self, peer: str, request: OpenRequest) -> Product:
        """This party's share of the product with the peer, and of the coins of its tables.

        Nothing is charged or drawn yet.
        """
        here, pair = self.here, self.here.pair(peer)
        is_first = pair.is_first(here.party.name)
        arrived = here.arrived(peer, here.shared_in, request)
        shape = pair.n_slots, pair.other(here.party.name).width
        theirs: Ring = np.frombuffer(arrived, dtype_of(pair.bits)).reshape(shape)
        if is_first:
            share = finish_first(pair, here.state.seeds[peer], theirs)
        else:
            share = finish_second(pair, here.blocks(pair), request.corrections[peer], theirs)
        heads = {}
        for i, planned in here.tables(peer).items():
            if dealt := coins_of(pair, planned):
                signs = Keystream(hkdf(here.secret(peer), "signs", here.opened_in, str(i)))
                if is_first:
                    heads[i] = coins.first_heads(dealt, request.coin_seeds[str(i)], signs)
                else:
                    heads[i] = coins.second_heads(dealt, request.coin_words[str(i)], signs)
        return Product(share=share, heads=heads)


# --- the server's end --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DealtServer:
    """The server's end in one pass: every party opens in one hop."""

    spec: RunSpec
    n_slots: int
    step: int

    @property
    def hops(self) -> int:
        """Times that `query.open` is asked."""
        return 1

    @cached_property
    def _deals(self) -> dict[tuple[str, str], tuple[Pair, Deal]]:
        """Fresh ones, once a pass."""
        products = {
            pair: product_of(self.spec, *pair, self.n_slots) for pair in self.spec.tables.pairs()
        }
        return {names: (pair, deal(pair, os.urandom(32))) for names, pair in products.items()}

    def seeds(self, party: str) -> dict[str, bytes]:
        """What is dealt to a party for `query.share`, by peer."""
        deals = [(pair, dealt) for pair, dealt in self._deals.values() if party in pair.parties]
        return {pair.other(party).party: dealt.seeds[party] for pair, dealt in deals}

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
        for (first, second), (pair, dealt) in self._deals.items():
            requests[second].corrections[first] = dealt.correction
            for i, planned in self.spec.tables.crossing(first, second).items():
                if asked := coins_of(pair, planned):
                    seed, words = coins.deal(asked, os.urandom(32))
                    requests[first].coin_seeds[str(i)] = seed
                    requests[second].coin_words[str(i)] = words
        return requests
