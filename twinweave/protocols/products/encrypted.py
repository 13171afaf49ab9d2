"""Products under encryption (`protocol.cross_tables=homomorphic`, BFV, no dealer): both ends.

One party of each pair offers its matrix encrypted, the other answers under masks. Both end with
additive shares modulo 2**32 = t. Every table gets a discrete Gaussian from each party (variance
2 sigma**2): shared coins would need the dealer.

| | the offering party P | the other, Q | server |
|---|---|---|---|
| share | `offer`: its matrix under a key of its own | | |
| open, hop 1 | | `respond`: the products, masked; opens its share | relays the offer |
| open, hop 2 | `finish`: decrypts its share, opens it | | relays the answer, adds up |

How a matrix is packed into polynomials, and what keeps their noise from telling, is in `bfv`.
What hides Q's columns from P, who has the key (the server sees neither: both messages are sealed):
- every coefficient is shifted by a uniform element of Z_t, Q's share; P decrypts noise-free
  uniform numbers, cross terms included;
- a fresh encryption of zero under P's public key: the second polynomial, in which P knows all
  but y, then hides y as any RLWE sample hides its secret;
- noise flooding (Gentry's thesis, 2009; Asharov et al., EUROCRYPT 2012): the decryption's
  error depends on y, so Q adds to every coefficient a uniform integer so wide that the error's
  worst case shifts all coefficients of all ciphertexts by statistical distance 2**-40 or less.
  TenSEAL and SEAL offer no call for it; `lattice.Parameters.trivial` writes the shift as a
  ciphertext of its own.
Only then is the answer switched to the smallest modulus (half the bytes). What P could measure
but does not: how long Q took (columns nobody is in save time).

Who learns what: P its share (uniform), Q its share (uniform) and ciphertexts; the server
sizes, and what is opened. Server and a party together learn no more than that party: no dealer's
seeds. Not defended: a P that forms its key or ciphertexts dishonestly.

For small tables: the work grows with slots times cells. `bfv.check` refuses with an estimate.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from twinweave.errors import ProtocolError
from twinweave.protocols import lattice
from twinweave.protocols.keystream import hkdf
from twinweave.protocols.products import bfv
from twinweave.protocols.products.bfv import DEGREE, FIELD, chunks, sides
from twinweave.protocols.products.blocks import BlockSet
from twinweave.protocols.products.messages import OpenRequest, Sealed, addressed
from twinweave.protocols.products.opening import Product
from twinweave.protocols.products.pair import Pair, product_of
from twinweave.protocols.products.state import Pass, hash_of
from twinweave.protocols.ring import Ring
from twinweave.protocols.wire import exactly
from twinweave.spec import RunSpec

# --- the product -------------------------------------------------------------------------


def offer(pair: Pair, blocks: BlockSet, key: bytes) -> bytes:
    """Offering party, 1: its matrix under a key of its own. To be sealed for the other party.

    key: 32 secret bytes of this party for this product; `finish` needs the same. Encryption
    is randomised: repeat the stored bytes, not the call. Raises ConfigError as `bfv.check`.
    """
    bfv.check(pair)
    own, _ = sides(pair)
    pair.check_blocks(blocks, own.party)
    parameters = bfv.PARAMETERS
    api, secret_key = lattice.available(FIELD), parameters.secret_key(key)
    encryptor = api.Encryptor(parameters.context(), secret_key)
    parts = [lattice.dump(parameters.public_key(secret_key))]
    for rows in chunks(pair):
        plain = parameters.plaintext(bfv.offered(blocks, rows, own.width))
        parts.append(lattice.dump(encryptor.encrypt_symmetric(plain)))
    return lattice.join(parts)


def respond(pair: Pair, blocks: BlockSet, offered: bytes) -> tuple[Ring, bytes]:
    """Other party: its share, uint32 of `pair.shape`, and what to seal for the offering party.

    Both are randomised: repeat the stored bytes, not the call (two answers to one offer differ
    in the masks, and each hides the columns). Raises ProtocolError for a malformed offer;
    ConfigError as `bfv.check`.
    """
    bfv.check(pair)
    own, other = sides(pair)
    pair.check_blocks(blocks, other.party)
    parameters = bfv.PARAMETERS
    api, context = lattice.available(FIELD), parameters.context()
    evaluator = api.Evaluator(context)
    sums = _products(pair, blocks, offered)
    share = np.empty((own.width, other.width), np.uint32)
    answers = []
    for j, total in enumerate(sums):
        masks = np.frombuffer(secrets.token_bytes(4 * DEGREE), np.uint32)
        evaluator.add_inplace(total, parameters.trivial(bfv.shift(pair, parameters, masks)))
        evaluator.mod_switch_to_inplace(total, context.last_parms_id())
        answers.append(lattice.dump(total))
        share[:, j] = np.negative(masks[: own.width])
    return _oriented(pair, share), lattice.join(answers)


def finish(pair: Pair, key: bytes, answered: bytes) -> Ring:
    """Offering party, 2: its share, uint32 of `pair.shape`. Raises ProtocolError."""
    own, other = sides(pair)
    parameters = bfv.PARAMETERS
    what = f"the answer of {other.party!r}"
    parts = lattice.split(answered, what)
    if len(parts) != other.width:
        raise ProtocolError(f"{what}: not one ciphertext a column. Refused.")
    api, context = lattice.available(FIELD), parameters.context()
    decryptor = api.Decryptor(context, parameters.secret_key(key))
    share = np.zeros((own.width, other.width), np.uint32)
    for j, part in enumerate(parts):
        arrived, plain = parameters.ciphertext(part, what), api.Plaintext()
        lattice.checked(partial(decryptor.decrypt, arrived, plain), what)
        there = min(own.width, plain.coeff_count())  # leading zeros are cut
        share[:there, j] = [plain.data(i) for i in range(there)]
    return _oriented(pair, share)


def _products(pair: Pair, blocks: BlockSet, offered: bytes) -> list[Any]:
    """Ciphertexts of sum(x y_j) plus an encryption of zero, for each j; the error is bare."""
    own, other = sides(pair)
    parameters, what = bfv.PARAMETERS, f"the offer of {own.party!r}"
    head, *parts = lattice.split(offered, what) or [memoryview(b"")]
    slices = list(chunks(pair))
    if len(parts) != len(slices):
        raise ProtocolError(f"{what}: not one ciphertext a chunk of the spine. Refused.")
    public_key = parameters.load("PublicKey", head, what)
    api, context = lattice.available(FIELD), parameters.context()
    evaluator, encryptor = api.Evaluator(context), api.Encryptor(context, public_key)
    sums = [_zero(api, evaluator, encryptor) for _ in range(other.width)]
    for part, rows in zip(parts, slices, strict=True):
        arrived = parameters.ciphertext(part, what)
        lattice.checked(partial(evaluator.transform_to_ntt_inplace, arrived), what)
        for j, multiplier in bfv.multipliers(blocks, rows, own.width):
            plain, product = parameters.plaintext(multiplier), api.Ciphertext()
            evaluator.transform_to_ntt_inplace(plain, context.first_parms_id())
            evaluator.multiply_plain(arrived, plain, product)
            evaluator.add_inplace(sums[j], product)
    for total in sums:
        evaluator.transform_from_ntt_inplace(total)
    return sums


def _zero(api: Any, evaluator: Any, encryptor: Any) -> Any:
    """A fresh encryption of zero under the offering party's key, in NTT form."""
    made = api.Ciphertext()
    encryptor.encrypt_zero(made)
    evaluator.transform_to_ntt_inplace(made)
    return made


def _oriented(pair: Pair, share: Ring) -> Ring:
    """(offering, other) -> (first, second)."""
    return share if sides(pair)[0] is pair.first else np.ascontiguousarray(share.T)


# --- both ends ---------------------------------------------------------------------------


@dataclass(frozen=True)
class EncryptedParty:
    """A party's end in one pass."""

    here: Pass

    def check_share(self) -> None:
        """Raise ProtocolError where something was dealt: nobody deals here."""
        exactly(self.here.state.seeds | self.here.state.coin_seeds, (), "dealt seeds")

    def given(self, peer: str) -> bytes | None:
        """The own matrix encrypted; None from the party that answers."""
        here, pair = self.here, self.here.pair(peer)
        return offer(pair, here.blocks(pair), self._key(peer)) if self._offers(pair) else None

    def opens(self, peer: str, hop: int) -> bool:
        return hop == (2 if self._offers(self.here.pair(peer)) else 1)

    def check_open(self, request: OpenRequest) -> None:
        """Raise ProtocolError where something was dealt: nobody deals here."""
        exactly(request.corrections | request.coin_words, (), "dealt randomness")

    def product(self, peer: str, request: OpenRequest) -> Product:
        """This party's share of the product with the peer, and the answer to its offer."""
        here, pair = self.here, self.here.pair(peer)
        if self._offers(pair):
            answered = here.unseal(peer, here.opened_in, request.sealed[peer])
            share = finish(pair, self._key(peer), answered)
            bound = here.bound(peer, here.state.sent[peer], hash_of(answered), share)
            return Product(share=share, bound=bound)
        offered = here.unseal(peer, here.shared_in, request.sealed[peer])
        share, answer = respond(pair, here.blocks(pair), offered)
        bound = here.bound(peer, hash_of(answer), hash_of(offered), share)
        sealed = here.seal(peer, here.opened_in, answer)
        return Product(share=share, bound=bound, answer=sealed)

    def _offers(self, pair: Pair) -> bool:
        return sides(pair)[0].party == self.here.party.name

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
        return 2 if self.spec.tables.pairs() else 1

    def seeds(self, party: str) -> dict[str, bytes]:  # noqa: ARG002
        return {}

    def coin_seeds(self, party: str) -> dict[str, bytes]:  # noqa: ARG002
        return {}

    def requests(self, hop: int, sealed: Sealed) -> dict[str, OpenRequest]:
        """Hop 1 to all: who offers has shares for the secure sums to deal. Hop 2 to who offered."""
        senders: dict[str, list[str]] = {p: [] for p in self.spec.parties}
        for pair in self.spec.tables.pairs():
            offering, other = (s.party for s in sides(product_of(self.spec, *pair, self.n_slots)))
            sender, receiver = (offering, other) if hop == 1 else (other, offering)
            senders[receiver].append(sender)
        return {
            p: OpenRequest(
                run=self.spec.run,
                step=self.step,
                hop=hop,
                sealed=addressed(p, peers, sealed),
            )
            for p, peers in senders.items()
            if peers or hop == 1
        }
