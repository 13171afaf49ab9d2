"""The two loops over ristretto255 elements, in this process or as a process of their own.

libsodium has no call for many elements at once. A thread per core does not help: each call is
so short that the threads spend their time handing the interpreter's lock to each other. So
large arrays go through processes that run this file; it stands on rbcl and nothing else, to
start fast. What they get and give passes through pipes: no secret is in an argument or a file.

    python libsodium_loop.py OPERATION < scalar (32 bytes) and rows > elements (32 bytes each)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from ctypes import addressof, c_char, c_int, c_void_p
from functools import cache
from typing import Any

ROW_BYTES = {"multiply": 32, "from_uniform": 64}
ELEMENT_BYTES = 32
INVALID = 3
"""Exit status: some row is not the encoding of an element, or is the identity."""


@cache
def _function(name: str) -> Callable[..., int]:
    import rbcl  # unpacks libsodium when imported: only who aligns pays for it

    function: Any = rbcl._sodium[name]  # by index: a handle of our own, rbcl's stays untouched
    function.restype = c_int
    return function  # type: ignore[no-any-return]


def run(operation: str, scalar: bytes, source: int, target: int, rows: int) -> bool:
    """Do `operation` on `rows` rows at address `source`; False when libsodium refused one.

    multiply: scalar * element, 32 -> 32 bytes. from_uniform: hash to an element, 64 -> 32.
    """
    status = 0
    if operation == "multiply":
        multiply = _function("crypto_scalarmult_ristretto255")
        for i in range(0, ELEMENT_BYTES * rows, ELEMENT_BYTES):
            status |= multiply(c_void_p(target + i), scalar, c_void_p(source + i))
    else:
        to_group = _function("crypto_core_ristretto255_from_hash")
        for i in range(0, ELEMENT_BYTES * rows, ELEMENT_BYTES):
            status |= to_group(c_void_p(target + i), c_void_p(source + 2 * i))
    return status == 0


def main() -> int:
    """Serve one request on the standard streams; the exit status is 0 or INVALID."""
    operation = sys.argv[1]
    data = bytearray(sys.stdin.buffer.read())
    rows = (len(data) - 32) // ROW_BYTES[operation]
    out = bytearray(ELEMENT_BYTES * rows)
    if rows:
        source = addressof(c_char.from_buffer(data))
        target = addressof(c_char.from_buffer(out))
        if not run(operation, bytes(data[:32]), source + 32, target, rows):
            return INVALID
    sys.stdout.buffer.write(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
