"""Who masks with whom: everybody up to 30 parties, a k-regular graph beyond.

Bell, Bonawitz, Gascon, Lepoint, Raykova (eprint 2020/704, section 3): the parties sit on a ring
in an order drawn from a public seed, and each is the neighbour of the k/2 on either side. So
costs grow with k, which is O(log n), and not with n. All tail probabilities here are exact.
"""

from __future__ import annotations

from math import comb

from twinweave.errors import ConfigError
from twinweave.protocols.keystream import Keystream, encode_context, hkdf

FULL_UP_TO = 30
SECURITY_BITS = 40  # a graph fails to protect with probability below 2**-40
FAILURE_BITS = 20  # a round fails for lack of living neighbours with probability below 2**-20
DROPOUTS = 5  # beyond 30 parties up to one in five may drop out of a round


def max_dropouts(n_parties: int) -> int:
    """How many parties of a k-regular graph may drop out of one round."""
    return n_parties // DROPOUTS


def derived_degree(n_parties: int, colluding: int) -> int:
    """Neighbours of each party: all others up to 30, else the least even k that protects.

    Protects: what is left without colluding and dropped parties is connected (2**-40), and each
    party keeps enough living neighbours to restore its self-mask (2**-20).
    """
    others = n_parties - 1
    if n_parties <= FULL_UP_TO:
        return others
    drops = max_dropouts(n_parties)
    for degree in range(2, others, 2):
        need = isolation_threshold(n_parties, colluding, degree)
        connected = _cut_is_rare(n_parties, colluding + drops, degree // 2)
        # The round fails when more than degree - need neighbours drop out.
        excess = degree - need + 1
        if connected and _tail_is_rare(others, drops, degree, excess, n_parties, FAILURE_BITS):
            return degree
    return others


def isolation_threshold(n_parties: int, colluding: int, degree: int) -> int:
    """The least t with which 2t exceeds k and the colluders among k neighbours (at most k)."""
    return min(degree, (degree + colluding_neighbours(n_parties, colluding, degree)) // 2 + 1)


def colluding_neighbours(n_parties: int, colluding: int, degree: int) -> int:
    """The most colluders that any party has for neighbours; exceeded with prob. < 2**-40."""
    others, most = n_parties - 1, min(colluding, degree)
    for count in range(most):
        if _tail_is_rare(others, colluding, degree, count + 1, n_parties, SECURITY_BITS):
            return count
    return most


def neighbours(parties: tuple[str, ...], degree: int, seed: str) -> dict[str, tuple[str, ...]]:
    """party -> its neighbours, in the order of `parties`. `seed`: public, any text.

    Raises ConfigError unless degree is even and less than n - 1, or n - 1.
    """
    n = len(parties)
    if degree == n - 1:
        return {party: tuple(p for p in parties if p != party) for party in parties}
    if degree % 2 or not 2 <= degree < n - 1:
        raise ConfigError(
            "secure_sum.degree",
            f"no ring of {n} parties where each has {degree} neighbours",
            "Choose an even number below the number of parties, or leave it out.",
        )
    key = hkdf(encode_context("mask graph", seed), "ring order")
    ring = Keystream(key).permutation(n).tolist()
    steps = [s for s in range(-degree // 2, degree // 2 + 1) if s]
    around = {
        party: sorted(ring[(place + step) % n] for step in steps)
        for place, party in enumerate(ring)
    }
    return {parties[i]: tuple(parties[j] for j in around[i]) for i in range(n)}


def _tail_is_rare(
    population: int, marked: int, drawn: int, least: int, times: int, bits: int
) -> bool:
    """Whether times * P(marked among drawn >= least) <= 2**-bits, hypergeometric, exact."""
    ways = sum(
        comb(marked, hit) * comb(population - marked, drawn - hit)
        for hit in range(least, min(marked, drawn) + 1)
    )
    return (times * ways) << bits <= comb(population, drawn)


def _cut_is_rare(n_parties: int, removed: int, run: int) -> bool:
    """Whether `run` neighbours on the ring are all removed with probability <= 2**-40.

    A ring falls apart only where that happens twice; n places, so a union bound over n.
    """
    if removed < run:
        return True
    ways = n_parties * comb(n_parties - run, removed - run)
    return ways << SECURITY_BITS <= comb(n_parties, removed)
