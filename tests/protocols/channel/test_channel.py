"""The sealed channel: known answers, every wrong place, every kind of tampering."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from twinweave.errors import ChannelError
from twinweave.protocols.channel import keys as channel
from twinweave.protocols.channel.identity import Identity
from twinweave.protocols.channel.keys import (
    SEGMENT_BYTES,
    TAG_BYTES,
    Hello,
    PairKeys,
    make_hello,
    open_sealed,
    pair_secret,
    seal,
    verify_hello,
)
from twinweave.protocols.keystream import encode_context

VECTORS = json.loads((Path(__file__).parent / "vectors" / "channel.json").read_text())
A, B, C = (Identity.from_seed(bytes([i]) * 32) for i in (1, 2, 3))
PINS = {"a": A.public_hex, "b": B.public_hex, "c": C.public_hex}
PLACE = {"phase": "query.blind", "label": "1"}


def hello(
    identity: Identity, party: str, run: str = "run-1", spec: str = "spec", rows: int = 3
) -> tuple[Any, Hello]:
    secret = identity.public_hex.encode()[:32]
    return make_hello(identity, party, run, spec, rows=rows, run_secret=secret)


def pair(
    run: str = "run-1", one: tuple[str, Identity] = ("a", A), other: tuple[str, Identity] = ("b", B)
) -> tuple[PairKeys, PairKeys]:
    (key, mine), (peer_key, peers) = hello(one[1], one[0], run), hello(other[1], other[0], run)
    return (
        PairKeys.agree(key, mine, peers, pins=PINS),
        PairKeys.agree(peer_key, peers, mine, pins=PINS),
    )


AT_A, AT_B = pair()


def test_x25519_gives_the_answer_of_rfc_7748() -> None:
    alice = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
    bob = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(alice))
    public = X25519PublicKey.from_public_bytes(bytes.fromhex(bob))
    assert private.exchange(public).hex() == shared


def test_identity_gives_the_answer_of_rfc_8032() -> None:
    seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
    identity = Identity.from_seed(bytes.fromhex(seed))
    public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert identity.public_hex == public
    assert identity.sign(b"\x72").hex() == signature


def test_aes_gcm_gives_the_answer_of_its_specification() -> None:
    # McGrew, Viega, test case 16 (AES-256, 96-bit nonce, associated data): RFC 5116's AEAD.
    cipher = AESGCM(bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2))
    plaintext = (
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e24"
        "49a6b525b16aedf5aa0de657ba637b39"
    )
    sealed = cipher.encrypt(
        bytes.fromhex("cafebabefacedbaddecaf888"),
        bytes.fromhex(plaintext),
        bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
    )
    assert sealed.hex() == (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10"
        "56828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"
    )


def test_sealed_messages_match_the_independent_implementation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, salt = bytes.fromhex(VECTORS["root"]), bytes.fromhex(VECTORS["salt"])
    at_a = PairKeys(own="party_a", peer="party_b", run_id="run-1", root=root)
    at_b = PairKeys(own="party_b", peer="party_a", run_id="run-1", root=root)
    monkeypatch.setattr(os, "urandom", lambda n: salt[:n])
    small, large = VECTORS["small"], VECTORS["two_segments"]
    plaintext = bytes.fromhex(small["plaintext"])
    place = {"phase": small["phase"], "label": small["label"]}
    assert seal(plaintext, keys=at_a, **place).hex() == small["sealed"]
    assert open_sealed(bytes.fromhex(small["sealed"]), keys=at_b, **place) == plaintext
    plaintext = bytes(i * i % 251 for i in range((1 << 20) + 100))
    place = {"phase": large["phase"], "label": large["label"]}
    sealed = seal(plaintext, keys=at_a, **place)
    assert hashlib.sha256(sealed).hexdigest() == large["sealed_sha256"]
    assert open_sealed(sealed, keys=at_b, **place) == plaintext


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("segments", [0, 1, 2])
def test_any_length_opens_again(segments: int, extra: int) -> None:
    plaintext = os.urandom(max(0, segments * SEGMENT_BYTES + extra))
    sealed = seal(memoryview(plaintext), keys=AT_A, **PLACE)
    assert open_sealed(sealed, keys=AT_B, **PLACE) == plaintext
    assert open_sealed(memoryview(sealed), keys=AT_B, **PLACE) == plaintext


def test_two_seals_share_no_ciphertext() -> None:
    one, other = (seal(bytes(64), keys=AT_A, **PLACE) for _ in range(2))
    assert one[-80:] != other[-80:]


@pytest.mark.attack("sealed")
@settings(max_examples=60)
@given(st.data())
def test_any_altered_or_missing_byte_is_refused(data: Any) -> None:
    sealed = bytearray(seal(b"of no use to the server", keys=AT_A, **PLACE))
    at = data.draw(st.integers(0, len(sealed) - 1))
    cut = bytes(sealed[:at])
    sealed[at] ^= data.draw(st.integers(1, 255))
    for wrong in (bytes(sealed), cut, bytes(sealed) + b"\0"):
        with pytest.raises(ChannelError):
            open_sealed(wrong, keys=AT_B, **PLACE)


@pytest.mark.attack("sealed")
def test_segments_cannot_be_cut_off_swapped_or_appended() -> None:
    sealed = seal(bytes(3 * SEGMENT_BYTES), keys=AT_A, **PLACE)
    step = SEGMENT_BYTES + TAG_BYTES
    head, one, two, three = (
        sealed[: -3 * step],
        sealed[-3 * step : -2 * step],
        sealed[-2 * step : -step],
        sealed[-step:],
    )
    for body in ((one, two), (two, one, three), (one, two, three, three), (one, three), ()):
        with pytest.raises(ChannelError):
            open_sealed(head + b"".join(body), keys=AT_B, **PLACE)


@pytest.mark.attack("sealed")
@pytest.mark.parametrize(
    ("change", "run", "names"),
    [
        ({"phase": "query.share"}, "run-1", "another phase"),
        ({"label": "2"}, "run-1", "another label"),
        ({}, "run-2", "another run"),
    ],
)
def test_a_message_of_another_place_is_named(change: dict[str, str], run: str, names: str) -> None:
    sealed = seal(b"x", keys=AT_A, **PLACE)
    _, at_b = pair(run=run)
    with pytest.raises(ChannelError, match=names):
        open_sealed(sealed, keys=at_b, **PLACE | change)


def relabelled_message_opens() -> bool:
    """A relay writes the phase it likes into the clear header: does the message open there?"""
    elsewhere = PLACE | {"phase": "query.share"}
    old, new = (
        encode_context("twinweave message 1", "run-1", p["phase"], p["label"], "a", "b")
        for p in (PLACE, elsewhere)
    )
    assert len(old) == len(new)
    sealed = seal(b"x", keys=AT_A, **PLACE).replace(old, new)
    try:
        open_sealed(sealed, keys=AT_B, **elsewhere)
    except ChannelError:
        return False
    return True


@pytest.mark.attack("sealed")
@pytest.mark.broken("sealed")
def test_the_phase_is_bound_and_leaving_it_out_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not relabelled_message_opens()
    monkeypatch.setattr(
        channel,
        "_context",
        lambda run, phase, label, sender, receiver: encode_context(
            "twinweave message 1", run, label, sender, receiver
        ),
    )
    assert relabelled_message_opens()


@pytest.mark.attack("sealed")
@pytest.mark.curious("outsider")
def test_reflection_wrong_receiver_and_foreign_keys_are_refused() -> None:
    sealed = seal(b"x", keys=AT_A, **PLACE)
    with pytest.raises(ChannelError, match="another sender"):
        open_sealed(sealed, keys=AT_A, **PLACE)
    _, at_c = pair(other=("c", C))
    with pytest.raises(ChannelError, match="another receiver"):
        open_sealed(sealed, keys=at_c, **PLACE)
    with pytest.raises(ChannelError, match="does not verify"):
        open_sealed(sealed, keys=replace(AT_B, root=bytes(32)), **PLACE)


@pytest.mark.attack("sealed")
def test_a_run_replayed_in_another_run_does_not_open() -> None:
    sealed = seal(b"x", keys=AT_A, **PLACE)
    _, later = pair(run="run-2")
    with pytest.raises(ChannelError, match="does not verify"):
        open_sealed(sealed, keys=replace(later, run_id="run-1"), **PLACE)


@pytest.mark.attack("keys", "sizes")
@pytest.mark.parametrize(
    ("change", "pins", "names"),
    [
        ({}, {"a": PINS["a"]}, "not pinned"),
        ({}, PINS | {"b": PINS["c"]}, "signature"),
        ({}, PINS | {"b": "junk"}, "64 hex digits"),
        ({"party": "c"}, PINS, "signature"),
        ({"public_key": bytes(range(32))}, PINS, "signature"),
        ({"run_id": "run-0"}, PINS, "signature"),
        ({"spec_hash": "other"}, PINS, "signature"),
        ({"rows": 10**9}, PINS, "signature"),
        ({"holdout": "ab"}, PINS, "signature"),
    ],
)
def test_a_wrong_hello_is_named(change: Any, pins: dict[str, str], names: str) -> None:
    _, good = hello(B, "b")
    assert verify_hello(good, PINS, "run-1", "spec") is good
    with pytest.raises(ChannelError, match=names):
        verify_hello(replace(good, **change), pins, "run-1", "spec")


@pytest.mark.attack("keys")
def test_an_old_hello_or_one_of_another_specification_is_refused() -> None:
    with pytest.raises(ChannelError, match="another run"):
        verify_hello(hello(B, "b", run="run-0")[1], PINS, "run-1", "spec")
    with pytest.raises(ChannelError, match="another run specification"):
        verify_hello(hello(B, "b", spec="other")[1], PINS, "run-1", "spec")


@pytest.mark.parametrize(
    "junk",
    [{"party": ""}, {"run_id": 3}, {"public_key": b"x"}, {"signature": "s" * 64}, {"holdout": 3}],
)
def test_hello_refuses_junk(junk: dict[str, Any]) -> None:
    with pytest.raises(ChannelError):
        replace(hello(B, "b")[1], **junk)


def test_agreement_refuses_itself_a_foreign_key_and_small_order() -> None:
    (key, mine), (_, peers) = hello(A, "a"), hello(B, "b")
    with pytest.raises(ChannelError, match="own name"):
        PairKeys.agree(key, mine, mine, pins=PINS)
    with pytest.raises(ChannelError, match="not the one"):
        PairKeys.agree(X25519PrivateKey.generate(), mine, peers, pins=PINS)
    signed = channel._signed_part("b", "run-1", "spec", 3, bytes(32), "")
    forged = replace(peers, public_key=bytes(32), signature=B.sign(signed))
    with pytest.raises(ChannelError, match="small order"):
        PairKeys.agree(key, mine, forged, pins=PINS)


def test_both_ends_share_secrets_that_differ_by_purpose_pair_and_run() -> None:
    assert pair_secret(AT_A, "prf") == pair_secret(AT_B, "prf")
    secrets = [pair_secret(AT_A, "prf"), pair_secret(AT_A, "coins")]
    secrets += [
        pair_secret(pair(run="run-2")[0], "prf"),
        pair_secret(pair(other=("c", C))[0], "prf"),
    ]
    assert len(set(secrets)) == 4


def test_a_repeated_setup_gets_the_same_hello_and_other_runs_other_keys() -> None:
    secret = bytes(32)
    first = make_hello(A, "a", "run-1", "spec", rows=3, run_secret=secret)[1]
    assert make_hello(A, "a", "run-1", "spec", rows=3, run_secret=secret)[1] == first
    others = [("run-2", "spec"), ("run-1", "other")]
    for run, spec in others:
        assert (
            make_hello(A, "a", run, spec, rows=3, run_secret=secret)[1].public_key
            != first.public_key
        )


def test_secrets_have_no_repr() -> None:
    assert AT_A.root.hex() not in repr(AT_A)
    assert repr(AT_A.root) not in repr(AT_A)
    assert repr(A) == f"Identity({A.public_hex})"


@pytest.mark.attack("files")
def test_identity_files(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"
    A.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Identity.load(path).public_hex == A.public_hex
    with pytest.raises(ChannelError, match="exists"):
        B.save(path)
    path.chmod(0o640)
    with pytest.raises(ChannelError, match="others may read"):
        Identity.load(path)
    for content, good in ((b"01" * 32 + b"\n", True), (b"nonsense", False), (b"\xff\0", False)):
        text = tmp_path / "other"
        text.write_bytes(content)
        text.chmod(0o600)
        if good:
            assert Identity.load(text).public_hex == A.public_hex
        else:
            with pytest.raises(ChannelError, match="not an Ed25519"):
                Identity.load(text)
    with pytest.raises(ChannelError, match="no readable"):
        Identity.load(tmp_path / "absent")
