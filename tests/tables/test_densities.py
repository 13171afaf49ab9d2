"""Densities within bins: exact mass, continuity at edges, tails that fall as real ones do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kstest

from twinweave.tables import encoding
from twinweave.tables.column import Column, Kind
from twinweave.tables.densities import LEAST, Densities, densities
from twinweave.tables.encoding import column_codes, decode_column

Bins = st.lists(st.tuples(st.floats(0, 1e6), st.floats(1e-3, 1e6)), min_size=2, max_size=12)


def at(found: Densities, place: float) -> NDArray[np.float64]:
    """Density of every bin at a place within it, of mean 1."""
    even, falling, rising, bump = found.shares
    p = found.powers
    ends = falling * (p + 1) * (1 - place) ** p + rising * (p + 1) * place**p
    return np.asarray(even + ends + bump * 6 * place * (1 - place))


@settings(max_examples=200)
@given(Bins)
def test_densities_are_continuous_at_inner_edges_and_proper(
    bins: list[tuple[float, float]],
) -> None:
    counts, widths = np.array(bins).T
    found = densities(counts, widths)
    assert (found.shares >= 0).all()
    np.testing.assert_allclose(found.shares.sum(axis=0), 1)
    assert (found.powers >= 0).all()
    mean = np.maximum(counts, LEAST) / widths
    before, after = at(found, 1.0)[:-1] * mean[:-1], at(found, 0.0)[1:] * mean[1:]
    np.testing.assert_allclose(before, after, rtol=1e-6)


def test_places_are_drawn_from_the_density() -> None:
    """Bins that rise, fall, are a bump and a trough; each p-value above 1e-6 on honest draws, and
    a uniform draw is found out."""
    found = densities(np.array([900.0, 300.0, 1000.0, 100.0, 400.0]), np.ones(5))
    rng = np.random.default_rng(1)
    for i in range(5):

        def below(x: NDArray[np.float64], i: int = i) -> NDArray[np.float64]:
            even, falling, rising, bump = found.shares[:, i]
            q = found.powers[i] + 1
            ends = falling * (1 - (1 - x) ** q) + rising * x**q
            return np.asarray(even * x + ends + bump * x**2 * (3 - 2 * x))

        drawn = found.draw(np.full(20_000, i), rng)
        assert kstest(drawn, below).pvalue > 1e-6
        assert kstest(rng.random(20_000), below).pvalue < 1e-6
        assert drawn.mean() == pytest.approx(found.means[i], abs=0.01)


@pytest.mark.parametrize("bins", [(1000.0, 2000.0, 5000.0), (500.0, 3000.0, 8000.0, 20_000.0)])
def test_the_open_tail_of_amounts_has_their_mean(bins: tuple[float, ...]) -> None:
    """Lognormal amounts in bins of which the last is long; uniform within it is far off."""
    rng = np.random.default_rng(2)
    real = np.minimum(np.exp(7.5 + rng.standard_normal(20_000)), 200_000)
    column = Column(name="x", kind=Kind.CONTINUOUS, bounds=(0, 200_000), bins=bins)
    codes = column_codes(column, pd.Series(real))
    counts = np.bincount(codes, minlength=column.size).astype(float)
    falling, uniform = (
        decode_column(column, codes, rng, known).mean() / real.mean() for known in (counts, None)
    )
    assert 0.85 < falling < 1.15
    assert uniform > 1.3


@pytest.mark.parametrize("kind", [Kind.INTEGER, Kind.CONTINUOUS])
@given(counts=st.lists(st.floats(0, 1e5), min_size=4, max_size=4), seed=st.integers(0, 2**32))
def test_numbers_stay_in_their_bins(kind: Kind, counts: list[float], seed: int) -> None:
    column = Column(name="x", kind=kind, bounds=(-3, 90), bins=(0.0, 1.0, 40.0))
    codes = np.repeat(np.arange(4), 25)
    drawn = decode_column(column, codes, np.random.default_rng(seed), np.array(counts))
    found = column_codes(column, pd.Series(drawn))
    np.testing.assert_array_equal(found, codes)
    assert encoding.decode_column(column, codes[25:50], np.random.default_rng(seed)).max() < 1
