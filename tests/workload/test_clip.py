"""A clip is chosen from a noisy table as it would be from the rows, and clips few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinweave.tables.column import VALUE_UNITS, Column, Kind, Role, Rule
from twinweave.workload import clip
from twinweave.workload.clip import MOST_CLIPPED, Contrast, Floats, choose_clip, non_negative

EDGES = (0.01, 10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 300.0)
SPEND = Column(
    name="spend",
    kind=Kind.CONTINUOUS,
    role=Role.VALUE,
    bounds=(0, 400),
    bins=EDGES,
    missing=Rule.LEVEL,
)
USERS, BUYERS = 20_000, 1_500


def amounts(seed: int = 0) -> Floats:
    """Of all users: most bought nothing, and the others' amounts have a long tail."""
    rng = np.random.default_rng(seed)
    spend = np.zeros(USERS)
    spend[:BUYERS] = np.minimum(np.exp(3.3 + 0.9 * rng.standard_normal(BUYERS)), 400)
    return spend


def counted(spend: Floats) -> Floats:
    """By bin, and nobody without a value."""
    codes = np.searchsorted(EDGES, spend, side="right")
    return np.bincount(codes, minlength=SPEND.size).astype(np.float64)


def contrast(noise: float) -> Contrast:
    """Of two arms of 5,000; noise: standard deviation of a sum, in units."""
    return Contrast(sampling=2 / 5000, noise=2 * noise**2 / 5000**2)


def signal_to_noise(spend: Floats, at: float, told: Contrast) -> float:
    cut = np.minimum(spend, at)
    return float(
        cut.mean() / np.sqrt(told.sampling * cut.var() + told.noise * (at / VALUE_UNITS) ** 2)
    )


@pytest.mark.parametrize("noise", [0.0, 50.0, 300.0, 3000.0])
def test_no_clip_of_the_rows_would_tell_an_effect_much_better(noise: float) -> None:
    spend, told = amounts(), contrast(noise)
    chosen = choose_clip(SPEND, counted(spend), 1.0, told)
    allowed = [c for c in range(1, 401) if (spend > c).sum() <= MOST_CLIPPED * BUYERS]
    best = max(signal_to_noise(spend, c, told) for c in allowed)
    assert signal_to_noise(spend, chosen, told) > 0.95 * best
    assert (spend > chosen).sum() < 1.2 * MOST_CLIPPED * BUYERS


def test_without_the_bound_on_the_share_most_amounts_would_be_clipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spend = amounts()
    monkeypatch.setattr(clip, "MOST_CLIPPED", 1.0)
    assert (spend > choose_clip(SPEND, counted(spend), 1.0, contrast(300.0))).sum() > BUYERS / 3


def test_amounts_lost_in_the_noise_are_not_clipped() -> None:
    spend = amounts()
    spend[30:] = 0
    assert choose_clip(SPEND, counted(spend), 15.0**2, contrast(300.0)) == 400
    assert choose_clip(SPEND, 0.0 * counted(spend), 15.0**2, contrast(300.0)) == 400


def test_noise_in_an_empty_tail_seldom_raises_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody spends more than 80; noise says of some bins above that somebody does. Fixed seed."""
    rng = np.random.default_rng(3)
    spend = np.minimum(amounts(), 80 - 1e-9)
    many, told = counted(spend), contrast(300.0)
    noise = rng.normal(0, 15, (400, len(many)))
    assert {choose_clip(SPEND, many + own, 225.0, told) > 100 for own in noise} == {False}
    spend[300:] = 0
    few = counted(spend)
    high = np.mean([choose_clip(SPEND, few + own, 225.0, told) > 100 for own in noise])
    assert high < 0.25
    # Negative cells cut off, and the positive ones beside them all taken for people.
    monkeypatch.setattr(clip, "non_negative", lambda counts: np.maximum(counts, 0))
    worse = np.mean([choose_clip(SPEND, few + own, 225.0, told) > 100 for own in noise])
    assert worse > high + 0.03


def test_an_integer_column_and_bounds_without_0() -> None:
    """Every amount is positive; a bin of whole numbers ends at its last one."""
    column = Column(
        name="n", kind=Kind.INTEGER, role=Role.VALUE, bounds=(1, 100), bins=(2, 3, 5, 10, 50)
    )
    counts = np.array([500.0, 300.0, 150.0, 40.0, 8.0, 2.0])
    chosen = choose_clip(column, counts, 1.0, contrast(1000.0))
    assert 2 <= chosen <= 5


@given(st.lists(st.floats(-1e3, 1e6), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_the_nearest_table_without_negative_cells(cells: list[float], seed: int) -> None:
    counts = np.array(cells)
    found = non_negative(counts)
    assert (found >= 0).all()
    if counts.sum() <= 0:
        assert not found.any()
        return
    scale = np.abs(counts).max()
    assert found.sum() == pytest.approx(counts.sum(), abs=1e-9 * scale)
    other = np.random.default_rng(seed).dirichlet(np.ones(len(counts))) * counts.sum()
    near, far = (np.square(table - counts).sum() for table in (found, other))
    assert near <= far + 1e-9 * scale**2
