"""From tables to report: against a brute-force count, and what it refuses to show."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.analysis.lift.lift_world import CONF, SCHEMA, WORKLOAD, a, b, cross, exact, noisy, people
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.estimate import Counts, estimate_counts
from twinweave.analysis.lift.results import Verdict
from twinweave.errors import ConfigError
from twinweave.parsing import to_plain
from twinweave.tables.column import VALUE_UNITS, value_unit
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query

USERS = people(3000, np.random.default_rng(5))
IN_ARM = [USERS["at_a"] & np.isin(USERS["arm"], arm) for arm in ((0, 2), (1,))]
BOUGHT = USERS["at_b"] & (USERS["bought"] == 1)


def tables(sd: float = 1e-3, queries: Any = WORKLOAD, seed: int = 0) -> list[Measurement]:
    rng = np.random.default_rng(seed)
    return [noisy(q, in_the_clear(q), sd, rng) for q in queries]


@cache
def in_the_clear(query: Query) -> NDArray[Any]:
    return exact(USERS, query)


@pytest.mark.parametrize(
    "query",
    [
        cross(a("arm"), b("bought")),
        cross(b("bought"), a("arm")),
        cross(a("region", "arm"), b("channel", "bought")),
        cross(b("bought", "visited"), a("age", "arm", "region")),
        cross(a("arm", "region")),
    ],
    ids=lambda q: q.name,
)
def test_margins_of_a_table_match_a_count_in_the_clear(query: Query) -> None:
    counts = estimate_counts(SCHEMA, CONF, tables(queries=[query]))
    assert counts is not None
    codes = {c: USERS[c] for c in query.columns if c != "arm"}
    for arm, inside in zip(CONF.all_arms, IN_ARM, strict=True):
        for n in range(len(codes) + 1):
            for chosen in combinations(codes, n):
                at = dict.fromkeys(chosen, 1)
                elsewhere = any(c in SCHEMA.schema("b").names for c in chosen)
                users = inside & (USERS["at_b"] if elsewhere else True)
                users = users & np.all([codes[c] == 1 for c in chosen], axis=0)
                assert counts.size(arm, at)[0] == pytest.approx(users.sum(), abs=0.1)


def test_variance_of_a_margin_counts_the_cells_summed() -> None:
    measured = tables(sd=2.0, queries=[cross(a("arm", "region"), b("bought"))])
    counts = estimate_counts(SCHEMA, CONF, measured)
    assert counts is not None
    for arm, levels in (("test", 2), ("control", 1)):
        rate = counts.rate(arm, "bought")
        assert rate.var_total / 4 == pytest.approx(levels * 3)  # regions
        assert rate.var_n / 4 == pytest.approx(levels * 3 * 3)  # bought, not bought, absent
        assert rate.cov / 4 == pytest.approx(levels * 3)


def test_tables_without_what_is_asked_are_passed_over() -> None:
    measured = tables(queries=[cross(a("region")), cross(a("region"), b("bought"))])
    assert estimate_counts(SCHEMA, CONF, measured) is None
    counts = estimate_counts(SCHEMA, CONF, tables(queries=[cross(a("arm", "region"))]))
    assert counts is not None
    assert counts.tells(segment=["region"])
    assert not counts.tells("bought")
    assert not counts.tells(segment=["age"])


def test_least_squares_is_unbiased_and_its_covariance_true() -> None:
    """400 draws of the noise; each z is below 5.5: false alarm below 1e-6 for all twelve."""
    queries = [*WORKLOAD[:2], WORKLOAD[4], cross(a("arm", "age"))]
    exact = tables(queries=queries)
    rng = np.random.default_rng(11)
    drawn = []
    for _ in range(400):
        again = [
            replace(m, variance=s**2, values=m.values + rng.normal(0, s, m.values.shape))
            for m, s in zip(exact, (3.0, 5.0, 4.0, 2.0), strict=True)
        ]
        counts = estimate_counts(SCHEMA, CONF, again)
        assert counts is not None
        drawn.append([estimates(counts, arm)[0] for arm in CONF.all_arms])
    assert counts is not None
    for g, (name, arm) in enumerate(zip(CONF.all_arms, IN_ARM, strict=True)):
        got = np.array(drawn)[:, g]
        truth = np.array([arm.sum(), (arm & BOUGHT).sum(), (arm & USERS["at_b"]).sum()])
        variance = np.diag(estimates(counts, name)[1])
        assert np.all(np.abs(got.mean(axis=0) - truth) < 5.5 * np.sqrt(variance / 400))
        ratio = got.var(axis=0) / variance
        assert np.all(np.abs(ratio - 1) < 5.5 * np.sqrt(2 / 400))


def estimates(counts: Counts, arm: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Size, conversions and users held, and their noise's covariance as far as it is read."""
    bought, held = counts.rate(arm, "bought"), counts.held(arm, "b")
    cov = np.diag([bought.var_n, bought.var_total, held.var_total])
    cov[0, 1] = cov[1, 0] = bought.cov
    cov[0, 2] = cov[2, 0] = held.cov
    within = counts.rate(arm, "bought", held_by="b")
    cov[1, 2] = cov[2, 1] = within.cov
    return np.array([bought.n, bought.total, held.total]), cov


def test_more_tables_never_cost_precision() -> None:
    few = estimate_counts(SCHEMA, CONF, tables(sd=5, queries=WORKLOAD[1:2]))
    many = estimate_counts(SCHEMA, CONF, tables(sd=5))
    assert few is not None
    assert many is not None
    for arm in CONF.all_arms:
        less = estimates(few, arm)[1] - estimates(many, arm)[1]
        assert np.all(np.linalg.eigvalsh(less) > -1e-9)


def test_report_finds_the_exact_figures_when_noise_is_next_to_nothing() -> None:
    report = analyse(SCHEMA, tables(), CONF)
    n1, n0 = (arm.sum() for arm in IN_ARM)
    y1, y0 = ((arm & BOUGHT).sum() for arm in IN_ARM)
    found = report.conversions[0].overall
    assert found is not None
    assert found.absolute.value == pytest.approx(y1 / n1 - y0 / n0, abs=1e-4)
    assert found.incremental.value == pytest.approx(y1 - n1 * y0 / n0, abs=0.1)
    assert found.relative is not None
    assert found.relative.value == pytest.approx(y1 / n1 / (y0 / n0) - 1, abs=1e-3)
    unit = value_unit(SCHEMA.column("spend"))
    spent = np.where(USERS["at_b"], USERS["spend"], 0) * unit
    value = report.values[0].overall
    assert value is not None
    means = [spent[arm].mean() for arm in IN_ARM]
    assert value.absolute.value == pytest.approx(means[0] - means[1], abs=1e-3)
    error = np.sqrt(sum(spent[arm].var() / arm.sum() for arm in IN_ARM))
    # Amounts are taken for uniform within a bin, and dithered by up to half a unit.
    assert value.sampling_error == pytest.approx(error, rel=0.025)
    assert report.values[0].variance == "measured"


def test_breakdown_is_corrected_and_suppressed() -> None:
    report = analyse(SCHEMA, tables(), CONF)
    breakdown = report.conversions[0].breakdowns[0]
    north, south, west = breakdown.cells
    assert west.comparison is None
    assert west.p_holm is None
    assert west.verdict is Verdict.INCONCLUSIVE
    for cell in (north, south):
        assert cell.comparison is not None
        assert cell.p_holm is not None
        assert cell.comparison.level == pytest.approx(0.975)  # two shown levels
        assert cell.p_holm >= cell.comparison.p_value
    assert breakdown.interaction is not None
    assert breakdown.interaction.df == 1


def test_no_small_cell_reaches_the_report() -> None:
    """The level's label is public; nothing else of a suppressed cell may be in the JSON."""
    report = analyse(SCHEMA, tables(), CONF)
    plain = to_plain(report)
    cell = plain["conversions"][0]["breakdowns"][0]["cells"][2]
    assert cell == {"level": "w", "comparison": None, "p_holm": None, "verdict": "inconclusive"}
    everything = analyse(SCHEMA, tables(), replace(CONF, k=0)).conversions[0].breakdowns[0]
    assert everything.cells[2].comparison is not None  # what k = 0 would have shown
    hidden = analyse(SCHEMA, tables(), replace(CONF, k=10_000))
    assert hidden.conversions[0].overall is None
    assert hidden.values[0].overall is None


def test_report_is_json() -> None:
    report = analyse(SCHEMA, tables(sd=40), replace(CONF, k=0, ratio=1.0))
    json.dumps(to_plain(report), allow_nan=False)


def test_sample_ratio_knows_the_noise() -> None:
    """The arms' true ratio is about 8 to 7; noise as large as the arms explains any ratio."""
    right = analyse(SCHEMA, tables(), replace(CONF, ratio=8 / 7)).sample_ratio
    wrong = analyse(SCHEMA, tables(), replace(CONF, ratio=2.0)).sample_ratio
    drowned = analyse(SCHEMA, tables(sd=300, seed=3), replace(CONF, ratio=2.0)).sample_ratio
    assert right is not None
    assert wrong is not None
    assert right.p_value > 0.01
    assert wrong.suspicious
    assert drowned is None or not drowned.suspicious


def test_a_spread_that_was_not_measured_is_said_and_widens() -> None:
    queries = [q for q in WORKLOAD if q.columns != ("spend",)]
    full, bounded = analyse(SCHEMA, tables(), CONF), analyse(SCHEMA, tables(queries=queries), CONF)
    assert bounded.values[0].variance == "bounded"
    assert any("spend" in note for note in bounded.notes)
    assert bounded.values[0].overall is not None
    assert full.values[0].overall is not None
    assert bounded.values[0].overall.sampling_error > full.values[0].overall.sampling_error


def test_a_clipped_sum_is_compared_as_the_mean_of_clipped_amounts() -> None:
    """Units run to the clip, 100 of 200: twice as many of them in an amount."""
    clipped = USERS | {"spend": np.minimum(USERS["spend"] * 2, VALUE_UNITS)}
    table = exact(clipped, cross(a("arm"), b(weight="spend")))
    query = cross(a("arm"), b(weight="spend", clip=100.0))
    others = [m for m in tables() if m.query.weight is None]
    sums = noisy(query, table, 1e-3, np.random.default_rng(0))
    report = analyse(SCHEMA, [*others, sums], CONF).values[0]
    assert report.overall is not None
    assert report.clipped_to == (0.0, 100.0)
    amounts = np.minimum(USERS["spend"] * value_unit(SCHEMA.column("spend")), 100.0)
    amounts = np.where(USERS["at_b"], amounts, 0.0)
    means = [amounts[arm].mean() for arm in IN_ARM]
    assert report.overall.absolute.value == pytest.approx(means[0] - means[1], abs=1e-3)
    error = np.sqrt(sum(amounts[arm].var() / arm.sum() for arm in IN_ARM))
    assert report.overall.sampling_error == pytest.approx(error, rel=0.025)
    paid = USERS["spend"][USERS["at_b"] & (USERS["spend"] > 0)]
    assert report.clipped_share is not None
    # Amounts of 100 itself are among those of the bin above it.
    assert report.clipped_share.value == pytest.approx((paid >= VALUE_UNITS // 2).mean(), abs=1e-3)
    assert report.at_bound == "no"
    assert analyse(SCHEMA, tables(), CONF).values[0].clipped_share is None


def test_missing_optional_tables_are_noted() -> None:
    report = analyse(SCHEMA, tables(queries=WORKLOAD[:2]), CONF)
    assert report.values == ()
    assert report.conversions[0].breakdowns == ()
    assert {note.split()[0] for note in report.notes} == {"bought", "spend"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"membership": "region"},
        {"test": ("t1", "t9")},
        {"test": ("c",)},
        {"test": ()},
        {"conversions": ("channel",)},
        {"values": ("bought",)},
        {"breakdowns": ("bought",)},
        {"conversions": ("bought", "bought")},
        {"conversions": (), "values": ()},
        {"level": 1.0},
        {"ratio": 0.0},
        {"k": -1},
    ],
)
def test_wrong_configuration_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        analyse(SCHEMA, tables(queries=WORKLOAD[:2]), replace(CONF, **wrong))


def test_missing_priority_table_and_noiseless_table_are_refused() -> None:
    with pytest.raises(ConfigError, match="no table counts"):
        analyse(SCHEMA, tables(queries=WORKLOAD[:1]), CONF)
    with pytest.raises(ConfigError, match="no noise variance"):
        analyse(SCHEMA, [replace(m, variance=0.0) for m in tables()], CONF)


def test_two_conversions_share_one_estimate_of_the_sizes() -> None:
    conf = LiftConf(
        membership="arm", test=("t1",), control=("c",), conversions=("bought", "visited"), k=0
    )
    queries = [cross(a("arm"), b("bought")), cross(a("arm"), b("visited"))]
    first, second = analyse(SCHEMA, tables(sd=20, queries=queries), conf).conversions
    assert first.overall is not None
    assert second.overall is not None
    assert first.overall.test.n == second.overall.test.n
