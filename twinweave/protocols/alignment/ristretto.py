"""The group ristretto255 (RFC 9496) over whole arrays, through libsodium.

One element is 32 bytes, n elements are a uint8 array (n, 32). Large arrays are shared out to
one process per core (see libsodium_loop), small ones are done in this one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from twinweave import progress
from twinweave.errors import ProtocolError
from twinweave.protocols.alignment import libsodium_loop
from twinweave.protocols.alignment.libsodium_loop import ELEMENT_BYTES, ROW_BYTES

UNIFORM_BYTES = ROW_BYTES["from_uniform"]
SCALAR_BYTES = 32
ORDER = 2**252 + 27742317777372353535851937790883648493
ROWS_PER_PROCESS = 4096  # at least: a quarter of a second's work pays for starting a process
ROWS_PER_PIECE = 1 << 15  # at least: some seconds of work, after which it is told how far it is

Elements = NDArray[np.uint8]


def default_workers() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def scalar_from_uniform(uniform: bytes) -> bytes:
    """Reduce 64 uniform bytes modulo the group's order to a non-zero 32-byte scalar."""
    if len(uniform) != UNIFORM_BYTES:
        raise ProtocolError(f"a scalar is reduced from {UNIFORM_BYTES} uniform bytes.")
    value = int.from_bytes(uniform, "little") % ORDER
    if value == 0:  # probability 2**-252; a zero scalar would send every id to one tag
        raise ProtocolError("the scalar is zero. Draw another run secret.")
    return value.to_bytes(SCALAR_BYTES, "little")


def from_uniform(uniform: NDArray[np.uint8], *, workers: int | None = None) -> Elements:
    """Map rows of 64 uniform bytes to elements: RFC 9496, section 4.3.4. (n, 64) -> (n, 32)."""
    out = _shared_out("from_uniform", bytes(SCALAR_BYTES), uniform, workers)
    if out is None:
        raise ProtocolError("libsodium refused to map hashes to the group.")
    return out


def multiply(scalar: bytes, elements: Elements, *, workers: int | None = None) -> Elements:
    """scalar * each element; (n, 32) -> (n, 32), in the same order.

    scalar: 32 bytes, little-endian, in 1 .. order - 1. workers: processes, one per core when
    None. Decoding is that of RFC 9496, section 4.3.1. Raises ProtocolError when a row is not
    the canonical encoding of an element or is the identity.
    """
    if len(scalar) != SCALAR_BYTES or not 0 < int.from_bytes(scalar, "little") < ORDER:
        raise ProtocolError("the scalar is not in 1 .. order - 1. Use scalar_from_uniform.")
    out = _shared_out("multiply", scalar, elements, workers)
    if out is None:
        raise ProtocolError(
            "a tag is not a valid ristretto255 element. The peer's message is damaged or forged."
        )
    return out


def _shared_out(
    operation: str, scalar: bytes, array: NDArray[np.uint8], workers: int | None
) -> Elements | None:
    """`operation` on every row, by several processes if that pays; None: a row was refused."""
    width = ROW_BYTES[operation]
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != width:
        raise ProtocolError(f"expected a uint8 array of {width}-byte rows. Send tags as such.")
    rows = np.ascontiguousarray(array)
    processes = min(workers or default_workers(), len(rows) // ROWS_PER_PROCESS)
    if processes <= 1:
        return _here(operation, scalar, rows)
    parts = max(processes, len(rows) // ROWS_PER_PIECE)
    bounds = [len(rows) * i // parts for i in range(parts + 1)]
    done = []
    with ThreadPoolExecutor(processes) as pool:
        jobs = [
            pool.submit(_elsewhere, operation, scalar, rows[start:stop])
            for start, stop in pairwise(bounds)
        ]
        for job in jobs:
            done.append(job.result())
            progress.report(operation, len(done), parts)
    good = [part for part in done if part is not None]
    return np.concatenate(good) if len(good) == parts else None


def _here(operation: str, scalar: bytes, rows: NDArray[np.uint8]) -> Elements | None:
    out = np.zeros((len(rows), ELEMENT_BYTES), dtype=np.uint8)
    ok = libsodium_loop.run(operation, scalar, rows.ctypes.data, out.ctypes.data, len(rows))
    return out if ok else None


def _elsewhere(operation: str, scalar: bytes, rows: NDArray[np.uint8]) -> Elements | None:
    """The same in a process of its own; here after all where no process can be started."""
    # -P: the folder of the script stays off the path. The path itself travels because an
    # embedding program (Flower among them) may have extended its own.
    command = [sys.executable, "-P", libsodium_loop.__file__, operation]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    try:
        done = subprocess.run(
            command,
            input=scalar + rows.tobytes(),
            capture_output=True,
            env=environment,
            check=False,
        )
    except OSError:
        return _here(operation, scalar, rows)
    if done.returncode == libsodium_loop.INVALID:
        return None
    if done.returncode or len(done.stdout) != ELEMENT_BYTES * len(rows):
        return _here(operation, scalar, rows)
    return np.frombuffer(done.stdout, dtype=np.uint8).reshape(-1, ELEMENT_BYTES)
