"""The spread of amounts from a noisy table of their bins, against the amounts themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.analysis.lift.lift_world import KEY
from twinweave.analysis.lift.spread import Spread, _not_negative
from twinweave.tables.column import Column, Kind, Role, Rule
from twinweave.tables.encoding import column_codes
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side

SPEND = Column(
    name="spend",
    kind=Kind.CONTINUOUS,
    role=Role.VALUE,
    bounds=(0, 500),
    bins=(0.01, *map(float, range(25, 500, 25))),
)
RNG = np.random.default_rng(1)
AMOUNTS = np.concatenate([np.zeros(60_000), np.minimum(29 + RNG.gamma(0.8, 110.0, 3000), 500)])


def spread(
    amounts: Any = AMOUNTS, column: Column = SPEND, sd: float = 1e-3, seed: int = 0
) -> Spread:
    schema = JointSchema(schemas=(Schema(party="shop", columns=(KEY, column)),))
    counts = np.bincount(column_codes(column, pd.Series(amounts)), minlength=column.size)
    noisy = counts + np.random.default_rng(seed).normal(0, sd, column.size)
    query = Query(sides=(Side(party="shop", columns=(column.name,)),))
    table = Measurement(query=query, values=noisy, variance=sd**2)
    found = Spread.of(schema, [table], column.name)
    assert found is not None
    return found


def ratio(amounts: NDArray[np.float64], clip: float) -> float:
    cut = np.minimum(amounts, clip)
    return float((cut**2).sum() / cut.sum())


@pytest.mark.parametrize("clip", [500.0, 210.0, 120.0, 35.0])
def test_the_ratio_of_moments_is_that_of_the_clipped_amounts(clip: float) -> None:
    found = spread().ratio(clip, 0.0)
    assert found is not None
    assert found[0] == pytest.approx(ratio(AMOUNTS, clip), rel=0.01)


def test_the_dither_is_counted_and_no_more_than_it_can_be() -> None:
    plain, dithered = (spread().ratio(500.0, unit) for unit in (0.0, 40.0))
    assert plain is not None
    assert dithered is not None
    paid = AMOUNTS[AMOUNTS > 0]
    assert (dithered[0] - plain[0]) * paid.mean() == pytest.approx(40.0**2 / 4, rel=0.01)


def test_a_wide_bin_of_those_without_an_amount_never_makes_the_ratio_too_small() -> None:
    """Exponential amounts, a part of them in the lowest bin beside the zeros; 40 edges."""
    amounts = np.concatenate([np.zeros(5000), np.random.default_rng(2).exponential(30, 20_000)])
    amounts = np.minimum(amounts, 500)
    for edge in range(5, 205, 5):
        wide = replace(SPEND, bins=(float(edge), *map(float, range(210, 500, 10))))
        fine = replace(SPEND, bins=(float(edge), *np.arange(edge + 1.0, 500.0)))
        for column, least in ((fine, 1.0), (wide, 0.97)):
            found = spread(amounts, column).ratio(500.0, 0.0)
            assert found is not None
            assert found[0] >= least * ratio(amounts, 500.0)


def test_noise_of_the_ratio_is_what_is_said() -> None:
    """400 draws: their deviation is known to 3.5 %; projecting takes some of it off."""
    drawn = [spread(sd=15.0, seed=i).ratio(200.0, 0.0) for i in range(400)]
    found = np.array([d for d in drawn if d is not None])
    assert len(found) == 400
    assert 0.5 < found[:, 0].std() / found[:, 1].mean() < 1.2
    assert abs(found[:, 0].mean() / ratio(AMOUNTS, 200.0) - 1) < 0.05


def test_a_ratio_that_drowned_is_none() -> None:
    assert spread(sd=2000.0).ratio(500.0, 0.0) is None
    assert spread(np.zeros(100), sd=1e-9).ratio(500.0, 0.0) is None


def test_the_share_above_a_clip() -> None:
    """200 draws at 95 %: fewer than 180 hits have probability 0.001 at the level's own 190."""
    truth = float((AMOUNTS > 125).sum() / (AMOUNTS > 0).sum())
    found = [spread(sd=15.0, seed=i).above(125.0, 0.95) for i in range(200)]
    assert sum(f is not None and f.covers(truth) for f in found) >= 180
    assert spread().above(500.0, 0.95) is None  # the bins end there
    assert spread(sd=2000.0).above(125.0, 0.95) is None
    exact = spread().above(125.0, 0.95)
    assert exact is not None
    assert exact.value == pytest.approx(truth, abs=1e-3)


@pytest.mark.parametrize("kind", [Kind.INTEGER, Kind.CONTINUOUS])
def test_bounds_that_do_not_begin_at_0_and_missing_amounts(kind: Kind) -> None:
    """Above the lower bound; who has no amount counts as 0."""
    column = Column(
        name="spend", kind=kind, role=Role.VALUE, bounds=(-20, 80), bins=100, missing=Rule.LEVEL
    )
    amounts = np.random.default_rng(3).integers(-20, 81, 30_000).astype(np.float64)
    amounts[:5000] = np.nan
    found = spread(amounts, column).ratio(60.0, 0.0)
    assert found is not None
    assert found[0] == pytest.approx(ratio(np.nan_to_num(amounts) + 20, 60.0), rel=0.01)


def test_amounts_at_the_bound() -> None:
    at_bound = np.where(AMOUNTS > 0, 500.0, 0.0)
    assert spread(at_bound, sd=10.0).at_bound == "surely"
    assert spread(sd=10.0).at_bound == "no"


def test_another_party_or_a_coarse_table_does_not_tell_it() -> None:
    schema = JointSchema(schemas=(Schema(party="shop", columns=(KEY, SPEND)),))
    coarse = Query(sides=(Side(party="shop", columns=("spend",), groups=((0, 1),)),))
    table = Measurement(query=coarse, values=np.array([5.0, 6.0]), variance=1.0)
    assert Spread.of(schema, [table], "spend") is None


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8).filter(lambda x: sum(x) > 1e-3))
def test_the_projection_is_the_nearest_table_without_negative_cells(values: list[float]) -> None:
    """By its optimality: what is kept is shifted alike, what is cut would have to grow."""
    y = np.array(values)
    x = _not_negative(y)
    assert x.min() >= 0
    assert x.sum() == pytest.approx(y.sum(), abs=1e-9)
    kept = x > 0
    shift = (y - x)[kept].mean()
    np.testing.assert_allclose((y - x)[kept], shift, atol=1e-9)
    assert (y[~kept] <= shift + 1e-9).all()
