"""Offsets of label logits, held against brute force on rows whose chances are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from twinweave.synthesis.fairness.curve import STRENGTHS, curve
from twinweave.synthesis.fairness.groups import NO_CELL, Groups
from twinweave.synthesis.fairness.offsets import Scored, chance, offsets
from twinweave.synthesis.fairness.targets import reweighted, scores


def grouped(cell: NDArray[Any], stratum: tuple[int, ...] | None = None) -> Groups:
    size = int(cell.max()) + 1
    return Groups(
        columns=("g",),
        cell=cell.astype(np.int64),
        stratum=np.array(stratum or (0,) * size),
        names=tuple(map(str, range(size))),
        pooled=(),
        left_out=(),
        number=np.arange(size)[None],
    )


def scored(rng: np.random.Generator, n: int, cell: NDArray[Any]) -> Scored:
    logits = rng.normal(-1 + 0.8 * np.maximum(cell, 0), 1.3, n)
    weights = rng.random(n) + 0.2
    return Scored(
        logits=logits, positive=rng.random(n) < chance(logits), weights=weights / weights.sum()
    )


def test_labels_turn_so_that_they_have_the_moved_chance() -> None:
    """P(turned label | logit) is the moved chance: 5 standard errors in each of 20 parts."""
    rng = np.random.default_rng(1)
    cell = np.zeros(200_000, dtype=int)
    rows = scored(rng, len(cell), cell)
    for shift in (-1.5, 0.7):
        turned = rng.random(len(cell)) < rows.moved(np.full(len(cell), shift))
        for part in np.array_split(np.argsort(rows.logits), 20):
            q = chance(rows.logits[part] + shift)
            error = np.sqrt((q * (1 - q)).sum()) / len(part)
            assert abs(turned[part].mean() - q.mean()) < 5 * error


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), strength=st.floats(0, 1), groups=st.integers(2, 4))
def test_rates_go_a_part_of_the_way(seed: int, strength: float, groups: int) -> None:
    rng = np.random.default_rng(seed)
    cell = rng.integers(-1, groups, 4000)
    g, rows = grouped(cell), scored(rng, 4000, cell)
    shift, ((before, aimed, reached),) = offsets("demographic_parity", strength, [g], rows)
    own = g.rates(rows.positive.astype(float), rows.weights)
    inside = cell != NO_CELL
    whole = np.average(rows.positive[inside], weights=rows.weights[inside])
    found = g.rates(rows.moved(shift), rows.weights)
    np.testing.assert_allclose(found, (1 - strength) * own + strength * whole, atol=1e-9)
    assert aimed == pytest.approx((1 - strength) * before)
    assert reached == pytest.approx(aimed, abs=1e-8)
    assert (shift[~inside] == 0).all()


def test_strata_have_rates_of_their_own() -> None:
    rng = np.random.default_rng(3)
    cell = rng.integers(0, 4, 6000)
    g, rows = grouped(cell, (0, 0, 1, 1)), scored(rng, 6000, cell)
    shift, _ = offsets("conditional_parity", 1.0, [g], rows)
    found = g.rates(rows.moved(shift), rows.weights)
    assert found[0] == pytest.approx(found[1])
    assert found[2] == pytest.approx(found[3])
    assert abs(found[0] - found[2]) > 0.1


def test_two_groupings_at_once() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.integers(0, 2, 8000), rng.integers(0, 3, 8000)
    rows = scored(rng, 8000, first + second)
    found = [grouped(first), grouped(second)]
    shift, differences = offsets("demographic_parity", 1.0, found, rows)
    for g, (before, _, reached) in zip(found, differences, strict=True):
        assert before > 0.1
        assert reached < 1e-4
        assert g.gap(g.rates(rows.moved(shift), rows.weights)) == pytest.approx(reached)


def test_odds_are_as_close_as_any_threshold_a_group_brings_them() -> None:
    """Against every threshold tried one by one."""
    rng = np.random.default_rng(5)
    cell = rng.integers(0, 2, 400)
    g, rows = grouped(cell), scored(rng, 400, cell)
    shift, ((before, _, reached),) = offsets("equalized_odds", 1.0, [g], rows)
    assert reached < before / 2

    def errors(decided: NDArray[Any], inside: NDArray[Any]) -> NDArray[Any]:
        return np.array(
            [
                np.average(decided[inside & kind], weights=rows.weights[inside & kind])
                for kind in (rows.positive, ~rows.positive)
            ]
        )

    pooled = errors(rows.logits > 0, np.ones(400, dtype=bool))
    for c in (0, 1):
        inside = cell == c
        tried = [
            np.abs(errors(rows.logits > t, inside) - pooled).max()
            for t in [-99.0, *rows.logits[inside]]
        ]
        here = np.abs(errors(rows.logits + shift > 0, inside) - pooled).max()
        assert here == pytest.approx(min(tried))


def test_odds_move_nobody_where_errors_are_alike() -> None:
    """Of thresholds as good as each other, the one that leaves the logits where they are."""
    cell = np.repeat([0, 1], 500)
    logits = np.tile(np.repeat([-2.0, 1.0], 250), 2)
    positive = np.tile(np.arange(250) % 5 == 0, 4)
    rows = Scored(logits=logits, positive=positive, weights=np.full(1000, 1e-3))
    shift, ((before, _, reached),) = offsets("equalized_odds", 1.0, [grouped(cell)], rows)
    assert before == reached == 0
    np.testing.assert_array_equal(shift, 0)


def test_a_group_in_which_nobody_has_the_label_is_compared_in_the_other_error_alone() -> None:
    rng = np.random.default_rng(7)
    cell = rng.integers(0, 2, 3000)
    rows = scored(rng, 3000, cell)
    rows = replace(rows, logits=rows.logits + cell, positive=rows.positive & (cell == 1))
    _, ((before, _, reached),) = offsets("equalized_odds", 1.0, [grouped(cell)], rows)
    assert reached < 0.1 < before  # as a rate of its own, none of nobody, it would be far apart


def test_a_curve_is_what_every_strength_would_bring() -> None:
    rng = np.random.default_rng(8)
    cell = rng.integers(0, 2, 9000)
    g, rows = grouped(cell), scored(rng, 9000, cell)
    points = curve("demographic_parity", [g], rows)
    assert [p.strength for p in points] == list(STRENGTHS)
    for p in points:
        shift, ((_, aimed, _),) = offsets("demographic_parity", p.strength, [g], rows)
        decided = rows.logits + shift > 0
        assert p.labels == pytest.approx(aimed, abs=1e-8)
        assert p.parity == pytest.approx(np.ptp(g.rates(decided.astype(float), rows.weights)))
        assert p.accuracy == pytest.approx(float(rows.weights @ (decided == rows.positive)))
    assert points[-1].parity < points[0].parity / 4
    assert points[-1].accuracy < points[0].accuracy


def test_weights_bring_the_chances_about_in_every_part() -> None:
    rng = np.random.default_rng(6)
    cell = rng.integers(-1, 2, 5000)
    g, rows = grouped(cell), scored(rng, 5000, cell)
    shift, _ = offsets("demographic_parity", 1.0, [g], rows)
    wanted, parts = rows.moved(shift), scores(g, rows)
    weights = reweighted(rows, wanted, [parts])
    for part in range(parts.max() + 1):
        here = parts == part
        assert weights[here].sum() == pytest.approx(rows.weights[here].sum())
        assert weights[here & rows.positive].sum() == pytest.approx(
            (rows.weights * wanted)[here].sum()
        )
    np.testing.assert_allclose(weights[parts == NO_CELL], rows.weights[parts == NO_CELL])
