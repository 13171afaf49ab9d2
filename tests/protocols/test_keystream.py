"""Derivation and streams: known answers, continuity, uniformity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.keystream import Keystream, encode_context, hkdf, hkdf_sha256

RFC_5869 = [  # test cases 1, 2, 3: secret, salt, info, output
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c6"
        "5e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        "0b" * 22,
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("secret", "salt", "info", "output"), RFC_5869)
def test_hkdf_gives_the_answers_of_rfc_5869(secret: str, salt: str, info: str, output: str) -> None:
    derived = hkdf_sha256(
        bytes.fromhex(secret),
        salt=bytes.fromhex(salt),
        info=bytes.fromhex(info),
        length=len(output) // 2,
    )
    assert derived.hex() == output


PARTS = st.lists(st.one_of(st.text(max_size=6), st.binary(max_size=6)), max_size=4).map(tuple)


@settings(max_examples=50)
@given(PARTS, PARTS)
def test_contexts_are_unambiguous(one: Any, other: Any) -> None:
    assert (encode_context(*one) == encode_context(*other)) == (one == other)


def test_plain_joining_would_be_ambiguous() -> None:
    secret = bytes(32)
    assert hkdf(secret, "ab", "c") != hkdf(secret, "a", "bc")
    assert hkdf(secret, "ab") != hkdf(secret, b"ab")
    assert "".join(("ab", "c")) == "".join(("a", "bc"))


@pytest.mark.parametrize(("secret", "length"), [(b"short", 32), (bytes(32), 0), (bytes(32), 8161)])
def test_hkdf_refuses(secret: bytes, length: int) -> None:
    with pytest.raises(ProtocolError):
        hkdf(secret, "x", length=length)


def test_stream_is_aes_256_of_a_counter() -> None:
    # The Galois/Counter Mode of Operation (McGrew, Viega), test cases 13 and 14: the hash key
    # is block 0 under the zero key, the tag of nothing is block 1, the encrypted zeros block 2.
    expected = (
        "dc95c078a2408989ad48a21492842087"
        "530f8afbc74536b9a963b4f1c4cb738b"
        "cea7403d4d606b6e074ec5d3baf39d18"
    )
    assert Keystream(bytes(32)).bytes(48).hex() == expected


@given(st.lists(st.integers(0, 300), max_size=6))
def test_chunks_continue_the_stream(sizes: list[Any]) -> None:
    whole = Keystream(b"k" * 32).bytes(sum(sizes))
    stream = Keystream(b"k" * 32)
    assert b"".join(stream.bytes(n) for n in sizes) == whole


def test_long_reads_and_words_are_the_same_stream() -> None:
    n = (3 << 20) + 8
    whole = Keystream(b"k" * 32).bytes(n)
    assert Keystream(b"k" * 32).words64(n // 8).tobytes() == whole
    assert Keystream(b"k" * 32).words32(n // 4).tobytes() == whole
    packed = np.packbits(Keystream(b"k" * 32).bits(8 * n), bitorder="little")
    assert packed.tobytes() == whole


def test_bits_are_fair_and_orders_are_orders() -> None:
    n = 1 << 20
    bits = Keystream(b"f" * 32).bits(n)
    limit = 6.2 * np.sqrt(n) / 2  # P(|z| > 6.2) <

    def fair(sample: NDArray[np.uint8]) -> Any:
        return abs(int(sample.sum()) - len(sample) // 2) < limit

    assert fair(bits)
    assert fair(bits[1:] ^ bits[:-1])
    assert not fair(bits | Keystream(b"g" * 32).bits(n))  # the test has power
    stripes = np.tile(np.array([0, 1], np.uint8), n // 2)
    assert fair(stripes)  # the sum alone passes them; the differences do not
    assert not fair(stripes[1:] ^ stripes[:-1])
    order = Keystream(b"p" * 32).permutation(1000)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(1000))
    assert (order != np.arange(1000)).any()


def test_streams_do_not_show_or_take_other_keys() -> None:
    assert repr(Keystream(b"k" * 32)) == "Keystream()"
    for key in (b"", bytes(16), bytes(33)):
        with pytest.raises(ProtocolError):
            Keystream(key)
    with pytest.raises(ProtocolError):
        Keystream(bytes(32)).bytes(-1)
