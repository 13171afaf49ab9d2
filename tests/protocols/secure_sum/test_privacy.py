"""What a server sees is uniform, and no set of lies opens a small sum; with variants that leak."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.protocols.secure_sum.secure_sum_parties import make_parties, make_plan
from tests.statistics import p_bytes, plausible
from twinweave.errors import ProtocolError
from twinweave.protocols.secure_sum import masking, shamir
from twinweave.protocols.secure_sum.interface import RevealRequest
from twinweave.protocols.secure_sum.masking import MaskingParty
from twinweave.protocols.secure_sum.masks import apply_masks
from twinweave.protocols.secure_sum.plan import SumPlan

WORDS = 1 << 17


def p_value(words: NDArray[np.uint32]) -> float:
    """Chi-square test of uniformity, of all bytes and of the words' differences."""
    both = np.concatenate([words, np.diff(words)])
    return p_bytes(both)


def masked(values: NDArray[np.float64] | None = None) -> tuple[MaskingParty, NDArray[np.uint32]]:
    plan = make_plan(4)
    party = make_parties(plan)["p001"]
    return party, party.protect(np.zeros(WORDS) if values is None else values, 0)[1].words


def without_pair_masks(party: MaskingParty, words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """`words` after every neighbour, told that `party` dropped out, revealed its pair seed."""
    left = words.copy()
    own = party.plan.parties.index(party.own)
    for peer in party.neighbours:
        sign = party.plan.parties.index(peer) > own
        seed = [party._pair_seed(peer, 0)]
        apply_masks(left, plus=[] if sign else seed, minus=seed if sign else [])
    return left


def no_self_mask(words: NDArray[np.uint32], *, plus: list[bytes], minus: list[bytes]) -> None:
    apply_masks(words, plus=plus[1:], minus=minus)


def constant_masks(words: NDArray[np.uint32], *, plus: list[bytes], minus: list[bytes]) -> None:
    for seed in plus:
        words += np.uint32(int.from_bytes(seed[:4], "little"))
    for seed in minus:
        words -= np.uint32(int.from_bytes(seed[:4], "little"))


@pytest.mark.curious("server-updates")
def test_masked_vector_is_uniform() -> None:
    assert plausible(p_value(masked()[1]))
    extreme = np.full(WORDS, make_plan(4).encoding.limit)
    assert plausible(p_value(masked(extreme)[1]))


@pytest.mark.curious("server-updates")
def test_late_vector_of_a_dropped_party_stays_uniform() -> None:
    assert plausible(p_value(without_pair_masks(*masked())))


def test_rounds_do_not_share_masks() -> None:
    party = make_parties(make_plan(4))["p001"]
    first, second = (party.protect(np.zeros(WORDS), r)[1].words for r in (0, 1))
    assert plausible(p_value(first - second))


@pytest.mark.broken("server-updates")
def test_test_catches_a_missing_self_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "apply_masks", no_self_mask)
    assert not plausible(p_value(without_pair_masks(*masked())))


@pytest.mark.broken("server-updates")
def test_test_catches_constant_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "apply_masks", constant_masks)
    assert not plausible(p_value(masked()[1]))


def test_test_catches_masks_that_repeat_in_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    party = make_parties(make_plan(4))["p001"]
    seed = masking.MaskingParty._pair_seed
    monkeypatch.setattr(masking.MaskingParty, "_pair_seed", lambda s, peer, r: seed(s, peer, 0))
    monkeypatch.setattr(masking.MaskingParty, "_self_seed", lambda s, r: bytes(32))
    first, second = (party.protect(np.zeros(WORDS), r)[1].words for r in (0, 1))
    assert not plausible(p_value(first - second))


def opened_groups(
    plan: SumPlan, told: dict[str, set[str]], colluding: tuple[Any, ...]
) -> list[Any]:
    """Groups of honest parties whose sum a server can open, from the set it told each party.

    Plain sets: who withheld which secret. A group: connected by pair masks that stayed secret,
    all of whose self-masks have enough shares.
    """
    honest = [p for p in plan.parties if p not in colluding]

    def joined(u: str, v: str) -> bool:
        return v in plan.neighbours[u] and v in told[u] and u in told[v]

    def bare(u: str) -> bool:
        shares = [v for v in plan.neighbours[u] if v in colluding or u in told[v]]
        return len(shares) >= plan.shares_needed

    left, groups = set(honest), []
    while left:
        group, rim = set(), {left.pop()}
        while rim:
            group |= rim
            rim = {v for v in left for u in rim if joined(u, v)}
            left -= rim
        if all(bare(u) for u in group):
            groups.append(group)
    return groups


def smallest_opened(plan: SumPlan, n_colluding: int) -> int:
    colluding = plan.parties[:n_colluding]
    honest = plan.parties[n_colluding:]
    choices: dict[str, list[set[str]]] = {p: [] for p in honest}
    for flags in product((True, False), repeat=len(plan.parties)):
        alive = dict(zip(plan.parties, flags, strict=True))
        for p in honest:
            try:
                masking.check_alive(plan, alive, p)
            except ProtocolError:
                continue
            choices[p].append({q for q in plan.parties if alive[q]})
    sizes = [
        len(group)
        for told in product(*choices.values())
        for group in opened_groups(plan, dict(zip(honest, told, strict=True)), colluding)
    ]
    return min(sizes)


@pytest.mark.attack("few")
@pytest.mark.parametrize(
    ("n", "colluding"), [(2, 0), (3, 0), (3, 1), (4, 0), (4, 1), (5, 0), (5, 1)]
)
def test_no_lie_opens_a_sum_of_fewer_parties_than_the_plan_says(n: int, colluding: int) -> None:
    plan = make_plan(n, colluding=colluding)
    assert plan.honest_in_any_sum >= 2
    assert smallest_opened(plan, colluding) >= plan.honest_in_any_sum


@pytest.mark.broken("few")
@pytest.mark.parametrize(("n", "threshold"), [(3, 1), (4, 1)])
def test_test_catches_a_threshold_that_is_too_low(n: int, threshold: int) -> None:
    plan = make_plan(n, threshold=threshold)
    assert plan.honest_in_any_sum == smallest_opened(plan, 0) == 1


def isolate(plan: SumPlan, victim: str) -> NDArray[np.float64] | None:
    """What a lying server gets of the victim's vector; None without enough shares.

    It tells as many helpers as it can that all are alive, the victim that the helpers dropped
    out, and the others that the victim did.
    """
    parties = make_parties(plan)
    others = [p for p in plan.parties if p != victim]
    helpers = others[: len(plan.parties) - plan.min_alive]
    at, upload = parties[victim].protect(np.full(4, 1.25), 0)
    seeds: dict[str, Any] = {}
    shares: dict[Any, Any] = {}
    told = {p: {q: q != victim for q in plan.parties} for p in others}
    told |= {p: dict.fromkeys(plan.parties, True) for p in helpers}
    told[victim] = {q: q not in helpers for q in plan.parties}
    for p in plan.parties:
        state = at if p == victim else parties[p].protect(np.zeros(4), 0)[0]
        answer = state.reveal(RevealRequest(round=0, alive=told[p]))[1].secrets
        if p == victim:
            seeds |= {h: answer[h] for h in helpers}
        elif p in helpers:
            shares[plan.neighbours[victim].index(p) + 1] = np.frombuffer(answer[victim], np.uint8)
        else:
            seeds[p] = answer[victim]
    if len(shares) < plan.shares_needed:
        return None
    bare = upload.words.copy()
    b = shamir.combine(shares, threshold=plan.shares_needed).tobytes()
    after = [s for p, s in seeds.items() if p > victim]
    apply_masks(bare, plus=[s for p, s in seeds.items() if p < victim], minus=[b, *after])
    return plan.encoding.decode(bare)[:-1]


@pytest.mark.attack("few")
@pytest.mark.broken("few")
def test_lying_server_isolates_a_party_only_below_the_derived_threshold() -> None:
    safe = make_plan(5)
    assert isolate(safe, "p002") is None
    assert isolate(replace(safe, threshold=2), "p002").tolist() == [1.25] * 4
