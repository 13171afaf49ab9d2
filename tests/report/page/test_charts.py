"""Charts put numbers where they belong."""

from __future__ import annotations

import re
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinweave.report.page.charts.intervals import Bar, Forest, Row, plot
from twinweave.report.page.charts.scale import Scale

NUMBERS = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


@given(st.lists(NUMBERS, min_size=1, max_size=8))
def test_a_scale_holds_its_numbers_in_order(values: list[float]) -> None:
    scale = Scale.over(values)
    places = [scale.at(v) for v in sorted(values)]
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 100
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 11
    assert all(scale.holds(t) for t in ticks)
    assert len(set(scale.tick_texts())) == len(ticks)


def _shapes(bar: Bar, scale: Scale) -> dict[str, tuple[float, float]]:
    """By class: from where to where."""
    row = Row(name="x", bar=bar, estimate="")
    svg = plot(row, Forest(caption="", rows=[row], heads=("", "", "", ""), scale=scale))
    found = {}
    for shape in re.findall(r"<(?:rect|line) [^>]*>", str(svg)):
        own = dict(re.findall(r'([\w-]+)="([^"]*)"', shape))
        start = float(own["x"] if "x" in own else own["x1"])
        end = float(own["x2"]) if "x2" in own else start + float(own["width"])
        found[own["class"]] = start, end
    return found


def test_an_interval_is_split_in_sampling_and_noise() -> None:
    bar = Bar(value=5.0, low=2.0, high=8.0, sampling=0.5, mark=4.0)
    shapes = _shapes(bar, Scale(low=0.0, high=10.0))
    assert shapes["noise"] == pytest.approx((20, 80))
    assert shapes["sampling"] == pytest.approx((35, 65))
    assert shapes["dot"] == pytest.approx((50, 50))
    assert shapes["mark"] == pytest.approx((40, 40))
    assert shapes["reference"] == pytest.approx((0, 0))


def test_an_open_end_goes_to_the_edge_and_says_so() -> None:
    shapes = _shapes(Bar(value=5.0, low=2.0, high=inf), Scale(low=0.0, high=10.0))
    assert shapes["whole"] == pytest.approx((20, 100))
    assert shapes["open"] == pytest.approx((98, 100))


def test_nothing_is_drawn_off_the_scale() -> None:
    shapes = _shapes(Bar(value=50.0, low=40.0, high=60.0, mark=90.0), Scale(low=0.0, high=10.0))
    assert set(shapes) == {"grid", "reference"}
