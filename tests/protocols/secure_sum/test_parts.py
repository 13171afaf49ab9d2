"""The parts of the secure sum: fixed point, secret sharing, mask graph."""

from __future__ import annotations

import math
from itertools import combinations, product
from typing import Any, Literal, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from twinweave.errors import ConfigError, ProtocolError
from twinweave.protocols.keystream import Keystream
from twinweave.protocols.secure_sum import graph, shamir
from twinweave.protocols.secure_sum.fixed_point import FixedPoint

Bits = Literal[32, 64]
BITS = st.sampled_from([32, 64])


@given(bits=BITS, fraction=st.integers(0, 20), n=st.integers(1, 50), seed=st.integers(0, 99))
def test_sums_of_accepted_values_never_wrap(bits: Bits, fraction: int, n: int, seed: int) -> None:
    code = FixedPoint(bits=bits, fractional_bits=fraction, n_parties=n)
    values = np.random.default_rng(seed).uniform(-code.limit, code.limit, (n, 5))
    values[:, 0], values[:, 1] = code.limit, -code.limit
    total = np.sum([code.encode(v) for v in values], axis=0, dtype=f"u{bits // 8}")
    clear = [math.fsum(column) for column in values.T]
    allowed = n * code.error + 1e-15 * n * code.limit
    assert np.abs(code.decode(total) - clear).max() <= allowed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_encoding_is_the_nearest_ties_to_even(dtype: type[Any]) -> None:
    code = FixedPoint(bits=32, fractional_bits=1, n_parties=2)
    values = np.array([0.25, 0.75, -0.25, -0.75, 0.3, -1.5], dtype)
    assert code.encode(values).view(np.int32).tolist() == [0, 2, 0, -2, 1, -3]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("position", [0, 40_000])
@pytest.mark.parametrize("bad", ["over", "under", np.nan, np.inf, -np.inf, 1e308])
def test_out_of_range_is_an_error_without_the_value(
    bits: Bits, position: int, bad: float | str
) -> None:
    code = FixedPoint(bits=bits, fractional_bits=10, n_parties=3)
    edge = code.limit * (1 + 2**-20)
    values = np.zeros(40_001)
    edges: dict[Any, Any] = {"over": edge, "under": -edge}
    values[position] = edges.get(bad, bad)
    with pytest.raises(ProtocolError, match="Clip closer") as caught:
        code.encode(values)
    assert repr(values[position]) not in str(caught.value)


@pytest.mark.parametrize(
    "values", [np.zeros((2, 2)), np.zeros(2, int), np.zeros(2, np.float16), np.zeros(2, complex)]
)
def test_other_arrays_are_refused(values: Any) -> None:
    with pytest.raises(ProtocolError):
        FixedPoint(bits=32, fractional_bits=10, n_parties=3).encode(values)


@pytest.mark.parametrize(
    ("bits", "fraction", "n"), [(16, 3, 2), (32, 31, 2), (32, -1, 2), (32, 3, 0), (32, 0, 1 << 31)]
)
def test_encodings_without_room_are_refused(bits: Bits, fraction: int, n: int) -> None:
    with pytest.raises(ProtocolError):
        FixedPoint(bits=bits, fractional_bits=fraction, n_parties=n)


@given(bits=BITS, n=st.integers(1, 100), bound=st.floats(1e-6, 1e6))
def test_fitting_is_the_finest_encoding_that_takes_the_bound(
    bits: Bits, n: int, bound: float
) -> None:
    code = FixedPoint.fitting(bound, n_parties=n, bits=bits)
    code.encode(np.array([bound, -bound]))
    if code.fractional_bits < bits - 2 and code.limit > 1e-3:
        assert code.limit < 2.01 * bound
    with pytest.raises(ProtocolError):
        FixedPoint.fitting(1e30, n_parties=n, bits=bits)


def test_field_gives_the_answers_of_fips_197() -> None:
    table = shamir._products()
    assert (table[0x57, 0x83], table[0x57, 0x13]) == (0xC1, 0xFE)  # sections 4.2 and 4.2.1
    a, b, c = np.random.default_rng(0).integers(0, 256, (3, 1000))
    assert np.array_equal(table[a, b ^ c], table[a, b] ^ table[a, c])
    assert np.array_equal(table[table[a, b], c], table[a, table[b, c]])
    assert all(sorted(table[x]) == list(range(256)) for x in range(1, 256))


@given(n=st.integers(1, 12), data=st.data(), secret=st.binary(min_size=1, max_size=64))
def test_any_threshold_of_shares_restores_the_secret(n: int, data: Any, secret: bytes) -> None:
    threshold = data.draw(st.integers(1, n))
    plain = np.frombuffer(secret, np.uint8)
    stream = Keystream(bytes(32))
    shares = shamir.split(plain, threshold=threshold, n_holders=n, stream=stream)
    holders = data.draw(st.sets(st.integers(1, n), min_size=threshold))
    given_ = {h: shares[h - 1] for h in holders}
    assert shamir.combine(given_, threshold=threshold).tobytes() == secret
    with pytest.raises(ProtocolError, match="stays hidden"):
        shamir.combine(dict(list(given_.items())[: threshold - 1]), threshold=threshold)


class AllCoefficients:
    """Instead of a stream: every pair of bytes once, in one long secret."""

    def words8(self, n: int) -> NDArray[np.uint8]:
        pairs = np.arange(1 << 16)
        return np.concatenate([pairs >> 8, pairs & 255]).astype(np.uint8)[:n]


def counts_of_two_shares(
    secret: int, holders: tuple[int, int], threshold: int
) -> NDArray[np.int64]:
    """How often each pair of shares occurs over all polynomials: (65536,)."""
    secrets = np.full(1 << 16, secret, np.uint8)
    shares = shamir.split(
        secrets, threshold=threshold, n_holders=200, stream=cast(Any, AllCoefficients())
    ).astype(int)
    return np.bincount(256 * shares[holders[0] - 1] + shares[holders[1] - 1], minlength=1 << 16)


@pytest.mark.parametrize("holders", list(combinations((1, 2, 200), 2)))
def test_fewer_shares_than_needed_say_nothing(holders: tuple[int, int]) -> None:
    # Over all polynomials of any secret, two of three needed shares take each pair of values
    # once: uniform, and independent of the secret. Two of two do not, so the test has power.
    for secret in (0, 0xA7):
        assert np.all(counts_of_two_shares(secret, holders, threshold=3) == 1)
        assert np.any(counts_of_two_shares(secret, holders, threshold=2) != 1)


@pytest.mark.parametrize(("threshold", "n"), [(0, 3), (4, 3), (1, 256), (-1, 3)])
def test_impossible_sharings_are_refused(threshold: int, n: int) -> None:
    with pytest.raises(ProtocolError):
        shamir.split(
            np.zeros(2, np.uint8), threshold=threshold, n_holders=n, stream=Keystream(bytes(32))
        )


@pytest.mark.parametrize(("n", "degree"), [(2, 1), (30, 29), (31, 6), (40, 12), (101, 20)])
def test_graph_is_regular_symmetric_and_connected(n: int, degree: int) -> None:
    names = tuple(f"p{i}" for i in range(n))
    near = graph.neighbours(names, degree, "seed")
    assert all(len(set(near[p])) == degree and p not in near[p] for p in names)
    assert all(p in near[q] for p in names for q in near[p])
    seen, rim = set(), {names[0]}
    while rim:
        seen |= rim
        rim = {q for p in rim for q in near[p]} - seen
    assert len(seen) == n
    if degree < n - 1:
        assert near != graph.neighbours(names, degree, "other seed")
    assert near == graph.neighbours(names, degree, "seed")


@pytest.mark.parametrize(("n", "degree"), [(31, 5), (31, 31), (31, 0), (5, 5)])
def test_graphs_that_do_not_exist_are_refused(n: int, degree: int) -> None:
    with pytest.raises(ConfigError):
        graph.neighbours(tuple(f"p{i}" for i in range(n)), degree, "seed")


def test_degree_is_everyone_up_to_30_and_grows_slowly_beyond() -> None:
    assert [graph.derived_degree(n, 1) for n in (2, 10, 30)] == [1, 9, 29]
    degrees = [graph.derived_degree(n, 1) for n in (31, 100, 1000)]
    assert degrees == sorted(degrees)
    assert degrees[1] < 50
    assert degrees[2] < 100


def test_tails_are_those_of_the_hypergeometric_distribution() -> None:
    # Brute force: 3 marked of 7, 4 drawn; and runs of 2 on a ring of 6, 3 removed.
    hits = [sum(i < 3 for i in draw) for draw in combinations(range(7), 4)]
    for least, bits in product(range(1, 4), range(6)):
        share = sum(h >= least for h in hits) / len(hits)
        assert graph._tail_is_rare(7, 3, 4, least, 1, bits) == (share <= 2.0**-bits)
    assert graph._cut_is_rare(100, 5, 6)
    assert not graph._cut_is_rare(100, 20, 5)
