"""Reconciled tables against generalised least squares over all free cells, by brute force."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from twinweave.analysis.lift.reconcile import (
    EVERYONE,
    Attribute,
    Block,
    Margin,
    Reconciled,
    reconcile,
)

HERE: tuple[Attribute, ...] = (("a", "region"), ("a", "age"))
THERE: tuple[Attribute, ...] = (("b", "bought"), ("b", "visited"))
ELSEWHERE: tuple[Attribute, ...] = (("c", "member"),)
SIZES = dict(zip((*HERE, *THERE, *ELSEWHERE), (2, 3, 2, 2, 3), strict=True))

Floats = NDArray[np.float64]


@st.composite
def tables(draw: st.DrawFn) -> list[Block]:
    """Up to five tables of one arm with two groups of users, each with noise of its own."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    found = []
    for _ in range(draw(st.integers(1, 5))):
        own = tuple(draw(st.lists(st.sampled_from(HERE), unique=True, max_size=2)))
        party, theirs = draw(st.sampled_from((("", ()), ("b", THERE), ("c", ELSEWHERE))))
        columns = st.lists(st.sampled_from(theirs), unique=True) if theirs else st.just([])
        variance = draw(st.sampled_from((1.0, 3.0, 25.0)))

        def block(
            counts: dict[str, int], at: tuple[Attribute, ...], variance: float = variance
        ) -> Block:
            values = rng.normal(0, 30, (2, *(SIZES[a] for a in at)))
            return Block(counts=counts, attributes=at, values=values, variance=variance)

        if party:
            found.append(block({party: 1}, (*own, *draw(columns))))
            found.append(block({EVERYONE: 1, party: -1}, own))
        else:
            found.append(block({EVERYONE: 1}, own))
    return found


USERS = [
    (cell, at_b, at_c)
    for cell in product(*(range(SIZES[a]) for a in HERE))
    for at_b in (None, *product(*(range(SIZES[a]) for a in THERE)))
    for at_c in (None, *product(*(range(SIZES[a]) for a in ELSEWHERE)))
]
"""Every kind of user there can be: the free cells of the joint table."""


def holds(user: Any, name: str) -> bool:
    _, at_b, at_c = user
    return name == EVERYONE or (at_b if name == "b" else at_c) is not None


def row(counts: dict[str, int], at: dict[Attribute, int]) -> Floats:
    """Which of USERS a cell counts."""
    found = np.zeros(len(USERS))
    for i, user in enumerate(USERS):
        codes = dict(zip(HERE, user[0], strict=True))
        for columns, own in ((THERE, user[1]), (ELSEWHERE, user[2])):
            codes |= dict(zip(columns, own, strict=True)) if own is not None else {}
        if all(codes.get(a) == code for a, code in at.items()):
            found[i] = sum(sign for name, sign in counts.items() if holds(user, name))
    return found


def cells(block: Block) -> list[dict[Attribute, int]]:
    sizes = (range(SIZES[a]) for a in block.attributes)
    return [dict(zip(block.attributes, codes, strict=True)) for codes in product(*sizes)]


def oracle(blocks: list[Block], wanted: Floats) -> tuple[Floats, Floats]:
    """Least squares over the free cells: estimates and covariance of `wanted` (rows of USERS)."""
    design = np.array([row(dict(b.counts), at) for b in blocks for at in cells(b)])
    precision = np.concatenate([np.full(len(cells(b)), 1 / b.variance) for b in blocks])
    y = np.concatenate([b.values.reshape(2, -1) for b in blocks], axis=1)
    inverse = np.linalg.pinv(design.T @ (precision[:, None] * design), rcond=1e-9, hermitian=True)
    theta = (y * precision) @ design @ inverse
    return theta @ wanted.T, wanted @ inverse @ wanted.T


def margins(blocks: list[Block], together: Reconciled) -> list[Margin]:
    found = []
    for users in together.users:
        for b in blocks:
            if users in b.counts:
                found += [Margin(users=users, at=at) for at in cells(b)]
    return found


@settings(max_examples=40, deadline=None)
@given(tables())
def test_it_is_least_squares_over_the_free_cells(blocks: list[Block]) -> None:
    together = reconcile(blocks)
    asked = margins(blocks, together)
    theta, cov = together.read(asked)
    wanted = np.array([row({m.users: 1}, dict(m.at)) for m in asked])
    expected, expected_cov = oracle(blocks, wanted)
    np.testing.assert_allclose(theta, expected, atol=1e-7)
    np.testing.assert_allclose(cov, expected_cov, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(tables())
def test_no_cell_gets_noisier_and_margins_agree(blocks: list[Block]) -> None:
    together = reconcile(blocks)
    for block in blocks:
        read = [[Margin(users=u, at=at) for at in cells(block)] for u in block.counts]
        theta, cov = together.read([m for own in read for m in own])
        signs = np.repeat(list(block.counts.values()), len(cells(block)))
        same = np.tile(np.eye(len(cells(block))), len(block.counts)) * signs
        assert np.all(np.diag(same @ cov @ same.T) <= block.variance * (1 + 1e-9))
        total, _ = together.read([Margin(users=u) for u in block.counts])
        signed = np.array(list(block.counts.values()))
        np.testing.assert_allclose((theta * signs).sum(axis=1), total @ signed, atol=1e-8)


def test_levels_borrow_from_the_total() -> None:
    """Four levels of variance 4 whose sum a second table knows: 4 (1 - 3/4 / 4) where exactly."""
    region, bought = ("a", "quarter"), ("b", "bought")
    fine = Block(
        counts={EVERYONE: 1}, attributes=(region, bought), values=np.zeros((1, 4, 2)), variance=4.0
    )
    coarse = Block(counts={EVERYONE: 1}, attributes=(), values=np.zeros(1), variance=1e-9)
    level = Margin(at={region: 0})
    assert reconcile([fine]).read([level])[1][0, 0] == pytest.approx(8.0)
    assert reconcile([fine, coarse]).read([level])[1][0, 0] == pytest.approx(8.0 * 3 / 4)


def test_nothing_to_reconcile_is_refused() -> None:
    with pytest.raises(ValueError, match="no table"):
        reconcile([])
