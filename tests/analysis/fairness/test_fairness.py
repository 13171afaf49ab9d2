"""The audit has fairlearn's figures, honest intervals, and the measured unfairness beside."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from twinweave.analysis.fairness.audit import (
    FairnessReport,
    audit,
    odds_difference,
    parity_difference,
    rows_for,
)
from twinweave.analysis.fairness.measured import measured_parity
from twinweave.analysis.fairness.spread import multinomial, spread
from twinweave.analysis.finding import Finding
from twinweave.generators.union import Rows, UnionLayout
from twinweave.parsing import to_plain
from twinweave.synthesis.population import row_counts
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.contingency import ABSENT
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.analyses import FairnessConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side

COUNTS = st.one_of(st.just(0), st.integers(0, 60))
KEY = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
SEX = Column(name="sex", kind=Kind.CATEGORICAL, role=Role.SENSITIVE, shared=True, levels=("f", "m"))
RACE = Column(name="race", kind=Kind.CATEGORICAL, role=Role.SENSITIVE, levels=("p", "q", "r"))
SCHEMA = JointSchema(
    schemas=(
        Schema(
            party="a",
            columns=(KEY, SEX, Column(name="x", kind=Kind.INTEGER, bounds=(0.0, 7.0), bins=8)),
        ),
        Schema(
            party="b",
            columns=(KEY, SEX, RACE, Column(name="good", kind=Kind.BOOLEAN, role=Role.LABEL)),
        ),
    )
)
LAYOUT = UnionLayout.of(SCHEMA)
CONF = FairnessConf(sensitive=("sex", "race"), label="good", positive="1")


def union(n: int, seed: int = 1) -> Rows:
    """Label depends on sex and x; race r is rare; x follows sex a little."""
    rng = np.random.default_rng(seed)
    sex = rng.integers(0, 2, n)
    x = np.minimum(rng.integers(0, 7, n) + sex, 7)
    race = rng.choice(3, n, p=(0.6, 0.399, 0.001))
    good = rng.random(n) < 0.1 + 0.2 * sex + 0.07 * x
    presence = np.array([[True, True], [True, False], [False, True]])[rng.integers(0, 3, n)]
    codes = np.stack([sex, x, race, good], axis=1).astype(np.int32)
    codes[~LAYOUT.visible(presence)] = ABSENT
    return Rows(codes=codes, presence=presence)


def measured(query: Query, rows: Rows, sd: float, seed: int = 2) -> Measurement:
    table = row_counts(query, LAYOUT, rows)
    noise = np.random.default_rng(seed).normal(0, sd, table.shape)
    return Measurement(query=query, values=table + noise, variance=sd**2)


def parity_of(
    columns: tuple[str, ...], tables: list[Measurement], rng: np.random.Generator, k: int = 10
) -> Finding:
    found = measured_parity(SCHEMA, columns, CONF, tables, k, 0.95, rng)
    assert found is not None
    assert found.finding is not None
    return found.finding


def q(*sides: tuple[str, ...]) -> Query:
    return Query(sides=tuple(Side(party=s[0], columns=s[1:]) for s in sides))


ROWS = union(6000)


@pytest.fixture(scope="module")
def report() -> FairnessReport:
    tables = [measured(q(("b", "sex", "good")), ROWS, 3.0)]
    return audit(SCHEMA, CONF, ROWS, tables, k=20, seed=3)


def test_labels_are_judged_as_fairlearn_does(report: FairnessReport) -> None:
    from fairlearn.metrics import demographic_parity_difference

    codes = ROWS.codes[(ROWS.codes[:, [0, 2, 3]] != ABSENT).all(axis=1)]
    label = codes[:, 3]
    assert report.rows == len(codes) == ROWS.presence[:, 1].sum()
    by_sex, by_race, both = report.audits
    expected = demographic_parity_difference(label, label, sensitive_features=codes[:, 0])
    assert by_sex.label_parity.value == pytest.approx(expected)
    assert by_sex.label_parity.interval[0] < expected < by_sex.label_parity.interval[1]
    assert [g.name for g in by_sex.groups] == ["f", "m"]
    assert by_sex.groups[1].rate == pytest.approx(label[codes[:, 0] == 1].mean())
    # Race makes no difference, and the rare one is in no figure.
    assert by_race.suppressed == ("r",)
    assert by_race.label_parity.interval[0] == 0
    assert both.columns == ("sex", "race")
    assert "f, p" in [g.name for g in both.groups]


def test_odds_are_fairlearns_on_raw_rows_and_on_counts() -> None:
    from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

    rng = np.random.default_rng(4)
    group, actual = rng.integers(0, 4, 900), rng.integers(0, 2, 900)
    predicted = (rng.random(900) < 0.3 + 0.3 * actual + 0.08 * group).astype(int)
    table = np.zeros((4, 2, 2), np.int64)
    np.add.at(table, (group, actual, predicted), 1)
    odds = odds_difference(table, 10, 1.0, 0.95, rng)
    parity = parity_difference(table, 10, 1.0, 0.95, rng)
    raw = {"y_true": actual, "y_pred": predicted, "sensitive_features": group}
    assert odds.value == pytest.approx(equalized_odds_difference(**raw))
    assert parity.value == pytest.approx(demographic_parity_difference(**raw))
    # The interval was made from the same statistic.
    share = table[..., 1] / table.sum(axis=-1)
    assert spread(share.T, share.T[None] + np.zeros((2, 1, 1)), 0.95).value == (
        pytest.approx(odds.value)
    )


def test_a_small_group_is_in_no_difference() -> None:
    table = np.array([[[50, 50], [50, 50]], [[60, 40], [40, 60]], [[0, 4], [4, 0]]])
    rng = np.random.default_rng(5)
    assert odds_difference(table, 10, 1.0, 0.95, rng).value == pytest.approx(0.1)
    assert parity_difference(table[1:], 10, 1.0, 0.95, rng) is None
    assert odds_difference(table, 101, 1.0, 0.95, rng) is None


def test_a_group_without_the_label_still_has_false_positives() -> None:
    """Nobody of c is granted, in labels or by the model: fairlearn says 0.6, and so do we."""
    from fairlearn.metrics import equalized_odds_difference

    alike = [[200, 300], [200, 300]]
    table = np.array([alike, alike, [[600, 0], [0, 0]]])
    groups, actual, predicted = np.indices(table.shape).reshape(3, -1)
    theirs = equalized_odds_difference(
        actual, predicted, sensitive_features=groups, sample_weight=table.ravel().astype(float)
    )
    ours = odds_difference(table, 10, 1.0, 0.95, np.random.default_rng(0))
    assert ours.value == pytest.approx(theirs) == pytest.approx(0.6)
    assert 0.5 < ours.interval[0] < 0.6 < ours.interval[1]
    assert rows_for(table, 10).tolist() == [[True, True], [True, True], [True, False]]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.int64, st.tuples(st.integers(2, 5), st.just(2), st.just(2)), elements=COUNTS),
    st.integers(0, 20),
)
def test_each_rate_is_fairlearns_over_the_groups_that_have_it(
    table: NDArray[np.int64], k: int
) -> None:
    """Fairlearn, told of those groups alone that have k rows for the rate."""
    from fairlearn.metrics import false_positive_rate_difference, true_positive_rate_difference

    theirs = []
    for actual, rate in ((0, false_positive_rate_difference), (1, true_positive_rate_difference)):
        enough = table[table[:, actual].sum(axis=1) >= max(k, 1)]
        if len(enough) < 2:
            continue
        groups, labels, predicted = np.indices(enough.shape).reshape(3, -1)
        theirs.append(
            rate(
                labels,
                predicted,
                sensitive_features=groups,
                sample_weight=enough.ravel().astype(float),
            )
        )
    ours = odds_difference(table, k, 1.0, 0.95, np.random.default_rng(0))
    assert (ours is None) == (not theirs)
    if ours is not None:
        assert ours.value == pytest.approx(max(theirs))
        assert ours.covers(ours.value)


def test_groups_that_a_rate_leaves_out_are_named() -> None:
    rows = union(4000)
    never = rows.codes.copy()
    never[(never[:, 2] == 1) & (never[:, 3] != ABSENT), 3] = 0
    found = audit(SCHEMA, CONF, replace(rows, codes=never), [], k=10, seed=1)
    by_race = found.audits[1]
    assert all(m.left_out == ("q (true positive rate)",) for m in by_race.models)
    assert all(m.odds is not None for m in by_race.models)
    assert by_race.suppressed == ("r",)  # four rows in 4000: in no figure


def test_a_group_that_the_noise_hides_is_named() -> None:
    tables = [measured(q(("b", "race", "good")), ROWS, 1.0)]
    found = audit(SCHEMA, CONF, ROWS, tables, k=10, seed=1).audits[1]
    assert found.measured_parity is not None
    assert found.measured_left_out == ("r",)


@pytest.mark.parametrize("rates", [(0.3, 0.3), (0.3, 0.5), (0.4,) * 5, (0.2, 0.4, 0.4, 0.5)])
def test_intervals_cover(rates: tuple[Any, ...]) -> None:
    """300 tables at 95%: fewer than 270 covered has probability 2e-4 at coverage 95%."""
    rng = np.random.default_rng(6)
    truth, n = max(rates) - min(rates), 150
    covered = broken = 0
    for _ in range(300):
        yes = rng.binomial(n, rates)
        draws = multinomial(np.stack([n - yes, yes], axis=1), rng)
        share = draws[..., 1] / draws.sum(axis=-1)
        found = spread((yes / n)[None], share[:, None], 0.95)
        covered += found.interval[0] <= truth <= found.interval[1]
        # The percentile bootstrap of the range, which this must not be.
        ends = np.quantile(np.ptp(share, axis=1), (0.025, 0.975))
        broken += ends[0] <= truth <= ends[1]
    assert covered >= 270
    if truth == 0:
        assert broken == 0  # it excludes zero where there is no difference at all


def test_rows_worth_fewer_widen_the_interval() -> None:
    table = np.array([[[100, 300], [0, 0]], [[200, 200], [0, 0]]])
    wide, narrow = (
        parity_difference(table, 10, worth, 0.95, np.random.default_rng(7)) for worth in (0.25, 1.0)
    )
    width = [f.interval[1] - f.interval[0] for f in (wide, narrow)]
    assert width[0] == pytest.approx(2 * width[1], rel=0.1)


def test_models_are_judged_with_and_without_the_sensitive_columns(report: FairnessReport) -> None:
    with_it, without = report.audits[0].models
    assert (with_it.with_sensitive, without.with_sensitive) == (True, False)
    # The label depends on sex beyond x: a model that sees it treats the groups further apart.
    assert with_it.parity.value > without.parity.value + 0.1
    assert with_it.odds.interval[0] > 0
    assert 0.5 < report.auc["without"] < report.auc["with sensitive columns"] < 1


def test_the_measured_difference_is_beside_it(report: FairnessReport) -> None:
    found = report.audits[0].measured_parity
    held = ROWS.codes[ROWS.presence[:, 1]]
    truth = held[held[:, 0] == 1, 3].mean() - held[held[:, 0] == 0, 3].mean()
    assert found.interval[0] < truth < found.interval[1]
    assert found.interval[1] - found.interval[0] < 0.02
    assert report.audits[1].measured_parity is None  # race x good was not measured


def test_measured_intervals_cover_the_noise() -> None:
    """300 noisy tables at 95%: fewer than 270 covered has probability 2e-4."""
    held = ROWS.codes[ROWS.presence[:, 1]]
    truth = held[held[:, 0] == 1, 3].mean() - held[held[:, 0] == 0, 3].mean()
    rng, covered, narrow = np.random.default_rng(10), 0, 0
    for i in range(300):
        table = measured(q(("b", "sex", "good")), ROWS, 12.0, seed=i)
        found = parity_of(("sex",), [table], rng)
        covered += found.interval[0] <= truth <= found.interval[1]
        narrow += abs(found.value - truth) <= (found.interval[1] - found.value) / 2
    assert covered >= 270
    assert narrow < 240  # half the noise would have been called too wide


def test_a_finer_table_is_folded_and_one_of_other_people_is_not() -> None:
    rng = np.random.default_rng(11)
    fine = measured(q(("b", "race", "good", "sex")), ROWS, 0.01)
    found = parity_of(("sex",), [fine], rng)
    held = ROWS.codes[ROWS.presence[:, 1]]
    truth = held[held[:, 0] == 1, 3].mean() - held[held[:, 0] == 0, 3].mean()
    assert found.value == pytest.approx(truth, abs=1e-4)
    both = parity_of(("sex", "race"), [fine], rng, k=20)
    assert both.value > found.value
    # People at both parties only, where the audit looks at everyone at b.
    other = measured(q(("a", "sex"), ("b", "good")), ROWS, 0.01)
    assert measured_parity(SCHEMA, ("sex",), CONF, [other], 10, 0.95, rng) is None
    # x is at a: those absent there count too, for their sex and label are known at b.
    across = measured(q(("a", "x"), ("b", "sex", "good")), ROWS, 0.01)
    crossed = parity_of(("sex",), [across], rng)
    assert crossed.value == pytest.approx(truth, abs=1e-4)


def test_the_report_is_json_and_the_seed_decides(report: FairnessReport) -> None:
    tables = [measured(q(("b", "sex", "good")), ROWS, 3.0)]
    again = audit(SCHEMA, CONF, ROWS, tables, k=20, seed=3)
    assert again == report
    json.dumps(to_plain(report), allow_nan=False)


def test_too_few_rows_give_no_model() -> None:
    found = audit(SCHEMA, CONF, union(60), [], k=5, seed=1)
    assert found.audits[0].models == ()
    assert found.notes
