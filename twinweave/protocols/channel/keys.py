"""What one party tells another through the server, sealed end to end.

Each party has a long-lived Ed25519 identity (RFC 8032), whose public half the others have
pinned out of band. For every run it signs a fresh X25519 key (RFC 7748) together with its name,
the run and the hash of the run specification: the `Hello`. Two hellos give a pair of parties a
root secret (HKDF, RFC 5869); the root gives every message its own AES-256-GCM key (RFC 5116,
NIST SP 800-38D). AES-GCM was chosen over ChaCha20-Poly1305 by measurement (2 to 3 times faster
with AES instructions).

The server relays hellos and sealed messages and can drop or repeat them; it cannot read them,
alter them, or pass one off as a message of another run, phase, label, sender or receiver.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twinweave.errors import ChannelError
from twinweave.names import MOST_CHARACTERS
from twinweave.parsing import canonical_json
from twinweave.protocols.channel.identity import Identity, pinned_key
from twinweave.protocols.keystream import encode_context, hkdf

MAX_ROWS = 1 << 40
SEGMENT_BYTES = 1 << 20
TAG_BYTES = 16
_SALT_BYTES = 32
_PREFIX_BYTES = 7
_MAGIC = b"TWS1"


@dataclass(frozen=True, kw_only=True)
class Hello:
    """A party's signed, ephemeral key for one run, and what its peers must know of it.

    spec_hash: hash of the run specification that the party accepted; rows: of its table, so
    that no server chooses the sizes that a peer reckons with; holdout: by which the parties see
    that they set the same users aside, "" where they set nobody; public_key: 32 bytes, X25519;
    signature: 64 bytes, Ed25519, over all the other fields.
    """

    party: str
    run_id: str
    spec_hash: str
    rows: int
    public_key: bytes
    signature: bytes
    holdout: str = ""

    def __post_init__(self) -> None:
        for name in ("party", "run_id", "spec_hash"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ChannelError(f"hello: {name} is not a text. Send a hello of this version.")
        if type(self.rows) is not int or not 0 <= self.rows < MAX_ROWS:
            raise ChannelError("hello: rows are not a table's size. Send a hello of this version.")
        if not isinstance(self.holdout, str) or len(self.holdout) > MOST_CHARACTERS:
            raise ChannelError("hello: holdout is not a text. Send a hello of this version.")
        for name, size in (("public_key", 32), ("signature", 64)):
            value = getattr(self, name)
            if not isinstance(value, bytes) or len(value) != size:
                raise ChannelError(f"hello: {name} is not {size} bytes. Send one of this version.")

    def dumps(self) -> str:
        """As text, for the messages that carry it."""
        return canonical_json(
            {
                name: value.hex() if isinstance(value, bytes) else value
                for name, value in vars(self).items()
            }
        )

    @classmethod
    def loads(cls, text: str) -> Hello:
        """Inverse of `dumps`. Raises ChannelError on anything else."""
        try:
            data = json.loads(text)
            data["public_key"] = bytes.fromhex(data["public_key"])
            data["signature"] = bytes.fromhex(data["signature"])
            return cls(**data)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ChannelError("a hello is malformed. Send one of this version.") from None


def _signed_part(
    party: str, run_id: str, spec_hash: str, rows: int, public_key: bytes, holdout: str
) -> bytes:
    told = party, run_id, spec_hash, str(rows), public_key, holdout
    return encode_context("twinweave hello 3", *told)


def make_hello(
    identity: Identity,
    party: str,
    run_id: str,
    spec_hash: str,
    *,
    rows: int,
    run_secret: bytes,
    holdout: str = "",
) -> tuple[X25519PrivateKey, Hello]:
    """Return the party's ephemeral private key for this run and the hello that announces it.

    run_secret: 32 bytes, fresh for the run. The answer is a function of the arguments, so a
    repeated message gets the same hello.
    """
    # The run and its specification enter: the same secret never serves two of them.
    raw = hkdf(run_secret, "x25519 key of one run", party, run_id, spec_hash)
    private_key = X25519PrivateKey.from_private_bytes(raw)
    public = private_key.public_key().public_bytes_raw()
    signature = identity.sign(_signed_part(party, run_id, spec_hash, rows, public, holdout))
    return private_key, Hello(
        party=party,
        run_id=run_id,
        spec_hash=spec_hash,
        rows=rows,
        public_key=public,
        signature=signature,
        holdout=holdout,
    )


def verify_hello(hello: Hello, pins: Mapping[str, str], run_id: str, spec_hash: str) -> Hello:
    """Return `hello` if its party is pinned, signed it, and means this run and specification.

    pins: party -> Ed25519 public key, 64 hex digits. Raises ChannelError that names what is
    wrong: not pinned, another run, another specification, signature.
    """
    identity = Ed25519PublicKey.from_public_bytes(pinned_key(pins, hello.party))
    told = hello.party, hello.run_id, hello.spec_hash, hello.rows, hello.public_key
    signed = _signed_part(*told, hello.holdout)
    try:
        identity.verify(hello.signature, signed)
    except InvalidSignature:
        raise ChannelError(
            f"hello of {hello.party!r}: the signature does not verify under the pinned identity. "
            "Compare the pinned key with the party's own, out of band."
        ) from None
    if hello.run_id != run_id:
        raise ChannelError(f"hello of {hello.party!r}: signed for another run. Start a new run.")
    if hello.spec_hash != spec_hash:
        raise ChannelError(
            f"hello of {hello.party!r}: signed for another run specification. "
            "The parties must accept the same one."
        )
    return hello


@dataclass(frozen=True, kw_only=True, eq=False)
class PairKeys:
    """What two parties share in one run: a 32-byte root secret that the server lacks."""

    own: str
    peer: str
    run_id: str
    root: bytes = field(repr=False)

    @classmethod
    def agree(
        cls, private_key: X25519PrivateKey, own: Hello, peer: Hello, *, pins: Mapping[str, str]
    ) -> PairKeys:
        """Verify the peer's hello and derive the root both ends arrive at.

        Both names, both public keys, the run and the specification enter the derivation.
        Raises ChannelError as `verify_hello` does, and for a peer that names itself as `own`.
        """
        if peer.party == own.party:
            raise ChannelError(f"hello of {peer.party!r}: the peer bears this party's own name.")
        if private_key.public_key().public_bytes_raw() != own.public_key:
            raise ChannelError("the private key is not the one of this party's hello.")
        verify_hello(peer, pins, own.run_id, own.spec_hash)
        try:
            shared = private_key.exchange(X25519PublicKey.from_public_bytes(peer.public_key))
        except ValueError:  # RFC 7748, section 6.1: all-zero result
            raise ChannelError(f"hello of {peer.party!r}: the key has small order.") from None
        low, high = sorted((own, peer), key=lambda hello: hello.party)
        root = hkdf(
            shared,
            "twinweave pair 1",
            own.run_id,
            own.spec_hash,
            low.party,
            low.public_key,
            high.party,
            high.public_key,
        )
        return cls(own=own.party, peer=peer.party, run_id=own.run_id, root=root)


def pair_secret(keys: PairKeys, purpose: str) -> bytes:
    """32 bytes that both parties of `keys` know and the server does not; one per purpose."""
    return hkdf(keys.root, "pair secret", purpose)


def _context(run: str, phase: str, label: str, sender: str, receiver: str) -> bytes:
    """What a message is bound to. Enters its key, its associated data and its clear header."""
    return encode_context("twinweave message 1", run, phase, label, sender, receiver)


def _message_key(keys: PairKeys, context: bytes, salt: bytes) -> tuple[AESGCM, bytes]:
    derived = hkdf(keys.root, "message key", context, salt, length=32 + _PREFIX_BYTES)
    return AESGCM(derived[:32]), derived[32:]


def _nonce(prefix: bytes, counter: int, last: bool) -> bytes:
    return prefix + counter.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


def seal(plaintext: bytes | memoryview, *, keys: PairKeys, phase: str, label: str) -> bytes:
    """Encrypt for the peer of `keys`, bound to their run and names, phase and label.

    STREAM of Hoang, Reyhanitabar, Rogaway, Vizar (CRYPTO 2015): segments of 1 MiB, nonce =
    prefix | counter | last flag, so segments can be neither cut off, reordered nor appended.
    Differs: a random 32-byte salt gives every message its own key and prefix, so no nonce
    repeats however many messages a pair sends.

    Returns magic (4) | context (2-byte length, bytes) | salt (32) | segments with 16-byte tags.
    """
    context = _context(keys.run_id, phase, label, keys.own, keys.peer)
    salt = os.urandom(_SALT_BYTES)
    cipher, prefix = _message_key(keys, context, salt)
    data = memoryview(plaintext).cast("B")
    parts = [_MAGIC, len(context).to_bytes(2, "big"), context, salt]
    starts = range(0, max(len(data), 1), SEGMENT_BYTES)
    for counter, start in enumerate(starts):
        nonce = _nonce(prefix, counter, last=counter == len(starts) - 1)
        parts.append(cipher.encrypt(nonce, data[start : start + SEGMENT_BYTES], context))
    return b"".join(parts)


def open_sealed(sealed: bytes | memoryview, *, keys: PairKeys, phase: str, label: str) -> bytes:
    """Return the plaintext of a message that the peer of `keys` sealed for exactly this place.

    Raises ChannelError: not a sealed message; sealed for another run, phase, label, sender or
    receiver; altered, truncated or sealed under other keys. Nothing is returned unless every
    segment verifies.
    """
    place = {"run": keys.run_id, "phase": phase, "label": label}
    place |= {"sender": keys.peer, "receiver": keys.own}
    context = _context(**place)
    body = memoryview(sealed).cast("B")
    where = f"message of {keys.peer!r} in phase {phase!r}"
    size = int.from_bytes(body[4:6], "big")
    overhead = 6 + size + _SALT_BYTES
    if bytes(body[:4]) != _MAGIC or len(body) < overhead + TAG_BYTES:
        raise ChannelError(f"{where}: not a sealed message. Parties must seal what peers read.")
    if bytes(body[6 : 6 + size]) != context:
        wrong = _first_difference(bytes(body[6 : 6 + size]), place)
        raise ChannelError(f"{where}: sealed for another {wrong}. Refused.")
    cipher, prefix = _message_key(keys, context, bytes(body[6 + size : overhead]))
    step = SEGMENT_BYTES + TAG_BYTES
    starts = range(overhead, len(body), step)
    parts = []
    for counter, start in enumerate(starts):
        nonce = _nonce(prefix, counter, last=counter == len(starts) - 1)
        try:
            parts.append(cipher.decrypt(nonce, body[start : start + step], context))
        except InvalidTag:
            raise ChannelError(
                f"{where}: does not verify. It was altered on the way, cut short, "
                "or sealed under other keys."
            ) from None
    return b"".join(parts)


def _first_difference(header: bytes, place: Mapping[str, str]) -> str:
    """Name the first field of a clear header that is not the expected one."""
    seen = b""
    for name, expected in {"version": "twinweave message 1", **place}.items():
        seen += encode_context(expected)
        if not header.startswith(seen):
            return name
    return "context"


def make_group_key(run_secret: bytes, run_id: str) -> bytes:
    """The 32-byte key, shared by all parties, that the first one hands out for the `prf` alignment.

    A function of its run secret and run. Two parties could do with `pair_secret`: no message.
    """
    return hkdf(run_secret, "group key", run_id)
