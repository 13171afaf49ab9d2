"""The masked secure sum: against the sum in the clear, against refusals it owes, and replays."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.protocols.secure_sum.secure_sum_parties import (
    keys_of,
    make_parties,
    make_plan,
    run_round,
    secret,
)
from twinweave.errors import ChannelError, ConfigError, ProtocolError, RunError
from twinweave.parsing import canonical_json, parse
from twinweave.protocols import wire
from twinweave.protocols.channel.identity import Identity
from twinweave.protocols.channel.keys import PairKeys, make_hello
from twinweave.protocols.secure_sum.interface import Progress, Revealed, RevealRequest, Upload
from twinweave.protocols.secure_sum.masking import MaskingParty, MaskingServer
from twinweave.protocols.secure_sum.masks import _CHUNK_BYTES, apply_masks
from twinweave.protocols.secure_sum.plan import SumPlan, check_collusion

PLANS = {
    f"{n}-{bits}-{degree}": make_plan(n, bits=bits, degree=degree, threshold=threshold)
    for n, bits, degree, threshold in (
        (2, 32, 0, 0),
        (3, 64, 0, 0),
        (4, 32, 0, 0),
        (6, 64, 0, 3),
        (9, 32, 0, 0),
        (12, 32, 6, 3),
        (33, 64, 6, 4),
    )
}
PARTIES = {name: make_parties(plan) for name, plan in PLANS.items()}


def can_open(plan: SumPlan, dropped: list[Any], vanished: list[Any]) -> bool:
    """The rules in plain sets: enough in the sum, enough shares, every pair seed known."""
    alive = set(plan.parties) - set(dropped)
    if plan.min_alive == len(plan.parties):
        return not dropped
    t, near, answering = plan.shares_needed, plan.neighbours, alive - set(vanished)
    return (
        len(alive) >= plan.min_alive
        and all(len(alive & set(near[p])) >= t for p in alive)
        and all(len(answering & set(near[p])) >= t for p in alive)
        and all(alive & set(near[d]) <= answering for d in dropped)
    )


@settings(max_examples=80)
@given(name=st.sampled_from(sorted(PLANS)), seed=st.integers(0, 2**32), data=st.data())
def test_sum_is_the_sum_in_the_clear_or_a_clear_end(name: str, seed: int, data: Any) -> None:
    plan, rng = PLANS[name], np.random.default_rng(seed)
    n, bound = len(plan.parties), plan.encoding.limit
    values = {p: rng.uniform(-bound, bound, 7) for p in plan.parties}
    most = n - plan.min_alive + 1
    dropped = rng.choice(plan.parties, data.draw(st.integers(0, most)), replace=False).tolist()
    left = [p for p in plan.parties if p not in dropped]
    most = min(len(left), n - plan.shares_needed)
    vanished = rng.choice(left, data.draw(st.integers(0, most)), replace=False).tolist()

    def run() -> NDArray[np.float64]:
        return run_round(PARTIES[name], values, dropped=dropped, vanished=vanished)

    if can_open(plan, dropped, vanished):
        clear = np.sum([values[p] for p in left], axis=0)
        # Above 2**53 units float64 itself rounds.
        allowed = n * plan.encoding.error + 1e-15 * n * bound
        assert np.abs(run() - clear).max() <= allowed
    else:
        with pytest.raises(RunError, match=r"too few parties (uploaded|answered).*Repeat it"):
            run()


def test_two_parties_need_one_message() -> None:
    plan = make_plan(2)
    parties = make_parties(plan)
    server = MaskingServer(plan, round_=0, length=2)
    for name, party in parties.items():
        server.add(name, party.protect(np.array([1.5, -2.0]), 0)[1])
    assert server.requests() == {}
    assert server.finish({}).tolist() == [3.0, -4.0]


def test_setup_from_signed_hellos() -> None:
    identities = {p: Identity.from_seed(bytes([i]) * 32) for i, p in enumerate("abcde", start=1)}
    pins = {p: identity.public_hex for p, identity in identities.items()}
    made = {
        p: make_hello(i, p, "run-1", "spec", rows=9, run_secret=secret(p))
        for p, i in identities.items()
    }
    plan = replace(make_plan(5), parties=tuple("abcde"))
    keys = {
        p: {
            q: PairKeys.agree(made[p][0], made[p][1], made[q][1], pins=pins)
            for q in "abcde"
            if q != p
        }
        for p in "abcde"
    }
    fresh = {p: MaskingParty(plan=plan, own=p, secret=secret(p), keys=keys[p]) for p in "abcde"}
    dealt = {p: party.deal() for p, party in fresh.items()}
    parties = {
        p: party.accept({q: dealt[q][p] for q in party.neighbours}) for p, party in fresh.items()
    }
    assert run_round(parties, {p: np.ones(3) for p in "abcde"}, dropped="c").tolist() == [4.0] * 3


def reference_hkdf(key: bytes, *context: str) -> bytes:
    """RFC 5869 with hmac alone, one block."""
    info = b"".join(b"s" + len(c).to_bytes(8, "little") + c.encode() for c in context)
    pseudo_random_key = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(pseudo_random_key, info + b"\x01", "sha256")


def reference_stream(key: bytes, n_words: int) -> NDArray[np.uint32]:
    """AES-256 of a counter, block by block: SP 800-38A without its CTR mode."""
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    blocks = b"".join(ecb.update(i.to_bytes(16, "big")) for i in range((n_words + 3) // 4))
    return np.frombuffer(blocks, "<u4")[:n_words]


def test_masked_vector_is_the_documented_one() -> None:
    plan = make_plan(3)
    own, round_ = "p001", 2
    values = np.array([1.0, -1.0, 0.25])
    _, upload = make_parties(plan)[own].protect(values, round_, "what all were told")
    at = (plan.digest, str(round_))
    self_mask = reference_hkdf(secret(own), "secure sum: self mask", *at)
    pair = {
        peer: reference_hkdf(
            reference_hkdf(keys.root, "pair secret", "secure sum: pair mask"),
            *at,
            "what all were told",
        )
        for peer, keys in keys_of(plan, own).items()
    }
    expected = np.array([1 << 16, -1 << 16, 1 << 14, 1]).astype(np.uint32)
    expected += reference_stream(self_mask, 4) + reference_stream(pair["p002"], 4)
    expected -= reference_stream(pair["p000"], 4)
    assert upload.words.tolist() == expected.tolist()


def test_masked_vector_stays_the_same_across_versions() -> None:
    parties = make_parties(make_plan(3))
    _, upload = parties["p000"].protect(np.zeros(1000), 0)
    assert sha256(upload.words.astype("<u4").tobytes()).hexdigest() == (
        "ea43eef314486dc41740a67b5062e3ae2ffd3741d94a8c00eff5a182e2b8776b"
    )
    assert sha256(upload.secrets["p001"] + upload.secrets["p002"]).hexdigest() == (
        "0496d409375fadcf49295b136c908972809ca8acf35a701540dc4477c68e0b16"
    )


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_masks_do_not_depend_on_the_pieces_they_are_added_in(dtype: type[Any]) -> None:
    n = 2 * _CHUNK_BYTES // np.dtype(dtype).itemsize + 5
    words = np.zeros(n, dtype)
    apply_masks(words, plus=[b"a" * 32, b"b" * 32], minus=[b"c" * 32])
    apply_masks(words, plus=[b"c" * 32], minus=[b"a" * 32, b"b" * 32])
    assert not words.any()
    apply_masks(words, plus=[b"a" * 32], minus=[])
    few = reference_stream(b"a" * 32, 4 * n)
    assert words.tolist() == few.view(np.dtype(dtype))[:n].tolist()


ALIVE = dict.fromkeys(make_plan(5).parties, True)
BAD_REQUESTS = {
    "a party is missing": {"alive": dict.fromkeys(list(ALIVE)[:4], True)},
    "an unknown party": {"alive": {**ALIVE, "p999": True}},
    "nobody": {"alive": {}},
    "not a yes or no": {"alive": {**ALIVE, "p001": 1}},
    "itself left out": {"alive": {**ALIVE, "p000": False}},
    "too few": {"alive": {**ALIVE, "p001": False, "p002": False}},
    "another round": {"round": 1},
    "a round outside the plan": {"round": 3},
    "a negative round": {"round": -1},
    "a round that is no number": {"round": "0"},
    "true for a round": {"round": True},
}


@pytest.mark.attack("few")
@pytest.mark.parametrize("change", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_party_refuses(change: Any) -> None:
    party, _ = make_parties(make_plan(5))["p000"].protect(np.zeros(2), 0)
    with pytest.raises(ProtocolError):
        party.reveal(RevealRequest(**{"round": 0, "alive": ALIVE, **change}))


@pytest.mark.attack("survivors")
def test_party_answers_one_set_of_survivors_a_round() -> None:
    party, _ = make_parties(make_plan(5))["p000"].protect(np.zeros(2), 0)
    request = RevealRequest(round=0, alive={**ALIVE, "p003": False})
    party, first = party.reveal(request)
    party, again = party.reveal(request)
    assert again.secrets == first.secrets
    for other in (ALIVE, {**ALIVE, "p001": False}):
        with pytest.raises(ProtocolError, match="other survivors"):
            party.reveal(RevealRequest(round=0, alive=other))


def test_party_masks_a_round_once_and_with_masks_of_its_own() -> None:
    party = make_parties(make_plan(5))["p000"]
    masked, first = party.protect(np.zeros(50), 0)
    with pytest.raises(ProtocolError, match="round 0 was protected before"):
        masked.protect(np.ones(50), 0)
    _, second = masked.protect(np.zeros(50), 1)
    other_run = make_parties(make_plan(5, run="run-2"))["p000"].protect(np.zeros(50), 0)[1]
    for other in (second, other_run):
        assert np.count_nonzero(first.words == other.words) <= 1


def test_what_was_dealt_is_bound_to_run_plan_and_place() -> None:
    plan = make_plan(5)
    fresh = MaskingParty(plan=plan, own="p000", secret=secret("p000"), keys=keys_of(plan, "p000"))
    for wrong in (make_plan(5, run="run-2"), make_plan(5, rounds=4)):
        dealer = make_parties(wrong)
        with pytest.raises(ChannelError):
            fresh.accept({p: dealer[p].deal()["p000"] for p in fresh.neighbours})
    dealt = {p: make_parties(plan)[p].deal() for p in fresh.neighbours}
    with pytest.raises(ChannelError, match="another receiver"):
        fresh.accept({p: sealed["p001" if p != "p001" else "p002"] for p, sealed in dealt.items()})
    with pytest.raises(ProtocolError, match="nothing dealt by p001"):
        fresh.accept({p: dealt[p]["p000"] for p in fresh.neighbours if p != "p001"})
    with pytest.raises(ProtocolError, match="Accept what the peers dealt"):
        fresh.protect(np.zeros(2), 0)
    with pytest.raises(ProtocolError, match="no keys with 'p001'"):
        replace(fresh, keys={})


def test_progress_survives_storage() -> None:
    plan = make_plan(5)
    party, _ = make_parties(plan)["p000"].protect(np.zeros(2), 0)
    party, told = party.reveal(RevealRequest(round=0, alive=ALIVE))
    stored = wire.from_bytes(Progress, wire.to_bytes(party.progress))
    restored = replace(party, progress=stored)
    assert stored == party.progress
    assert restored.reveal(RevealRequest(round=0, alive=ALIVE))[1].secrets == told.secrets
    with pytest.raises(ProtocolError, match="protected before"):
        restored.protect(np.zeros(2), 0)


@pytest.mark.parametrize(
    "message",
    [
        Upload(words=np.arange(3, dtype=np.uint32), secrets={"p1": b"x"}),
        Upload(words=np.arange(3, dtype=np.uint8), sealed={"p1": b"y"}),
        RevealRequest(round=2, alive={"p1": True, "p2": False}),
        Revealed(secrets={"p1": b"z"}),
    ],
)
def test_messages_travel(message: RevealRequest | Revealed | Upload) -> None:
    again = wire.from_bytes(type(message), wire.to_bytes(message))
    (scalars, arrays), (scalars2, arrays2) = wire.flatten(message), wire.flatten(again)
    assert scalars == scalars2
    assert {k: v.tolist() for k, v in arrays.items()} == {k: v.tolist() for k, v in arrays2.items()}


def test_server_refuses_uploads_out_of_place() -> None:
    parties = make_parties(make_plan(5))
    uploads = {name: party.protect(np.zeros(2), 0)[1] for name, party in parties.items()}
    server = MaskingServer(make_plan(5), round_=0, length=2)
    for name, upload in uploads.items():
        wrong = Upload(words=upload.words.astype(np.uint64))
        with pytest.raises(ProtocolError, match="another shape or dtype"):
            server.add(name, wrong)
        if name != "p004":
            server.add(name, upload)
    for name in ("p000", "stranger"):
        with pytest.raises(ProtocolError, match="unknown, repeated or late"):
            server.add(name, uploads["p000"])
    with pytest.raises(ProtocolError, match="not closed"):
        server.finish({})
    server.requests()
    with pytest.raises(ProtocolError, match="late"):
        server.add("p004", uploads["p004"])
    with pytest.raises(ProtocolError, match="one secret a neighbour"):
        server.finish({"p000": Revealed(secrets={"p001": bytes(32)})})


@pytest.mark.attack("stories")
def test_masks_that_do_not_cancel_are_noticed() -> None:
    plan = make_plan(5)
    parties = make_parties(plan)
    keys = {p: replace(k, root=secret("other")) for p, k in parties["p002"].keys.items()}
    stray = replace(parties["p002"], keys=keys)
    with pytest.raises(ProtocolError, match="do not cancel"):
        run_round({**parties, "p002": stray}, {p: np.zeros(3) for p in plan.parties})


def test_secrets_have_no_repr() -> None:
    plan = make_plan(5)
    party, upload = make_parties(plan)["p000"].protect(np.zeros(2), 0)
    party, revealed = party.reveal(RevealRequest(round=0, alive=ALIVE))
    texts = repr((party, upload, revealed, party.progress))
    hidden = [party.secret, *party.progress.shares.values(), *revealed.secrets.values()]
    assert not any(repr(value)[2:-1] in texts for value in hidden)
    assert str(upload.words[0]) not in texts


def test_plan_travels_in_a_specification() -> None:
    plan = make_plan(33, degree=6)
    assert parse(SumPlan, json.loads(canonical_json(plan))) == plan
    assert parse(SumPlan, json.loads(canonical_json(plan))).digest == plan.digest


@pytest.mark.parametrize(
    "terms",
    [
        {"rounds": 0},
        {"colluding": 5},
        {"colluding": -1},
        {"degree": 3},
        {"degree": 5},
        {"threshold": 5},
        {"threshold": -1},
        {"colluding": 2, "threshold": 2},
        {"run": ""},
        {"parties": ("p", "p", "q", "r", "s")},
        {"parties": ("p", "q")},
    ],
)
def test_plan_refuses(terms: Any) -> None:
    with pytest.raises(ConfigError):
        replace(make_plan(5), **terms)


@pytest.mark.parametrize(
    ("n", "colluding", "private", "allowed"),
    [
        (2, 0, False, True),
        (2, 1, False, False),
        (2, 1, True, True),
        (5, 3, False, True),
        (5, 4, False, False),
        (5, 4, True, True),
        (1, 0, True, False),
        (3, 3, True, False),
        (3, -1, True, False),
    ],
)
def test_sum_without_privacy_needs_two_honest_parties(
    n: int, colluding: int, private: bool, allowed: bool
) -> None:
    if allowed:
        return check_collusion(n, colluding, private=private)
    with pytest.raises(ConfigError):
        check_collusion(n, colluding, private=private)
    return None
