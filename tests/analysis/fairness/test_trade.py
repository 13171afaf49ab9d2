"""A model on fair rows beside one on rows as measured; and which columns look sensitive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.analysis.fairness.test_fairness import KEY, RACE, SEX
from twinweave.analysis.fairness import trade as trading
from twinweave.analysis.fairness.look_alikes import look_alikes
from twinweave.analysis.fairness.trade import Trade, trade
from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.population import row_counts
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.analyses import FairnessConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side

SCHEMA = JointSchema(
    schemas=(
        Schema(
            party="a",
            columns=(
                KEY,
                SEX,
                Column(name="x", kind=Kind.INTEGER, bounds=(0.0, 8.0), bins=8),
                Column(name="w", kind=Kind.INTEGER, bounds=(0.0, 64.0), bins=64),
            ),
        ),
        Schema(
            party="b",
            columns=(KEY, SEX, RACE, Column(name="good", kind=Kind.BOOLEAN, role=Role.LABEL)),
        ),
    )
)
LAYOUT = UnionLayout.of(SCHEMA)
AT = {name: i for i, name in enumerate(LAYOUT.names)}
BOTH = FairnessConf(sensitive=("sex", "race"), label="good", positive="1")
BY_SEX = replace(BOTH, sensitive=("sex",))


def everyone(n: int = 6000) -> Rows:
    """The label follows sex and x, which follows sex a little; w tells nothing."""
    rng = np.random.default_rng(4)
    sex = rng.integers(0, 2, n)
    x = rng.integers(0, 7, n) + sex
    good = rng.random(n) < 0.1 + 0.2 * sex + 0.07 * x
    own = {"sex": sex, "x": x, "w": rng.integers(0, 64, n), "good": good}
    own["race"] = rng.integers(0, 3, n)
    codes = np.stack([own[name] for name in LAYOUT.names], axis=1).astype(np.int32)
    return Rows(codes=codes, presence=np.ones((n, 2), dtype=bool))


def without_regard_to_sex(rows: Rows) -> Rows:
    """Labels drawn anew from x less what x owes to sex: at parity, by construction."""
    codes, rng = rows.codes.copy(), np.random.default_rng(5)
    codes[:, AT["good"]] = rng.random(len(codes)) < 0.2 + 0.07 * (
        codes[:, AT["x"]] - codes[:, AT["sex"]]
    )
    return replace(rows, codes=codes)


def found(original: Rows, fair: Rows, conf: FairnessConf = BY_SEX) -> Trade:
    out = trade(SCHEMA, conf, original, fair, k=10, seed=1)
    assert out is not None
    return out


def test_fair_rows_take_the_difference_away_and_cost_accuracy() -> None:
    rows = everyone()
    told = found(rows, without_regard_to_sex(rows))
    (before,), (after,) = told.before, told.after
    assert before.parity is not None
    assert after.parity is not None
    assert before.parity.value > 0.3
    assert after.parity.value < 0.1
    assert told.accuracy_after < told.accuracy_before - 0.01


def test_the_same_rows_cost_nothing() -> None:
    told = found(everyone(), everyone(), BOTH)
    assert told.accuracy_before == told.accuracy_after
    assert [b.columns for b in told.before] == [("sex",), ("race",), ("sex", "race")]
    for was, now in zip(told.before, told.after, strict=True):
        assert was.parity is not None
        assert now.parity is not None
        assert was.parity.value == now.parity.value


def test_no_model_has_learned_from_people_alike_those_it_is_judged_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[NDArray[Any], NDArray[Any]]] = []

    def decisions(x: NDArray[Any], _: object, asked: NDArray[Any], state: int) -> NDArray[Any]:
        seen.append((x, asked))
        return np.asarray(asked[:, 0] > 0)

    monkeypatch.setattr(trading, "_decisions", decisions)
    rows = everyone(3000)
    found(rows, without_regard_to_sex(rows))
    assert len(seen) == 2
    for learned, asked in seen:
        assert not {row.tobytes() for row in learned} & {row.tobytes() for row in asked}


def test_too_few_rows_or_one_label_tell_nothing() -> None:
    rows = everyone(150)
    one_label = replace(rows, codes=np.where(np.arange(len(AT)) == AT["good"], 1, rows.codes))
    assert trade(SCHEMA, BY_SEX, rows, rows, k=10, seed=1) is None
    assert trade(SCHEMA, BY_SEX, everyone(3000), one_label, k=10, seed=1) is None


def noisy_by_sex(x: NDArray[Any], sigma: float, seed: int = 0) -> Measurement:
    """The table of sex by x, with x as given."""
    rows = everyone(len(x))
    codes = rows.codes.copy()
    codes[:, AT["x"]] = x
    query = Query(sides=(Side(party="a", columns=("sex", "x")),))
    counts = row_counts(query, LAYOUT, replace(rows, codes=codes))
    noise = np.random.default_rng(seed).normal(0, sigma, counts.shape)
    return Measurement(query=query, values=counts + noise, variance=sigma**2)


def test_a_column_that_tells_a_declared_one_is_named() -> None:
    sex, rng = everyone(4000).codes[:, AT["sex"]], np.random.default_rng(6)
    x = np.where(rng.random(4000) < 0.8, sex, 5)
    told = {one.column: one for one in look_alikes(SCHEMA, BY_SEX, [noisy_by_sex(x, 5.0)])}
    assert told["x"].of == "sex"
    assert told["x"].strength == pytest.approx(0.9, abs=0.03)  # V of x, in the clear: .8 ** .5
    assert told["x"].trait is None
    assert told["race"].trait is not None  # by its name alone
    assert told["race"].of is None


def test_noise_alone_names_no_column() -> None:
    """Five standard deviations: a false alarm in 20 tables has a chance below 1e-5."""
    x = np.random.default_rng(7).integers(0, 8, 4000)
    for seed in range(20):
        told = look_alikes(SCHEMA, BY_SEX, [noisy_by_sex(x, 30.0, seed)])
        assert "x" not in {one.column for one in told}
