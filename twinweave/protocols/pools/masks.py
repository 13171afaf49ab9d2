"""Tables of a pool: the sum of its members' tables, of which nobody sees a single one.

The members hold the same columns of different people, so the union's table is the sum of theirs.
Each adds noise of its own and a sharing of zero, both drawn anew for every table, modulo 2**64:

    y_u = table_u + noise_u + sum of M(s_uv) over members v after u - ... over those before u

where M is a key stream and s_uv a key that u and v alone hold (the pairwise masks of Bonawitz et
al., CCS 2017, eprint 2017/281, section 4, without self-masks: nobody may be missing). The server
adds up the y_u, which takes no message beyond the ones there are, and sees the noisy sum alone.

Noise: coins. Heads of n fair coins are Binomial(n, 1/2), and binomials with one half add up to a
binomial (Dwork et al., "Our data, ourselves", 2006, section 4): the sum's noise is exactly that
of one mechanism with all coins, and to a reader who knows some members' coins, of one with the
others'. A discrete Gaussian has no such closure: where one is drawn, every member draws it at
full scale, and one member's alone is what is accounted for.

Who learns what: the server the noisy sum; a member nothing before the sum is published, then the
others' noisy sum. Server and a member together see the other members' noisy sum, so of two members
the other's table under its own noise, which is why `OwnCoins.unknown` leaves a party out. All
members but one together with the server see that one's table under its noise. Needs everyone: a
member that does not answer ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.keystream import Keystream, hkdf
from twinweave.protocols.ring import Ring, to_ring, to_signed

BITS = 64


def mask(
    noisy: NDArray[np.int64],
    *,
    own: str,
    pool: Sequence[str],
    secrets: Mapping[str, bytes],
    label: str,
) -> Ring:
    """A member's table with its noise, int64 (cells,), under masks: uint64 (cells,), uniform.

    pool: all members, in run order. secrets: of each other member, 32 bytes that the pair alone
    holds. label: names the table in the run; never used for two tables. Raises ProtocolError.
    """
    if own not in pool or set(secrets) != set(pool) - {own}:
        raise ProtocolError("a pooled table needs a key with every other member of the pool.")
    masked = to_ring(noisy, BITS)
    place = pool.index(own)
    for position, peer in enumerate(pool):
        if peer != own:
            words = Keystream(hkdf(secrets[peer], "pooled table", label)).words64(len(masked))
            masked = masked + words if position > place else masked - words
    return masked


def add_up(parts: Sequence[Ring]) -> NDArray[np.int64]:
    """Server: the parts of all members, equal in shape and dtype, to the noisy sum, int64."""
    first = parts[0]
    if any(p.shape != first.shape or p.dtype != first.dtype for p in parts):
        raise ProtocolError("the parts of a pooled table differ in shape or ring. Start a new run.")
    return to_signed(np.sum(parts, axis=0, dtype=first.dtype))
