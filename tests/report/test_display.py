"""What a person reads lies in its own interval and within what is possible, whatever the noise."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analysis.lift.lift_world import CONF, SCHEMA, WORKLOAD, counted, noisy, people
from tests.report.facts import FACTS
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.compare import compare
from twinweave.analysis.lift.intervals import Estimate, Mean, Rate
from twinweave.analysis.lift.needed import needed
from twinweave.analysis.lift.results import Comparison
from twinweave.report.display import shown_comparison
from twinweave.report.terminal.comparisons import relative_text
from twinweave.report.terminal.lift import lift_section

sizes, sds = st.floats(5, 50_000), st.floats(0.1, 400)
away = st.floats(-4, 4)
rates = st.builds(
    lambda n, p, s, t, e: Rate(n=n, total=p * n + e * s, var_n=t**2, var_total=s**2, cov=0.0),
    sizes,
    st.floats(0, 1),
    sds,
    sds,
    away,
)
means = st.builds(
    lambda n, m, s, t, e, v: Mean(
        n=n, total=m * n + e * s, var_n=t**2, var_total=s**2, variance=v**2
    ),
    sizes,
    st.floats(0, 1),
    sds,
    sds,
    away,
    st.floats(0.01, 10),
)


def numbers(text: str) -> list[float]:
    return [float(n.replace(",", "")) for n in re.findall(r"[+-]?\d[\d,]*\.?\d*", text)]


def check(found: Comparison) -> None:
    told = shown_comparison(found)
    for arm in (told.test, told.control):
        low, high = arm.rate.interval
        assert 0 <= low <= arm.rate.value <= high <= 1
        assert arm.n >= 0
        assert 0 <= arm.total <= arm.n * (1 + 1e-9)
    for effect in (told.absolute, told.incremental):
        assert effect.interval[0] <= effect.value <= effect.interval[1]
    low, high = found.absolute.interval
    if low <= 0 <= high:  # no effect is possible: then none is possible in numbers of users too
        assert found.incremental.interval[0] <= 0 <= found.incremental.interval[1]
    assert told.relative is not None
    if told.relative.value is not None:
        assert told.relative.value >= -1
        assert any(
            low <= told.relative.value and (high is None or told.relative.value <= high)
            for low, high in told.relative.pieces
        )
    assert all(low >= -1 for low, _ in told.relative.pieces)
    value, words = relative_text(told.relative)
    ends = numbers(words)
    if value != "unknown" and len(told.relative.pieces) == 1 and len(ends) == 2:
        assert ends[0] <= numbers(value)[0] <= ends[1]
    assert "anything" not in words


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.tuples(rates, rates), st.tuples(means, means)))
def test_an_estimate_is_shown_inside_its_interval(arms: tuple[Estimate, Estimate]) -> None:
    check(compare(*arms, level=0.95, possible=(0, 1)))


def test_what_came_out_below_zero_stays_in_the_findings() -> None:
    """The broken variant: what is shown, without the display."""
    below = Rate(n=1000, total=-2, var_n=1, var_total=25, cov=0)
    found = compare(below, below, level=0.95, possible=(0, 1))
    assert found.test.rate == pytest.approx(-0.002)
    assert not found.test.interval[0] <= found.test.rate
    told = shown_comparison(found)
    assert told.test.rate.value == told.test.total == told.absolute.value == 0


@settings(deadline=None)
@given(rates, rates)
def test_what_would_decide_it_is_about_the_lift_that_is_shown(test: Rate, control: Rate) -> None:
    found = compare(test, control, level=0.95, possible=(0, 1))
    size = needed(found, epsilon=1.0, delta=1e-5).size
    assert size == abs(shown_comparison(found).absolute.value)


def test_a_lift_that_came_out_beyond_what_is_possible_is_not_the_one_to_find() -> None:
    below = Rate(n=1000, total=-30, var_n=1, var_total=900, cov=0)
    found = compare(replace(below, total=30), below, level=0.95, possible=(0, 1))
    assert found.absolute.value == pytest.approx(0.06)
    assert needed(found, epsilon=1.0, delta=1e-5).size == pytest.approx(0.03)


def test_what_needs_no_clipping_is_shown_as_it_is() -> None:
    test, control = (Rate(n=1000, total=t, var_n=4, var_total=4, cov=0) for t in (120, 90))
    found = compare(test, control, level=0.95, possible=(0, 1))
    told = shown_comparison(found)
    assert told.absolute.value == pytest.approx(found.absolute.value)
    assert told.incremental.value == pytest.approx(found.incremental.value)
    assert told.relative is not None
    assert found.relative is not None
    assert told.relative.value == pytest.approx(found.relative.value)
    assert told.relative.pieces == found.relative.intervals
    assert told.test.total == pytest.approx(120)


@pytest.mark.parametrize("seed", range(12))
def test_the_summary_has_no_rate_or_count_that_cannot_be(seed: int) -> None:
    """As it is printed, of a small experiment under noise as large as its conversions."""
    rng = np.random.default_rng(seed)
    users: dict[str, Any] = people(400, rng)
    users["bought"] = (rng.random(400) < 0.01).astype(int)
    report = analyse(SCHEMA, [noisy(q, counted(users, q), 8.0, rng) for q in WORKLOAD], CONF)
    for line in lift_section(report, FACTS):
        if re.match(r"  (test|control) ", line) and "%" in line:
            _, total, rate, low, high = numbers(line)
            assert total >= 0
            assert 0 <= low <= rate <= high <= 100
        if line.startswith("  absolute lift"):
            value, low, high, *_ = numbers(line)
            assert low <= value <= high
