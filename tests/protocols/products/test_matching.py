"""A slot that holds two different users opens nothing: marks against the clear, and in a run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.protocols.parties import Alter, at
from tests.protocols.products.test_deviating import OPEN, SHARE, A, P, parties, sums
from tests.protocols.products.world import (
    PAIR,
    QUERIES,
    SEGMENT_VISIT,
    Table,
    both_tables,
    in_the_clear,
    play,
    product_pair,
)
from tests.statistics import p_levels, plausible
from twinweave.protocols.products import matching
from twinweave.protocols.products.matching import MARKS, marks_of
from twinweave.protocols.products.state import Pass

BFV = "protocol.cross_tables=homomorphic"
NEEDS_TENSEAL = pytest.mark.skipif(find_spec("tenseal") is None, reason="TenSEAL is missing")


def ends_agree(n_slots: int, tables: Any, queries: Any = (SEGMENT_VISIT,)) -> bool:
    """Whether both parties hash the same of the matching."""
    pair = product_pair(queries, n_slots)
    found = play(pair, tables)
    ends = [pair.unmatched(found.shares[p], p) for p in pair.parties]
    assert ends[0].shape == (MARKS,)
    return bool((ends[0] == ends[1]).all())


def tables_of(
    ids: dict[str, NDArray[np.int64]], slots: dict[str, NDArray[np.int64]], n_slots: int
) -> dict[str, Table]:
    """Tables of these users, at these slots."""
    made = both_tables(n_slots, [len(ids["a"]), len(ids["b"])], seed=1)
    return {
        p: Table(
            slots=slots[p],
            codes=t.codes,
            units=t.units,
            marks=marks_of(ids[p], slots[p], PAIR),
        )
        for p, t in made.items()
    }


@pytest.mark.attack("strangers")
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.data(), st.booleans(), st.integers(0, 2**32))
def test_ends_agree_where_no_slot_holds_two_users_and_nowhere_else(
    users: int, data: st.DataObject, wide: bool, seed: int
) -> None:
    """Whatever slots are dealt; a user whom both hold may be at two slots."""
    rng = np.random.default_rng(seed)
    ids = {p: rng.permutation(users)[: data.draw(st.integers(0, users))] for p in "ab"}
    n_slots = 2 * users
    matched = rng.permutation(n_slots)[:users]  # by user: an honest matching
    slots = {p: matched[own] for p, own in ids.items()}
    for p in data.draw(st.sampled_from(["", "a", "b"])):
        slots[p] = rng.permutation(n_slots)[: len(ids[p])]
    at_slot = {p: dict(zip(slots[p].tolist(), ids[p].tolist(), strict=True)) for p in "ab"}
    both = at_slot["a"].keys() & at_slot["b"].keys()
    true = all(at_slot["a"][s] == at_slot["b"][s] for s in both)
    queries = QUERIES if wide else (SEGMENT_VISIT,)
    assert ends_agree(n_slots, tables_of(ids, slots, n_slots), queries) == true


def exchanged() -> dict[str, Table]:
    """Two users whom both hold, each at the other's slot at one party."""
    ids = {p: np.array([7, 8]) for p in "ab"}
    return tables_of(ids, {"a": np.array([0, 1]), "b": np.array([1, 0])}, 4)


@pytest.mark.attack("strangers")
@pytest.mark.broken("strangers")
def test_two_users_exchanged_do_not_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """With marks of ids alone they would: broken variant."""
    assert not ends_agree(4, exchanged())
    real = matching.marks_of
    monkeypatch.setitem(
        globals(), "marks_of", lambda ids, slots, key: real(ids, np.zeros_like(slots), key)
    )
    assert ends_agree(4, exchanged())


def test_marks_depend_on_id_slot_and_secret_alone() -> None:
    ids, slots = np.array(["u1", "u2", "u1", "u1"]), np.array([3, 3, 256, 3 << 40])
    marks = marks_of(ids, slots, PAIR)
    assert marks.shape == (4, MARKS)
    assert marks.dtype == np.uint32
    assert len(np.unique(marks)) == marks.size  # false alarm below 1e-8
    assert (marks == marks_of(ids.astype(object), slots, PAIR)).all()
    assert (marks != marks_of(ids, slots, b"\x03" * 32)).all()
    numbers = np.array([12, 7])
    assert (
        marks_of(numbers, slots[:2], PAIR) == marks_of(numbers.astype(str), slots[:2], PAIR)
    ).all()


def changed_cells(tables: dict[str, Table], user: int, ids: Any, n_slots: int) -> list[int]:
    """By how much the opened cells of a table change that change when the user is taken out."""
    without = {
        p: Table(
            slots=t.slots[ids[p] != user],
            codes=t.codes[ids[p] != user],
            units={k: v[ids[p] != user] for k, v in t.units.items()},
            marks=t.marks[ids[p] != user],
        )
        for p, t in tables.items()
    }
    opened = product_pair((SEGMENT_VISIT,), n_slots).cells(SEGMENT_VISIT).opened
    exact = [opened(in_the_clear(SEGMENT_VISIT, t, n_slots)) for t in (tables, without)]
    return [int(d) for d in exact[0] - exact[1] if d]


@pytest.mark.remains("torn")
def test_what_one_user_changes() -> None:
    """One cell; two, by one each, where the server tears the match apart; never more.

    With strangers in a slot, which the marks keep closed, up to four: broken variant.
    """
    ids, rng = {p: np.arange(8) for p in "ab"}, np.random.default_rng(5)
    found: dict[str, list[list[int]]] = {"true": [], "torn": [], "false": []}
    for _ in range(20):
        own = rng.permutation(8)
        for kind, theirs in (("true", own), ("torn", own + 8), ("false", np.roll(own, 1))):
            tables = tables_of(ids, {"a": own, "b": theirs}, 16)
            assert ends_agree(16, tables) == (kind != "false")
            found[kind] += [changed_cells(tables, user, ids, 16) for user in range(8)]
    assert all(change == [1] for change in found["true"])
    assert all(change == [1, 1] for change in found["torn"])
    assert max(np.square(change).sum() for change in found["false"]) > 2


def turned(own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Everyone at the slot of the next."""
    return np.roll(own, 1)


@pytest.mark.attack("strangers")
@pytest.mark.broken("strangers")
@pytest.mark.parametrize("kind", ["", pytest.param(BFV, marks=NEEDS_TENSEAL)])
@pytest.mark.parametrize("party", [P, A])
@pytest.mark.parametrize("checked", [True, False])
def test_a_false_match_opens_to_uniform_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, party: str, checked: bool
) -> None:
    """A server that deals one party the slots of others: nothing of any table is seen."""
    if not checked:  # broken: what the two parties' shares say of the matching is left out
        real = Pass.bound
        monkeypatch.setattr(
            Pass,
            "bound",
            lambda here, peer, own, theirs, share: real(here, peer, own, theirs, 0 * share),
        )
    run = parties(
        tmp_path, *([kind] if kind else ["workload.pairs=true", "protocol.coin_limit=3000"])
    )
    run.measured(at(SHARE, party, slots=turned))
    assert plausible(p_levels(sums(run), 256)) == checked


@pytest.mark.attack("strangers")
def test_a_false_match_of_two_users_is_enough(tmp_path: Path) -> None:
    run = parties(tmp_path, "workload.pairs=true", "protocol.coin_limit=3000")
    run.measured(false_pair(run))
    assert plausible(p_levels(sums(run), 256))


def false_pair(run: Any) -> Alter:
    """Two rows of the advertiser exchanged, the first of them matched."""
    slots_of: dict[str, NDArray[np.int64]] = {}

    def alter(phase: str, party: str, message: Any) -> Any:
        if phase != SHARE:
            return message
        slots_of[party] = message.slots
        if party != A:
            return message
        first = int(np.flatnonzero(np.isin(message.slots, slots_of[P]))[0])
        order = np.arange(len(message.slots))
        order[[first, first - 1]] = first - 1, first
        return at(SHARE, A, slots=lambda own: own[order])(phase, party, message)

    return alter


def test_an_honest_matching_opens_tables(tmp_path: Path) -> None:
    run = parties(tmp_path, "workload.pairs=true", "protocol.coin_limit=3000")
    run.measured()
    assert (OPEN, P) in run.answered
    assert not plausible(p_levels(sums(run), 256))
