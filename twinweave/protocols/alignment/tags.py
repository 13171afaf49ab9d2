"""Find which rows of the parties' tables belong to one user, without showing an id.

Every party turns its ids into tags in a secret order; the server sees which tags are equal and
gives equal tags the same slot of the hidden spine. Slots are a random injection into all of
them, so a party that learns its own learns nothing about the others'.

- `Ristretto` (default), double-blind exponentiation: an id becomes H(id)^(a b ...) after every
  party has raised it to its own secret power. Meadows 1986; Huberman, Franklin, Hogg 1999;
  private set intersection under decisional Diffie-Hellman, here in ristretto255 (RFC 9496).
  Nobody can make a tag alone, so the server cannot try a dictionary of ids.
- `Prf`, keyed BLAKE2b (RFC 7693) under a key that the parties share and the server lacks.
  Faster, no hops; but a party that gave the key away would open all tags.

The server learns sizes, and the number and pattern of matches; see the threat model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from twinweave import progress
from twinweave.errors import ProtocolError
from twinweave.protocols.alignment import ristretto
from twinweave.protocols.alignment.libsodium_loop import ELEMENT_BYTES
from twinweave.protocols.keystream import KEY_BYTES, Keystream, encode_context, hkdf

Tags = NDArray[np.uint8]
_HASH_CHUNK = 1 << 16


Order = NDArray[np.int64]
"""int64 (n,): the row of a party's table behind each tag it sent. Secret."""


@dataclass(frozen=True, kw_only=True)
class Ristretto:
    """Double-blind exponentiation. workers: processes, one per core when None."""

    run_id: str
    workers: int | None = None
    tag_bytes: ClassVar[int] = ELEMENT_BYTES

    def start(self, ids: NDArray[np.generic], secret: bytes) -> tuple[Order, Tags]:
        """Hash the ids into the group and raise them to the party's power.

        ids: (n,) texts or integers (taken as decimal text). secret: the party's run secret.
        Returns the order and tags uint8 (n, 32). Raises ProtocolError.
        """
        order = _secret_order(len(ids), secret, self.run_id)
        scalar = self._scalar(secret)
        domain = hashlib.sha512(encode_context("twinweave ristretto alignment 1", self.run_id))
        tags = np.empty((len(ids), self.tag_bytes), dtype=np.uint8)
        ordered = ids[order]
        for start in range(0, len(ids), _HASH_CHUNK):
            part = id_bytes(ordered[start : start + _HASH_CHUNK])
            digests = bytearray()
            for one in part:
                digest = domain.copy()
                digest.update(one)
                digests += digest.digest()
            uniform = np.frombuffer(digests, dtype=np.uint8).reshape(-1, ristretto.UNIFORM_BYTES)
            at, of = 2 * start // _HASH_CHUNK, 2 * -(-len(ids) // _HASH_CHUNK)
            with progress.part("tags", at, 1, of):
                hashed = ristretto.from_uniform(uniform, workers=self.workers)
            with progress.part("tags", at + 1, 1, of):
                found = ristretto.multiply(scalar, hashed, workers=self.workers)
            tags[start : start + len(part)] = found
        return order, tags

    def hop(self, tags: Tags, secret: bytes) -> Tags:
        """Raise a peer's tags to the party's own power. Raises ProtocolError: invalid tag."""
        return ristretto.multiply(self._scalar(secret), tags, workers=self.workers)

    def path(self, owner: str, parties: Sequence[str]) -> tuple[str, ...]:
        """All other parties, in the federation's order from the owner on."""
        if len(set(parties)) != len(parties) or owner not in parties:
            raise ProtocolError("the parties' names repeat or lack the owner of the tags.")
        at = list(parties).index(owner)
        return (*parties[at + 1 :], *parties[:at])

    def _scalar(self, secret: bytes) -> bytes:
        key = hkdf(secret, "alignment scalar", self.run_id)
        return ristretto.scalar_from_uniform(Keystream(key).bytes(ristretto.UNIFORM_BYTES))


@dataclass(frozen=True, kw_only=True)
class Prf:
    """Keyed hash under the parties' common key (32 bytes; see channel.make_group_key)."""

    run_id: str
    key: bytes = field(repr=False)
    tag_bytes: ClassVar[int] = 16  # 2**42 pairs, 2**-86 that any two collide

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ProtocolError(f"the parties' common key has {KEY_BYTES} bytes.")

    def start(self, ids: NDArray[np.generic], secret: bytes) -> tuple[Order, Tags]:
        """Keyed BLAKE2b of the ids. As Ristretto.start; tags uint8 (n, 16), final at once."""
        order = _secret_order(len(ids), secret, self.run_id)
        key = hkdf(self.key, "prf alignment", self.run_id)
        blake, size = hashlib.blake2b, self.tag_bytes
        ordered = ids[order]
        tags = np.empty((len(ids), size), dtype=np.uint8)
        for start in range(0, len(ids), _HASH_CHUNK):
            part = id_bytes(ordered[start : start + _HASH_CHUNK])
            joined = b"".join([blake(one, digest_size=size, key=key).digest() for one in part])
            tags[start : start + len(part)] = np.frombuffer(joined, np.uint8).reshape(-1, size)
        return order, tags


def match(
    tags: Mapping[str, Tags], n_slots: int, stream: Keystream
) -> dict[str, NDArray[np.int64]]:
    """The server's half: a slot for every tag; equal tags, and only they, share one.

    tags: party -> uint8 (n, w), fully blinded, w the same multiple of 8 for all. n_slots: the
    spine's size, the sum of the table sizes when padding is full. stream: the server's secret.
    Returns party -> int64 (n,), distinct slots in range(n_slots), in the order of the tags.
    Raises ProtocolError: a tag repeats within a party, shapes differ, more users than slots.
    """
    parts = [_words(name, array) for name, array in tags.items()]
    if len({part.shape[1] for part in parts}) != 1:
        raise ProtocolError("the parties' tags are none or differ in width. Use one alignment.")
    words = np.concatenate(parts)
    sizes = [len(array) for array in tags.values()]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    order, new = _grouped(words)
    repeated = ~new & (np.diff(owner[order], prepend=-1) == 0)
    if repeated.any():
        name = list(tags)[int(owner[order][np.argmax(repeated)])]
        raise ProtocolError(
            f"duplicate ids: {name!r} sent a tag more than once. Keep one row for each id."
        )
    n_users = int(new.sum())
    if n_users > n_slots:
        raise ProtocolError("the spine has fewer slots than users. Use the sum of table sizes.")
    slots = np.empty(len(words), dtype=np.int64)
    slots[order] = stream.permutation(n_slots)[np.cumsum(new) - 1]
    return dict(zip(tags, np.split(slots, np.cumsum(sizes)[:-1]), strict=True))


def to_table_order(order: Order, slots: NDArray[np.int64], *, n_slots: int) -> NDArray[np.int64]:
    """Slots in the order of the tags sent -> slots by row of the party's table, int64 (n,).

    Raises ProtocolError when the slots are not distinct numbers in range(n_slots), one a tag.
    """
    if slots.shape != order.shape or slots.dtype != np.int64:
        raise ProtocolError("the server's slots do not fit the tags sent: one int64 for each.")
    if len(slots) and (slots.min() < 0 or slots.max() >= n_slots):
        raise ProtocolError("the server's slots lie outside the spine. Start a new run.")
    if len(np.unique(slots)) != len(slots):
        raise ProtocolError("the server's slots repeat. Start a new run.")
    by_row = np.empty_like(slots)
    by_row[order] = slots
    return by_row


def _words(party: str, tags: Tags) -> NDArray[np.uint64]:
    if tags.dtype != np.uint8 or tags.ndim != 2 or tags.shape[1] % 8 or not tags.shape[1]:
        raise ProtocolError(f"tags of {party!r} are not uint8 rows of 16 or 32 bytes.")
    return np.ascontiguousarray(tags).view(np.uint64)


def _grouped(words: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A stable order that puts equal rows side by side, and where in it each new row begins.

    Tags are uniform, so their first word nearly always tells them apart; only when two
    different rows share it (forged tags) are all words sorted.
    """
    order = np.argsort(words[:, 0], kind="stable")
    same_first, same = _neighbours(words, order)
    if (same_first != same).any():
        order = np.lexsort(words.T[::-1])
        _, same = _neighbours(words, order)
    new = np.ones(len(words), dtype=bool)
    new[1:] = ~same
    return order, new


def _neighbours(
    words: NDArray[np.uint64], order: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each row in `order` but the first equals the one before: first word, all words."""
    first = words[order, 0]
    same_first = first[1:] == first[:-1]
    same = same_first.copy()
    at = np.flatnonzero(same_first)
    same[at] = (words[order[at]] == words[order[at + 1]]).all(axis=1)
    return same_first, same


def _secret_order(n: int, secret: bytes, run_id: str) -> Order:
    return Keystream(hkdf(secret, "alignment order", run_id)).permutation(n)


def id_bytes(ids: NDArray[np.generic]) -> list[bytes]:
    """UTF-8 of every id; whole numbers as decimal text. Raises ProtocolError, quoting no id."""
    if ids.ndim != 1 or ids.dtype.kind not in "OUSiu":
        raise ProtocolError("ids are not a column of texts or whole numbers. Declare the key text.")
    values: list[Any] = ids.tolist()
    if ids.dtype.kind == "S":
        return values
    if ids.dtype.kind in "iu":
        values = list(map(str, values))
    try:
        return [str.encode(value) for value in values]
    except (TypeError, UnicodeEncodeError):
        raise ProtocolError("an id is not a text. Clean the key column first.") from None
