"""Secure sum under homomorphic encryption: CKKS (Cheon, Kim, Kim, Song, ASIACRYPT 2017).

The first party draws a key, as a 32-byte seed, and seals it for every other party; the server
never has it. Each party encrypts its encoded vector; the server adds the ciphertexts; one party
a round (the round's number picks it) decrypts the sum and returns it.

Exact, not approximate: what is encrypted are the whole numbers of the plan's fixed point, and
the sum's noise stays a thousand times (in standard deviations) below half a unit, so rounding
gives the true sum. That matters beyond accuracy: an approximate decryption contains the
ciphertext's noise, and who sees it can solve for the key (Li and Micciancio, EUROCRYPT 2021:
IND-CPA-D). Here what leaves the decrypting party is a function of the plaintexts alone. The sum
itself is, as in every protocol here, protected by the differential privacy of its parts.

| who | learns |
|---|---|
| server | who took part, the vectors' length, the sum |
| the party that decrypts | the sum; its ciphertext's noise, a sum of all parties' |
| another party | nothing (it has the key, but no ciphertext travels to it) |
| server and any one party | every vector: the party has the key. The other two protocols and a
  plan with `colluding` withstand that, so this one is refused for `colluding` above 0 |
| outsider | nothing |

A server that breaks the protocol and has one ciphertext decrypted in place of the sum, or some
twice, or those of another round, is noticed: each ciphertext carries a secret tag that its
sender and the decrypting party expand from the seed, and the tags' sum must be that of the
parties said to be in it. That covers sums with whole multiples, not every manipulation that
CKKS allows: against an active server choose `masking`.

A party that drops out before its upload is not in the sum; without the round's decrypting party
it cannot be opened, and the next round's number picks another.

Sizes: degree 4096, one prime of 60 bits (109 are allowed at 128 bits), 4,095 values a ciphertext
(real and imaginary parts); symmetric encryption, so one polynomial of two is a seed: 8 bytes a
value up, 16 for the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError, ProtocolError
from twinweave.protocols import lattice
from twinweave.protocols.channel.keys import open_sealed, seal
from twinweave.protocols.keystream import KEY_BYTES, Keystream, hkdf
from twinweave.protocols.secure_sum import rounds
from twinweave.protocols.secure_sum.interface import Revealed, RevealRequest, SumParty, Upload
from twinweave.protocols.secure_sum.plan import SumPlan

PHASE = "secure_sum.key"
FIELD = "protocol.secure_sum"
PARAMETERS = lattice.Parameters(field=FIELD, degree=4096, prime_bits=(60,))
SCALE = 2.0**26  # sums below 2**31 then use 58 of the 60 bits (a slot is complex: sqrt(2) more)
VALUES = PARAMETERS.degree - 1  # in one ciphertext, beside the tag
MAX_PARTIES = 1024
_TAG_BITS = 20  # sums of MAX_PARTIES tags stay below 2**31
# One text whatever is wrong: which rule a ciphertext breaks would tell of what it decrypts to.
_NOT_THE_SUM = "secure sum: the ciphertext is not the sum of this round's vectors. Refused."
_ROUNDING = 0.25  # noise above this is never honest: 6e-6 units from 100 parties


def check(plan: SumPlan) -> None:
    """Raise ConfigError unless this protocol can carry the plan and is installed."""
    if plan.encoding.bits != 32:
        raise ConfigError(
            FIELD, "homomorphic carries 32-bit encodings only", "Use 32 bits, or masking."
        )
    if plan.colluding:
        raise ConfigError(
            FIELD,
            "every party holds the key of a homomorphic sum, so it withstands no party "
            "that colludes with the server",
            "Set protocol.colluding=0, or use masking or secret_sharing.",
        )
    if len(plan.parties) > MAX_PARTIES:
        raise ConfigError(FIELD, f"homomorphic adds up to {MAX_PARTIES} parties", "Use masking.")
    lattice.available(FIELD)


def decrypts(plan: SumPlan, round_: int) -> str:
    """The one party that is asked to decrypt the sum of a round."""
    return plan.parties[round_ % len(plan.parties)]


@dataclass(frozen=True, kw_only=True, eq=False)
class HomomorphicParty(SumParty):
    """A party's end. Its peer is the first party; that party's are all others.

    Raises ConfigError as `check`.
    """

    def __post_init__(self) -> None:
        check(self.plan)
        super().__post_init__()

    @staticmethod
    def peers(plan: SumPlan, own: str) -> tuple[str, ...]:
        first = plan.parties[0]
        return plan.parties[1:] if own == first else (first,)

    @property
    def _is_first(self) -> bool:
        return self.own == self.plan.parties[0]

    @property
    def needs_no_request(self) -> bool:
        return decrypts(self.plan, self.plan.rounds - 1) != self.own

    def deal(self) -> dict[str, bytes]:
        """The key's seed, sealed, by receiver; nothing from any party but the first."""
        if not self._is_first:
            return {}
        label = self.plan.digest
        return {
            peer: seal(self._seed(), keys=self.keys[peer], phase=PHASE, label=label)
            for peer in self.plan.parties[1:]
        }

    def accept(self, sealed: Mapping[str, bytes]) -> HomomorphicParty:
        """Keep the key's seed. Raises ChannelError, or ProtocolError where it lacks."""
        first = self.plan.parties[0]
        expected = set() if self._is_first else {first}
        if set(sealed) != expected:
            raise ProtocolError(
                f"secure sum: nothing dealt by {first!r}, or by others too. "
                "The first party deals the key; set up again."
            )
        if self._is_first:
            return self
        label = self.plan.digest
        seed = open_sealed(sealed[first], keys=self.keys[first], phase=PHASE, label=label)
        if len(seed) != KEY_BYTES:
            raise ProtocolError("secure sum: the dealt key is cut. Set up again.")
        return self._keeping({first: seed})

    def protect(
        self, values: NDArray[np.floating[Any]], round_: int, terms: str = ""
    ) -> tuple[HomomorphicParty, Upload]:
        """Encode and encrypt: `words`, uint8, the ciphertexts."""
        seed = self._seed()
        progress = rounds.begin(self.plan, self.progress, round_, terms)
        units = self.plan.encoding.encode(values).view(np.int32)
        count = _ciphertexts(len(units))
        padded = np.zeros(count * VALUES)
        padded[: len(units)] = units
        tags = _tags(self.plan, seed, self.own, round_, terms, count)
        slots = np.column_stack([padded.reshape(count, VALUES), tags])
        blob = lattice.join(_encrypt(PARAMETERS.secret_key(seed), slots))
        words = np.frombuffer(blob, np.uint8)
        return replace(self, progress=progress), Upload(words=words)

    def reveal(self, request: RevealRequest) -> tuple[HomomorphicParty, Revealed]:
        """The decrypted sum: `words`, uint32 (whole ciphertexts of VALUES; beyond d zero).

        Raises ProtocolError: another party decrypts this round; another set of survivors than
        before; a ciphertext that is not the sum of the vectors of these parties in this round;
        too few parties.
        """
        plan, seed = self.plan, self._seed()
        rounds.check_round(plan, request.round)
        if decrypts(plan, request.round) != self.own:
            raise ProtocolError(
                f"secure sum: {self.own!r} does not decrypt round {request.round}. Refused."
            )
        rounds.check_alive(plan, request.alive, self.own, ())
        progress = rounds.answer(self.progress, request)
        terms = progress.terms[str(request.round)]
        units = _rounded(_decrypt(PARAMETERS.secret_key(seed), request.words))
        present = [party for party, alive in request.alive.items() if alive]
        tags = sum(_tags(plan, seed, p, request.round, terms, len(units)) for p in present)
        if not np.array_equal(units[:, VALUES], tags):
            raise ProtocolError(_NOT_THE_SUM)
        words = units[:, :VALUES].ravel().astype(np.int32).view(np.uint32)
        return replace(self, progress=progress), Revealed(words=words)

    def _seed(self) -> bytes:
        """The seed of the sum's key: own at the first party, dealt elsewhere."""
        if self._is_first:
            return hkdf(self.secret, "secure sum: key", self.plan.digest)
        seed = self.progress.shares.get(self.plan.parties[0])
        if seed is None:
            raise ProtocolError("secure sum: no key yet. Accept what the first party dealt.")
        return seed


class HomomorphicServer:
    """The server's end of one round: adds ciphertexts as they come. It has no key."""

    def __init__(self, plan: SumPlan, *, round_: int, length: int) -> None:
        """length: of the values, d. Memory: 16 bytes a value. Raises ConfigError as `check`."""
        check(plan)
        self._plan = plan
        self._round = round_
        self._length = length
        self._list = rounds.Attendance(plan, round_)
        self._total: list[Any] = []

    def add(self, party: str, upload: Upload) -> None:
        """Add one upload. Raises ProtocolError: unknown, second or late party, other sizes."""
        self._list.check(party)
        evaluator = lattice.available(FIELD).Evaluator(PARAMETERS.context())
        loaded = _load(upload.words, f"secure sum: the upload of {party!r}")
        if len(loaded) != _ciphertexts(self._length):
            raise ProtocolError(f"secure sum: the upload of {party!r} has another length.")
        for total, ciphertext in zip(self._total, loaded, strict=False):
            evaluator.add_inplace(total, ciphertext)
        self._total = self._total or loaded
        self._list.came.add(party)

    def requests(self) -> dict[str, RevealRequest]:
        """Fix who is in the sum and ask the round's party. Raises RunError without it."""
        asked = decrypts(self._plan, self._round)
        alive = self._list.close(needed=(asked,))
        blob = lattice.join(lattice.dump(ciphertext) for ciphertext in self._total)
        words = np.frombuffer(blob, np.uint8)
        return {asked: RevealRequest(round=self._round, alive=alive, words=words)}

    def finish(self, revealed: Mapping[str, Revealed]) -> NDArray[np.float64]:
        """Decode the decrypted sum: float64 (d,). Raises RunError without the answer."""
        asked = decrypts(self._plan, self._round)
        self._list.require((asked,), set(revealed), "answered")
        words = revealed[asked].words
        whole = _ciphertexts(self._length) * VALUES
        if set(revealed) != {asked} or words.shape != (whole,) or words.dtype != np.uint32:
            raise ProtocolError(f"secure sum: the answer of {asked!r} is not a sum of this length.")
        return self._plan.encoding.decode(words[: self._length])


def _ciphertexts(length: int) -> int:
    return -(-length // VALUES)


def _tags(
    plan: SumPlan, seed: bytes, party: str, round_: int, terms: str, count: int
) -> NDArray[np.int64]:
    """A party's secret tag of each ciphertext of a round: uniform in 0..2**20 - 1."""
    stream = Keystream(hkdf(seed, "secure sum: tags", plan.digest, str(round_), terms, party))
    return (stream.words32(count) >> np.uint32(32 - _TAG_BITS)).astype(np.int64)


def _encrypt(key: Any, slots: NDArray[np.float64]) -> list[bytes]:
    """float64 (ciphertexts, degree), whole numbers -> one ciphertext a row."""
    api, context = lattice.available(FIELD), PARAMETERS.context()
    encoder, encryptor = api.CKKSEncoder(context), api.Encryptor(context, key)
    half = PARAMETERS.degree // 2
    made = []
    for row in slots:
        plain = api.Plaintext()
        encoder.encode((row[:half] + 1j * row[half:]).tolist(), SCALE, plain)
        made.append(lattice.dump(encryptor.encrypt_symmetric(plain)))
    return made


def _decrypt(key: Any, words: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Summed ciphertexts -> float64 (ciphertexts, degree), noise included. ProtocolError."""
    api, context = lattice.available(FIELD), PARAMETERS.context()
    encoder, decryptor = api.CKKSEncoder(context), api.Decryptor(context, key)
    rows = []
    for ciphertext in _load(words, "secure sum: the sum to decrypt"):
        plain = api.Plaintext()
        decryptor.decrypt(ciphertext, plain)
        z = np.array(encoder.decode_complex(plain))
        rows.append(np.concatenate([z.real, z.imag]))
    return np.array(rows).reshape(-1, PARAMETERS.degree)


def _rounded(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The noise taken off. Raises ProtocolError where it is more than honest."""
    units = np.rint(values)
    # Written so that a NaN fails it.
    if not (np.all(np.abs(values - units) < _ROUNDING) and np.all(np.abs(units) < 2.0**31)):
        raise ProtocolError(_NOT_THE_SUM)
    whole: NDArray[np.int64] = units.astype(np.int64)
    return whole


def _load(words: NDArray[np.uint8], what: str) -> list[Any]:
    if words.dtype != np.uint8 or words.ndim != 1:
        raise ProtocolError(f"{what}: not ciphertexts. Run the same version everywhere.")
    loaded = [PARAMETERS.ciphertext(part, what) for part in lattice.split(words.data, what)]
    if any(ciphertext.scale != SCALE for ciphertext in loaded):
        raise ProtocolError(f"{what}: another scale. Run the same version everywhere.")
    return loaded
