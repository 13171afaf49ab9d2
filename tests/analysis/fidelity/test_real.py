"""Measures on real rows: what copies of the population score, and what a wrong table scores."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from twinweave.analysis.fidelity.classifiers import (
    auc,
    auc_interval,
    told_apart,
    trained_on,
)
from twinweave.analysis.fidelity.real import distances, similarities, tvd
from twinweave.tables.column import Column, Kind, Role

SIZES = (4, 3, 2, 5)


def people(n: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """The third column follows from the first two, mostly."""
    codes = np.stack([rng.integers(0, s, n) for s in SIZES], axis=1)
    codes[:, 2] = ((codes[:, 0] + codes[:, 1]) % 2) ^ (rng.random(n) < 0.1)
    return np.asarray(codes, dtype=np.int32)


def torn(codes: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
    """The same columns, each by itself: no relation left."""
    return np.stack([rng.permutation(column) for column in codes.T], axis=1)


@pytest.fixture(scope="module")
def world() -> dict[str, NDArray[np.int32]]:
    rng = np.random.default_rng(3)
    used = people(6000, rng)
    return {
        "used": used,
        "aside": people(700, rng),
        "good": people(6000, rng),
        "torn": torn(used, rng),
    }


def test_a_distance_is_that_of_its_definition(world: dict[str, NDArray[np.int32]]) -> None:
    used, good = world["used"], world["good"]
    by_hand = sum(
        abs(
            float((used[:, [0, 2]] == (a, b)).all(axis=1).mean())
            - float((good[:, [0, 2]] == (a, b)).all(axis=1).mean())
        )
        for a in range(4)
        for b in range(2)
    )
    assert tvd(used, good, (0, 2), SIZES) == pytest.approx(by_hand / 2)


def test_rows_of_the_same_people_are_as_far_as_sampling_alone(
    world: dict[str, NDArray[np.int32]],
) -> None:
    """And torn ones are farther from two columns on, not in one."""
    rng = np.random.default_rng(4)
    used, aside = world["used"], world["aside"]
    for name, near in (("good", True), ("torn", False)):
        one, *more = distances(used, aside, world[name], SIZES, rng)
        assert one.against is not None
        assert one.value < 2 * one.against
        assert all((f.value < 1.5 * (f.against or 0)) == near for f in more[1:])


def test_weak_measures_are_weak(world: dict[str, NDArray[np.int32]]) -> None:
    """Pair tables of torn rows look much like those of the people; that is why."""
    found = {f.name: f for f in similarities(world["used"], world["torn"], SIZES)}
    assert all(f.weak for f in found.values())
    assert found["cosine similarity, pair tables"].value > 0.95
    same = {f.name: f.value for f in similarities(world["used"], world["used"], SIZES)}
    assert same["cosine similarity, correlation matrices"] == pytest.approx(1.0)
    assert same["MSE, pair tables"] == 0.0


def test_trees_tell_torn_rows_and_not_others(world: dict[str, NDArray[np.int32]]) -> None:
    rng = np.random.default_rng(5)
    good, bad = (told_apart(world["used"], world[n], rng) for n in ("good", "torn"))
    assert good is not None
    assert bad is not None
    assert good.interval is not None
    assert good.interval[0] < 0.52
    assert bad.value > 0.65
    assert told_apart(world["used"], world["good"][:50], rng) is None


def test_a_model_trained_on_synthetic_rows_is_held_against_one_of_real_rows(
    world: dict[str, NDArray[np.int32]],
) -> None:
    columns = tuple(
        Column(
            name=f"c{i}",
            kind=Kind.CATEGORICAL,
            role=Role.LABEL if i == 2 else Role.FEATURE,
            levels=tuple(f"l{j}" for j in range(size)),
        )
        for i, size in enumerate(SIZES)
    )
    rng = np.random.default_rng(6)

    def trained(name: str) -> tuple[float, float]:
        (found,) = trained_on(columns, world["used"], world["aside"], world[name], rng)
        assert found.against is not None
        return found.value, found.against

    value, against = trained("good")
    assert value == pytest.approx(against, abs=0.03)
    assert against > 0.85
    assert trained("torn")[0] < 0.6
    assert trained_on(columns, world["used"], world["aside"][:20], world["good"], rng) == []


def test_the_auc_is_the_usual_one() -> None:
    rng = np.random.default_rng(7)
    truth, score = rng.integers(0, 2, 300), np.round(rng.random(300), 1)
    assert auc(truth, score) == pytest.approx(roc_auc_score(truth, score))
    low, high = auc_interval(0.8, 50, 500)
    assert low < 0.8 < high
    assert auc_interval(1.0, 50, 500) == (1.0, 1.0)
