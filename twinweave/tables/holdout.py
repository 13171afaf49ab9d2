"""Users that every party sets aside before a run: the same ones, without a word about whom.

Whether a user is set aside follows from the id and a key that the parties share and the server
lacks. It is the same in every run under one key, so that who was never used stays unused, and
nobody sees the sizes of many parts of one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, sha256

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError, SourceError
from twinweave.tables.encoding import EncodedTable

KEY_BYTES = 32
_PERSON = b"twinweave-aside"


def check_key(field: str, key: str) -> None:
    """Raise ConfigError unless it is KEY_BYTES in hex."""
    try:
        size = len(bytes.fromhex(key))
    except ValueError:
        size = 0
    if size != KEY_BYTES:
        raise ConfigError(
            field,
            f"not {2 * KEY_BYTES} hex digits",
            "Give the key that all parties agreed on (`openssl rand -hex 32` makes one).",
        )


def simulated_key(dataset: str) -> str:
    """The key, in hex, under which a simulation sets users aside: the same in every run.

    Nobody is kept from knowing it, for one machine plays every party.
    """
    return sha256(f"twinweave simulated holdout {dataset}".encode()).hexdigest()


def is_aside(
    ids: Sequence[str] | NDArray[np.object_], key: bytes, part: float
) -> NDArray[np.bool_]:
    """Which users are set aside: (n,).

    Keyed BLAKE2b (RFC 7693) as a pseudo-random function: each id with chance `part`, to within
    2**-64, independently. ids: normalised text. A larger part has all of a smaller one.
    """
    least = min(int(part * 2**64), 2**64 - 1)
    words = (blake2b(str(i).encode(), key=key, person=_PERSON, digest_size=8).digest() for i in ids)
    drawn = np.frombuffer(b"".join(words), dtype="<u8")
    return drawn < np.uint64(least)


def divide(
    table: EncodedTable, key: bytes | None, part: float
) -> tuple[EncodedTable, EncodedTable]:
    """(rows that the run uses, rows set aside). Raises SourceError where none is left to use.

    key: None where nobody is set aside.
    """
    if key is None or not part:
        return table, table.take(np.zeros(len(table), dtype=bool))
    aside = is_aside(table.ids, key, part)
    if aside.all():
        raise SourceError(
            "every row was set aside for the audit. Give a larger table, or run with audit=off."
        )
    return table.take(~aside), table.take(aside)
