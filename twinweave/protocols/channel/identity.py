"""A party's long-lived Ed25519 identity (RFC 8032), its key file, and the peers' pinned keys."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from twinweave.errors import ChannelError

_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, eq=False)
class Identity:
    """A private signing key. Shows itself by its public half only."""

    _key: Ed25519PrivateKey = field(repr=False)

    def __repr__(self) -> str:
        return f"Identity({self.public_hex})"

    @classmethod
    def generate(cls) -> Identity:
        """Draw a new identity from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity of a 32-byte seed (the private key of RFC 8032)."""
        if len(seed) != 32:
            raise ChannelError("an identity's seed has 32 bytes. Use Identity.generate().")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def public_hex(self) -> str:
        """The public key as 64 hex digits: what the peers pin."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> bytes:
        """64-byte Ed25519 signature; a function of key and message."""
        return self._key.sign(message)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a PEM file (PKCS #8, not encrypted) that only the owner can read (0600).

        Raises ChannelError where a file exists: a lost identity must be pinned anew by all peers.
        """
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ChannelError(f"{path} exists. Keep the identity or move it away first.") from None
        with os.fdopen(handle, "wb") as file:
            file.write(pem)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Identity:
        """Read a PEM file, or a text file of 64 hex digits (the seed).

        Raises ChannelError for a missing file, one that others may read, or another content.
        """
        name = Path(path).name  # not the whole path: the text may travel
        try:
            raw = Path(path).read_bytes()
            mode = Path(path).stat().st_mode
        except OSError:
            raise ChannelError(f"{name}: no readable identity file. Create one.") from None
        if os.name == "posix" and mode & 0o077:
            raise ChannelError(f"{name}: others may read this private key. Run chmod 600 on it.")
        text = raw.decode("ascii", errors="replace").strip()
        if _HEX_KEY.fullmatch(text):
            return cls.from_seed(bytes.fromhex(text))
        try:
            key = load_pem_private_key(raw, password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise ChannelError(f"{name}: not an Ed25519 private key (PEM or 64 hex digits).")
        return cls(key)


def pinned_key(pins: Mapping[str, str], party: str) -> bytes:
    """The 32-byte public key pinned for `party`. Raises ChannelError if absent or malformed."""
    if party not in pins:
        raise ChannelError(f"identity of {party!r} is not pinned. Add its key to conf/federation.")
    if not _HEX_KEY.fullmatch(pins[party]):
        raise ChannelError(f"pinned identity of {party!r} is not 64 hex digits. Correct the pin.")
    return bytes.fromhex(pins[party])
