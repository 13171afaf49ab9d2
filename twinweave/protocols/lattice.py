"""The one door to TenSEAL: parameters, keys, and SEAL objects as bytes.

Two parts of the library encrypt homomorphically: a secure sum (CKKS) and the cross tables
without a dealer (BFV). Both use the bindings of Microsoft SEAL that TenSEAL ships
(`tenseal.sealapi`), because TenSEAL's own vectors offer neither encryption under a key that
several parties expand from a seed, nor coefficient packing, nor noise flooding.

Security: SEAL refuses parameters below 128 bits (Homomorphic Encryption Standard, 2018;
ternary secrets). Encryption draws from SEAL's generator (Blake2xb, seeded by the system).
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError, ProtocolError
from twinweave.protocols.keystream import hkdf

T = TypeVar("T")

ERROR_BOUND = 21
"""Largest coefficient of a fresh error: SEAL's centred binomial of 42 bits (its default)."""

_REFUSED = (RuntimeError, ValueError, IndexError, OverflowError)  # what SEAL raises on bad bytes


def available(field: str) -> Any:
    """TenSEAL's SEAL bindings. field: the configuration's field that asks for them.

    Raises ConfigError when the extra is not installed.
    """
    try:
        import tenseal.sealapi as api
    except ImportError:
        raise ConfigError(
            field,
            "homomorphic needs TenSEAL, which is not installed here",
            'Install it at every party and the server: pip install "twinweave[homomorphic]".',
        ) from None
    return api


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """A ring and its moduli. field: see `available`.

    prime_bits: where there are two primes or more, SEAL uses the last one inside encryption
    only: ciphertexts live modulo the product of the others. plain_modulus: BFV's t; 0 for CKKS.
    """

    field: str
    degree: int
    prime_bits: tuple[int, ...]
    plain_modulus: int = 0

    def context(self) -> Any:
        """The SEAL context; the same object every time."""
        return _context(self)

    @property
    def primes(self) -> tuple[int, ...]:
        """The primes of a ciphertext's modulus."""
        moduli = self.context().first_context_data().parms().coeff_modulus()
        return tuple(int(m.value()) for m in moduli)

    def secret_key(self, seed: bytes) -> Any:
        """The secret key that follows from `seed` (32 bytes), at whoever holds it.

        The seeded generator serves this one object. A second draw from it would repeat its
        stream: a public key made with it would contain the bytes that the secret came from.
        """
        api = available(self.field)
        words = struct.unpack("<8Q", hkdf(seed, "homomorphic secret key", length=64))
        parameters = _parameters(self)
        parameters.set_random_generator(api.Blake2xbPRNGFactory(list(words)))
        return api.KeyGenerator(_build(self, parameters)).secret_key()

    def public_key(self, secret_key: Any) -> Any:
        """A public key of a secret one, with fresh randomness."""
        api = available(self.field)
        key = api.PublicKey()
        api.KeyGenerator(self.context(), secret_key).create_public_key(key)
        return key

    def load(self, kind: str, data: bytes | memoryview, what: str) -> Any:
        """The SEAL object of class `kind` ("Ciphertext", "PublicKey", "Plaintext") in `data`.

        SEAL checks that it is one of these parameters. Raises ProtocolError, naming `what`.
        """
        thing = getattr(available(self.field), kind)()
        with _scratch() as (descriptor, path):
            _write(descriptor, data)
            checked(lambda: thing.load(self.context(), path), what)
        return thing

    def ciphertext(self, data: bytes | memoryview, what: str) -> Any:
        """A ciphertext of two polynomials. Raises ProtocolError."""
        loaded = self.load("Ciphertext", data, what)
        if loaded.size() != 2:
            raise ProtocolError(f"{what}: not a ciphertext of this version. Refused.")
        return loaded

    def plaintext(self, coefficients: NDArray[np.uint64]) -> Any:
        """A BFV plaintext from its coefficients, uint64 (up to degree,), each below t."""
        body = struct.pack("<4QQd", 0, 0, 0, 0, len(coefficients), 1.0) + _array(coefficients)
        return self.load("Plaintext", _object(body), "plaintext")

    def trivial(self, residues: NDArray[np.uint64]) -> Any:
        """The BFV ciphertext (c, 0): residues, uint64 (primes, degree), those of c.

        Not an encryption of anything: added to one, it shifts it by c.
        """
        count, degree = residues.shape
        both = np.concatenate([residues.ravel(), np.zeros(residues.size, np.uint64)])
        parms_id = self.context().first_parms_id()
        head = struct.pack("<4Q?QQQdQ", *parms_id, False, 2, degree, count, 1.0, 1)
        return self.load("Ciphertext", _object(head + _array(both)), "shift")


def checked(work: Callable[[], T], what: str) -> T:
    """What `work` returns. Raises ProtocolError, naming `what`, where SEAL refuses it."""
    try:
        return work()
    except _REFUSED:
        raise ProtocolError(
            f"{what}: not an object of these parameters. Run the same version everywhere."
        ) from None


def dump(thing: Any) -> bytes:
    """A SEAL object as bytes (SEAL's own format, compressed)."""
    with _scratch() as (descriptor, path):
        thing.save(path)
        size = os.lseek(descriptor, 0, os.SEEK_END)
        os.lseek(descriptor, 0, os.SEEK_SET)
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read(size)


def join(parts: Iterable[bytes]) -> bytes:
    """Byte strings as one: each with its length, 8 little-endian bytes, in front."""
    return b"".join(piece for part in parts for piece in (struct.pack("<Q", len(part)), part))


def split(blob: bytes | memoryview, what: str) -> list[memoryview]:
    """Inverse of `join`. Raises ProtocolError, naming `what`, when it is cut."""
    view, parts, at = memoryview(blob).cast("B"), [], 0
    while at < len(view):
        size = int.from_bytes(view[at : at + 8], "little")
        if at + 8 + size > len(view):
            raise ProtocolError(f"{what}: the message is cut. Send it again.")
        parts.append(view[at + 8 : at + 8 + size])
        at += 8 + size
    return parts


def _parameters(of: Parameters) -> Any:
    api = available(of.field)
    made = api.EncryptionParameters(
        api.SCHEME_TYPE.BFV if of.plain_modulus else api.SCHEME_TYPE.CKKS
    )
    made.set_poly_modulus_degree(of.degree)
    made.set_coeff_modulus(api.CoeffModulus.Create(of.degree, list(of.prime_bits)))
    if of.plain_modulus:
        made.set_plain_modulus(api.Modulus(of.plain_modulus))
    return made


@lru_cache(maxsize=8)
def _context(of: Parameters) -> Any:
    return _build(of, _parameters(of))


def _build(of: Parameters, parameters: Any) -> Any:
    api = available(of.field)
    context = api.SEALContext(parameters, True, api.SEC_LEVEL_TYPE.TC128)
    assert context.parameters_set(), context.parameters_error_message()
    return context


# --- SEAL's files (native/src/seal/serialization.h): a header of 16 bytes, then the members ---


def _object(body: bytes) -> bytes:
    """magic, header size, version of the installed SEAL, no compression, size in all."""
    return _stamp() + struct.pack("<BHQ", 0, 0, len(body) + 16) + body


def _array(words: NDArray[np.uint64]) -> bytes:
    """A SEAL DynArray: an object in the object."""
    return _object(struct.pack("<Q", len(words)) + words.astype("<u8").tobytes())


@lru_cache(maxsize=1)
def _stamp() -> bytes:
    """The first five bytes that the installed SEAL writes."""
    return dump(available("protocol").Plaintext("1"))[:5]


@contextmanager
def _scratch() -> Iterator[tuple[int, str]]:
    """A file for SEAL, which reads and writes paths only: in memory where the system has that.

    Elsewhere (not Linux) a private temporary file, removed at once; plaintexts and masks pass
    through it, secret keys never.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("seal")
        path = f"/proc/self/fd/{descriptor}"
    else:  # pragma: no cover (not Linux)
        descriptor, path = tempfile.mkstemp(prefix="seal")
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)
        if not path.startswith("/proc/"):  # pragma: no cover
            Path(path).unlink()


def _write(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while len(view):
        view = view[os.write(descriptor, view) :]
