"""Keys and pseudo-random streams: HKDF-SHA256 (RFC 5869) and AES-256-CTR (NIST SP 800-38A).

Everything secret that a party draws in a run comes from one 32-byte run secret through these
two, so that a repeated message gets the same answer. Ask `hkdf` for one key per purpose and
give every key to one `Keystream`: two streams under one key would be the same stream.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from twinweave.errors import ProtocolError

KEY_BYTES = 32
_MAX_OUTPUT = 255 * 32  # RFC 5869, section 2.3
_ZEROS = memoryview(bytes(1 << 20))  # encrypted again and again: stays in the cache


def encode_context(*parts: str | bytes) -> bytes:
    """Return one byte string for `parts`; different tuples of parts never give the same one.

    Each part is a kind byte (s, b), its length as 8 little-endian bytes, and the bytes.
    """
    encoded = bytearray()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        encoded += b"s" if isinstance(part, str) else b"b"
        encoded += len(raw).to_bytes(8, "little") + raw
    return bytes(encoded)


def hkdf(secret: bytes, *context: str | bytes, length: int = KEY_BYTES) -> bytes:
    """Derive `length` bytes from `secret` for the purpose that `context` names.

    RFC 5869 with SHA-256, no salt, info = `encode_context(*context)`. `secret` must hold at
    least 16 bytes, length at most 8160. Raises ProtocolError.
    """
    if len(secret) < 16:
        raise ProtocolError("a secret to derive keys from is shorter than 16 bytes. Draw 32.")
    if not 0 < length <= _MAX_OUTPUT:
        raise ProtocolError(f"HKDF gives 1 to {_MAX_OUTPUT} bytes. Derive a Keystream key instead.")
    return hkdf_sha256(secret, salt=b"", info=encode_context(*context), length=length)


def hkdf_sha256(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 as it stands: extract with `salt`, expand with `info`."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(secret)


class Keystream:
    """Deterministic generator of uniform bytes: AES-256-CTR of zeros, counter from zero.

    Successive calls continue the stream, so reading in chunks or at once is the same
    (`bits` reads whole bytes: chunk it in multiples of eight). Not thread-safe.
    """

    __slots__ = ("_encryptor",)

    def __init__(self, key: bytes) -> None:
        """`key`: 32 bytes, used for nothing else. Raises ProtocolError on any other length."""
        if len(key) != KEY_BYTES:
            raise ProtocolError(f"a keystream key has {KEY_BYTES} bytes. Derive it with hkdf.")
        self._encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def __repr__(self) -> str:
        return "Keystream()"

    def words8(self, n: int) -> NDArray[np.uint8]:
        """The next n bytes of the stream as uint8 (n,)."""
        if n < 0:
            raise ProtocolError("a keystream gives zero words or more, not a negative number.")
        out = np.empty(n, dtype=np.uint8)
        self.fill(out)
        return out

    def fill(self, out: NDArray[np.uint8]) -> None:
        """Overwrite `out`, contiguous uint8 (n,), with the next n bytes of the stream."""
        for start in range(0, len(out), len(_ZEROS)):
            part = out[start : start + len(_ZEROS)]
            self._encryptor.update_into(_ZEROS[: len(part)], part.data)

    def bytes(self, n: int) -> bytes:
        """The next n bytes of the stream."""
        return self.words8(n).tobytes()

    def words32(self, n: int) -> NDArray[np.uint32]:
        """n uniform uint32 (little-endian words of the stream)."""
        return self.words8(4 * n).view("<u4").astype(np.uint32, copy=False)

    def words64(self, n: int) -> NDArray[np.uint64]:
        """n uniform uint64 (little-endian words of the stream)."""
        return self.words8(8 * n).view("<u8").astype(np.uint64, copy=False)

    def bits(self, n: int) -> NDArray[np.uint8]:
        """n uniform bits, uint8 of 0 and 1; reads ceil(n / 8) bytes, lowest bit first."""
        return np.unpackbits(self.words8((n + 7) // 8), count=n, bitorder="little")

    def permutation(self, n: int) -> NDArray[np.int64]:
        """A random order of range(n), int64 (n,): the ranks of n uniform 64-bit words.

        Words repeat with probability below n**2 / 2**65; ties then keep their order.
        """
        return np.argsort(self.words64(n), kind="stable").astype(np.int64, copy=False)
