"""Who shares a slot is one user: what shows it inside the product, without a message more.

The server matches tags and deals slots, and could put strangers into one. So every party's matrix
has three columns beside its tables': 1 where it holds somebody, and two marks m(id, slot), uniform
32-bit numbers under a secret of the two parties. With presences p and marks m of both,

    z = m_P^T p_Q - p_P^T m_Q = sum over slots that both fill of m(id at P) - m(id at Q)

is a part of the product that is computed anyway. It is 0 where every such slot has the same id at
both. Where one has not, z is uniform to whoever does not know the pair's secret: a mark is drawn
for its id and slot, and no id is at two slots of a party. The parties hold shares of z, z_P + z_Q;
each hashes z_P, or -z_Q, into what its opening is bound to (`state.Pass.bound`). So a false
match opens to uniform numbers, but with probability 2**-64 a product, and shows nobody anything:
nothing is compared in the clear, and an honest run is as it was. It is the conditional
disclosure of secrets (Gertner, Ishai, Kushilevitz, Malkin, "Protecting data privacy in private
information retrieval schemes", 1998) with one linear condition.

Not shown: that a user whom both hold is at one slot. A server that tears a match apart makes of
one user two, each at one party alone: see `privacy.ledger`.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.alignment.tags import id_bytes

MARKS = 2
WITNESS = 1 + MARKS
"""Columns of every party's matrix beside those of its tables: presence, then the marks."""
_MARK_BYTES = 4 * MARKS


def marks_of(
    ids: NDArray[np.generic], slots: NDArray[np.int64], secret: bytes
) -> NDArray[np.uint32]:
    """Marks of a party's rows, uint32 (n, MARKS): keyed BLAKE2b of the id, salted with the slot.

    ids: (n,) texts or whole numbers. slots: (n,), of these rows. secret: 32 bytes of the pair.
    Raises ProtocolError: shapes differ.
    """
    if slots.shape != ids.shape:
        raise ProtocolError("marks need a slot for every id. Align the tables again.")
    # Salts are padded with zeros, which is what taking them from an array of bytes leaves out.
    salts = slots.astype("<u8").view("S8").tolist()
    blake = hashlib.blake2b
    marks = b"".join(
        [
            blake(one, digest_size=_MARK_BYTES, key=secret, salt=salt).digest()
            for one, salt in zip(id_bytes(ids), salts, strict=True)
        ]
    )
    words = np.frombuffer(marks, "<u4").reshape(len(ids), MARKS)
    return words.astype(np.uint32, copy=False)
