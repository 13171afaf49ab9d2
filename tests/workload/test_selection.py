"""Feature selection: scores that noise does not inflate, and a choice that keeps its limits."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests.statistics import p_between, p_mean_of, p_normal, plausible
from tests.workload import planted
from twinweave.config import compose
from twinweave.errors import ConfigError
from twinweave.parsing import parse
from twinweave.protocols.products.blocks import build_blocks, layout_of
from twinweave.rundir import cell_names
from twinweave.tables.column import Column, Kind, Role, Rule
from twinweave.tables.contingency import group_of
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.analyses import Analyses, FairnessConf, LiftConf
from twinweave.workload.association import associate
from twinweave.workload.choice import choose
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side, cells_of, query_over
from twinweave.workload.selection import (
    FeatureScore,
    SelectionConf,
    candidates,
    pinned,
    plan_selection,
    score,
)
from twinweave.workload.tables import WorkloadConf, tables_to_measure

DEFAULT = parse(SelectionConf, compose([])["selection"])
WORKLOAD = WorkloadConf(
    scope="all", one_way=True, pairs=True, three_way=True, max_pair_columns=30, max_cells=20_000
)


def levels(name: str, n: int, role: Role = Role.FEATURE, **kwargs: Any) -> Column:
    names = tuple(f"l{i}" for i in range(n))
    return Column(name=name, kind=Kind.CATEGORICAL, role=role, levels=names, **kwargs)


KEY = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
SEX = levels("sex", 2, Role.SENSITIVE, shared=True)
A = Schema(
    party="a",
    columns=(
        KEY,
        SEX,
        levels("arm", 2, Role.MEMBERSHIP),
        levels("x", 9),
        levels("y", 3),
        levels("z", 5),
    ),
)
B = Schema(
    party="b",
    columns=(
        KEY,
        SEX,
        Column(name="bought", kind=Kind.BOOLEAN, role=Role.CONVERSION),
        levels("good", 2, Role.LABEL),
        levels("v", 4),
        levels("w", 12, missing=Rule.LEVEL),
    ),
)
JOINT = JointSchema(schemas=(A, B))
CAMPAIGN = LiftConf(membership="arm", test=("l0",), control=("l1",), conversions=("bought",), k=9)
GOOD = FairnessConf(sensitive=("sex",), label="good", positive="l1")
BOTH = Analyses(schema=JOINT, lift=CAMPAIGN, fairness=GOOD)


# --- scores -----------------------------------------------------------------------------------

P, Q = np.array([0.3, 0.02, 0.25, 0.18, 0.25]), np.array([0.93, 0.07])
N = 40_000


def noisy_tables(
    pi: NDArray[np.float64], sigma: float, count: int, seed: int
) -> NDArray[np.float64]:
    """count tables: multinomial users, noise of sigma in every cell."""
    rng = np.random.default_rng(seed)
    exact = rng.multinomial(N, pi.ravel(), size=count).reshape(count, *pi.shape)
    return exact + rng.normal(0, sigma, exact.shape)


def dependent(strength: float) -> tuple[NDArray[np.float64], float]:
    """A joint distribution with margins P and Q, and its second-order mutual information."""
    push = np.outer(P * (np.array([1.0, -1, 0.5, -1, 0]) - P @ [1, -1, 0.5, -1, 0]), [-1, 1])
    pi = np.outer(P, Q) + strength * push
    return pi, float(((pi - np.outer(P, Q)) ** 2 / np.outer(P, Q)).sum() / 2)


def plugged_in(t: NDArray[np.float64]) -> float:
    """Second-order mutual information X2 / 2N of a noisy table, without a correction."""
    expected = np.outer(t.sum(axis=1), t.sum(axis=0)) / t.sum()
    return ((t - expected) ** 2 / expected).sum() / (2 * t.sum())


@pytest.mark.parametrize("sigma", [0.0, 20.0, 150.0])
@pytest.mark.parametrize("strength", [0.0, 0.02])
def test_information_is_unbiased_whatever_the_noise(sigma: float, strength: float) -> None:
    """False alarm 1e-9 and a bias up to a tenth of a standard error allowed (first order)."""
    pi, truth = dependent(strength)
    tables = noisy_tables(pi, sigma, 1000, seed=5)
    found = np.array([associate("t", t, sigma**2).information for t in tables])
    inside = np.clip(found.mean() - truth, -0.1 * found.std(), 0.1 * found.std())
    assert plausible(p_mean_of(found - inside, truth))
    if sigma:  # the broken variant: no correction
        plug_in = np.array([plugged_in(t) for t in tables])
        plug_in = np.minimum(plug_in, np.quantile(plug_in, 0.9))  # its tail is heavy, upwards
        assert not plausible(p_mean_of(plug_in, truth))
    if sigma > 100:  # and one that thinks the noise smaller than it is
        wrong = [associate("t", t, sigma**2 / 2).information for t in tables]
        assert not plausible(p_mean_of(np.array(wrong) - 0.1 * found.std(), truth))


@pytest.mark.parametrize("sigma", [0.0, 20.0, 150.0])
@pytest.mark.parametrize("strength", [0.0, 0.02])
def test_the_standard_error_is_the_spread(sigma: float, strength: float) -> None:
    """Within 15% below (its own error over 1000 tables is 5%); up to half too careful."""
    pi, _ = dependent(strength)
    tables = noisy_tables(pi, sigma, 1000, seed=6)

    def ratio(believed: float) -> float:
        found = [associate("t", t, believed) for t in tables]
        claimed = np.sqrt(np.mean([f.standard_error**2 for f in found]))
        return claimed / np.std([f.information for f in found])

    assert 0.85 < ratio(sigma**2) < 1.5
    if sigma == 20:  # errors of sampling alone
        assert ratio(0.0) < 0.85


@pytest.mark.parametrize("sigma", [0.0, 20.0, 150.0])
def test_z_is_standard_normal_without_an_association(sigma: float) -> None:
    """Tail at 2 within a half of nominal, checked against the binomial; KS at half power."""
    tables = noisy_tables(np.outer(P, Q), sigma, 1500, seed=7)
    z = np.array([associate("t", t, sigma**2).z for t in tables])
    nominal = stats.norm.sf(2)
    assert plausible(p_between((z > 2).sum(), len(z), nominal / 1.5, 1.5 * nominal))
    assert plausible(p_normal(z))
    if sigma > 100:  # a test that is wrong about the noise is caught
        blind = np.array([associate("t", t, sigma**2 / 2).z for t in tables])
        assert not plausible(p_normal(blind))


def test_without_noise_the_evidence_is_pearsons() -> None:
    table = np.array([[500.0, 60], [300, 20], [900, 80]])
    statistic, p, df, _ = stats.chi2_contingency(table, correction=False)
    found = associate("t", table, 0.0)
    assert (found.df, found.users) == (df, table.sum())
    assert found.p_value == pytest.approx(p)
    assert found.information == pytest.approx((statistic - df) / (2 * table.sum()))


@pytest.mark.parametrize(
    "table",
    [
        np.zeros((3, 2)),
        np.full((3, 2), -40.0),
        np.array([[900.0, -50], [-80, 3], [2, 1]]),
        np.zeros((1, 4)),
        np.array([[5e6, 0.0], [0, 5e6]]),
    ],
)
def test_negative_and_lost_cells_give_finite_scores(table: NDArray[np.float64]) -> None:
    found = associate("t", table, 100.0**2)
    assert np.isfinite([found.information, found.standard_error, found.z]).all()
    assert (found.df == 0) == (table.max() < 1e6)
    assert found.df or (found.p_value, found.z) == (1.0, 0.0)


def test_overwhelming_evidence_keeps_its_order() -> None:
    strong = [associate("t", np.array([[n, 0.0], [0, n]]), 1.0).z for n in (1e4, 1e5, 1e6)]
    assert strong == sorted(strong)
    assert len(set(strong)) == 3


# --- planning ---------------------------------------------------------------------------------


def test_every_candidate_meets_every_target_once_and_coarse() -> None:
    queries = plan_selection(BOTH, DEFAULT)
    asked = [q.columns for q in queries]
    assert set(asked) == {(f, t) for f in "xyzvw" for t in ("arm", "bought", "good")}
    assert len({q.name for q in queries}) == len(asked) == 15
    assert {q.columns: cells_of(JOINT, q).shape for q in queries} | {
        ("x", "arm"): (4, 2),
        ("x", "bought"): (5, 3),
        ("w", "arm"): (6, 3),
        ("v", "good"): (4, 2),
    } == {q.columns: cells_of(JOINT, q).shape for q in queries}
    full = {q.name for q in tables_to_measure(BOTH, WORKLOAD)}
    assert not full & {q.name for q in queries}


def test_when_selection_applies() -> None:
    def applies(when: Any, most: int, keep: tuple[str, ...] = ()) -> bool:
        return replace(DEFAULT, when=when, keep=keep).applies(BOTH, most)

    assert applies("auto", 8)
    assert not applies("auto", 9)  # nine columns in the union
    assert applies("always", 9)
    assert not applies("never", 1)
    assert Analyses(schema=JOINT).targets == ("arm", "bought", "good")
    with pytest.raises(ConfigError, match="no feature"):
        applies("always", 9, keep=tuple("xyzvw"))
    with pytest.raises(ConfigError, match="no party has a column"):
        applies("auto", 9, keep=("nothing",))


@pytest.mark.parametrize(
    "change",
    [
        {"groups": 1},
        {"threshold": float("nan")},
        {"max_columns": 0},
        {"keep": ["x", "x"]},
        {"when": "sometimes"},
        {"unknown": 1},
        {"max_cells": -1},
    ],
)
def test_bad_configuration_is_refused(change: Any) -> None:
    plain = {
        "when": "auto",
        "keep": [],
        "groups": 4,
        "threshold": 2.0,
        "max_columns": 30,
        "max_cells": 1000,
    }
    parse(SelectionConf, plain)
    with pytest.raises(ConfigError):
        parse(SelectionConf, plain | change)


# --- choice -----------------------------------------------------------------------------------


def scores(
    seed: int = 0,
    conf: SelectionConf = DEFAULT,
    strong: tuple[str, str] = ("x", "v"),
    lost: tuple[Any, ...] = (),
) -> tuple[Any, ...]:
    """Scores of JOINT's candidates from tables in which `strong` ones go with every target."""
    rng = np.random.default_rng(seed)
    measurements = []
    for q in plan_selection(BOTH, conf):
        size = cells_of(JOINT, q).shape
        mean = np.full(size, 0.0 if q.columns[0] in lost else 4000.0)
        if q.columns[0] in strong:
            mean[0, 0] *= 1.6 if q.columns[0] == "x" else 1.3
        values = mean + rng.normal(0, 60, size)
        measurements.append(Measurement(query=q, values=values, variance=3600.0))
    return score(measurements, BOTH, conf), measurements


def test_strong_features_are_kept_and_the_rest_dropped_with_reasons() -> None:
    found, _ = scores(lost=("z",))
    assert [s.column for s in found[:2]] == ["x", "v"]
    assert [s.rank for s in found] == [1, 2, 3, 4, 5]
    assert all(s.ranks[0] <= s.rank <= s.ranks[1] for s in found)
    choice = choose(found, BOTH, DEFAULT)
    assert choice.kept == ("x", "v")
    assert choice.by_target == dict.fromkeys(("arm", "bought", "good"), ("x", "v"))
    assert choice.pinned == ("arm", "bought", "good", "sex")
    reasons = {d.column: d.reason for d in choice.dropped}
    assert set(reasons) == {"y", "w", "z"}
    assert "lost in the noise" in reasons["z"]
    assert "no sign" in reasons["y"]


def test_pinned_features_are_kept_whatever_the_noise_says() -> None:
    conf = replace(DEFAULT, keep=("y", "w"), max_columns=1)
    assert "y" not in candidates(BOTH, conf)
    choice = choose(scores(conf=conf)[0], BOTH, conf)
    assert set(pinned(BOTH, conf)) == set(choice.pinned) >= {"y", "w"}
    assert not choice.kept  # max_columns leaves no room beside what is pinned
    assert {frozenset(p) for p in combinations(choice.pinned, 2)} == set(
        map(frozenset, choice.pairs)
    )
    assert "weaker than" in choice.dropped[0].reason


def test_a_choice_is_deterministic_and_ignores_the_order_of_measurements() -> None:
    found, measurements = scores()
    again = score(reversed(measurements), BOTH, DEFAULT)
    assert [(s.column, s.z) for s in again] == [(s.column, s.z) for s in found]
    first, second = (choose(s, BOTH, DEFAULT) for s in (found, again))
    assert first == second


def test_tables_come_best_first_within_the_cells() -> None:
    found, _ = scores()
    whole = choose(found, BOTH, DEFAULT)
    assert whole.unmeasured == 0
    assert set(whole.three_way) == {
        ("arm", "x", "bought"),
        ("arm", "v", "bought"),
        ("arm", "good", "bought"),
        ("arm", "sex", "bought"),
        ("sex", "x", "good"),
        ("sex", "v", "good"),
        ("sex", "arm", "good"),
        ("sex", "bought", "good"),
    }
    assert len(whole.pairs) == 15  # of six columns
    aims = {"arm", "bought", "good"}
    with_aim = [bool(set(p) & aims) for p in whole.pairs]
    assert with_aim == sorted(with_aim, reverse=True)
    for limit in (0, 40, 200, whole.cells):
        some = choose(found, BOTH, replace(DEFAULT, max_cells=limit))
        tables = [query_over(JOINT, *t) for t in (*some.pairs, *some.three_way)]
        cells = [cells_of(JOINT, query).size for query in tables if query]
        assert sum(cells) == some.cells <= limit
        assert len(cells) + some.unmeasured == 23
    assert some == whole


@pytest.mark.parametrize("most", [1, 5, 6, 30])
def test_no_more_columns_than_asked(most: int) -> None:
    conf = replace(DEFAULT, max_columns=most, threshold=-9.0)
    choice = choose(scores(conf=conf)[0], BOTH, conf)
    assert len(choice.kept) == max(0, min(most, 9) - len(choice.pinned))


def test_the_workload_asks_the_choice_and_every_one_way() -> None:
    found, _ = scores()
    choice = choose(found, BOTH, DEFAULT)
    queries = tables_to_measure(BOTH, WORKLOAD, choice)
    asked = [frozenset(q.columns) for q in queries]
    assert {frozenset({n}) for n in JOINT.names} <= set(asked)
    assert {frozenset(p) for p in (*choice.pairs, *choice.three_way)} <= set(asked)
    dropped = {d.column for d in choice.dropped}
    assert all(not dropped & a or len(a) == 1 for a in asked)
    plain = tables_to_measure(BOTH, WORKLOAD)
    assert [q for q in plain if q.priority] == [q for q in queries if q.priority]


def test_a_feature_no_two_parties_share_with_a_target_is_dropped() -> None:
    found = FeatureScore(
        column="x", parties=("a",), associations=(), z=0.0, p_value=1.0, rank=1, ranks=(1, 1)
    )
    choice = choose([found], BOTH, replace(DEFAULT, threshold=-1.0))
    assert choice.dropped[0].reason == "no two parties hold it and a target"


# --- the whole of it --------------------------------------------------------------------------


def test_planted_features_are_found_and_only_with_the_cross_tables() -> None:
    """Noise as at epsilon .3, for 240 tables of both parties or for 60 of one party's own."""
    analyses = Analyses(schema=planted.SCHEMA, lift=planted.LIFT)
    queries = plan_selection(analyses, DEFAULT)
    here = tuple(q for q in queries if q.parties == ("b",))
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        users = planted.draw(0.5, rng)
        for some, sd, enough, at_a in ((queries, 180.0, 4, True), (here, 90.0, 2, False)):
            tables = planted.measured(users, some, sd, rng)
            found = score(tables, analyses, DEFAULT)
            kept = choose(found, analyses, DEFAULT).kept
            assert len(set(planted.DRIVERS) & set(kept)) >= enough
            assert any(n.startswith("a") for n in kept) == at_a
            assert len(kept) <= 5 + 12  # 2.6 false ones expected


@pytest.mark.parametrize("groups", [2, 4, 9])
def test_a_coarse_table_is_the_full_one_summed(groups: int) -> None:
    """As the parties' blocks count it: the full cross table, rows of a group added up."""
    tables = {}
    coarse_groups = {c: tuple(group_of(JOINT.column(c), groups).tolist()) for c in "xw"}
    for g in (0, groups):
        matrices = []
        for own, name, slots in ((A, "x", np.arange(0, 70)), (B, "w", np.arange(30, 100))):
            codes = np.random.default_rng(4).integers(
                0, [c.size for c in own.data_columns], (len(slots), len(own.names)), dtype=np.int32
            )
            grouped = (coarse_groups[name],) if g else ()
            side = Side(party=own.party, columns=(name,), groups=grouped)
            layout = layout_of(JOINT, own.party, [Query(sides=(side,))])
            marks = np.zeros((len(slots), 2), np.uint32)
            blocks = build_blocks(
                own, layout, n_slots=120, slots=slots, codes=codes, units={}, marks=marks
            )
            matrices.append(blocks.dense()[:, : layout.present].astype(np.int64))
        tables[g] = matrices[0].T @ matrices[1]
    query = Query(
        sides=tuple(
            Side(party=p, columns=(c,), groups=(coarse_groups[c],)) for p, c in ("ax", "bw")
        )
    )
    x, w = (max(coarse_groups[c]) + 1 for c in "xw")
    assert query.name == f"a.x/{x} x b.w/{w}"
    assert tables[groups].shape == cells_of(JOINT, query).shape
    expected = np.zeros(cells_of(JOINT, query).shape)
    of = [
        [*group_of(JOINT.column(c), groups), s - 1]
        for c, s in zip("xw", expected.shape, strict=True)
    ]
    np.add.at(expected, np.ix_(*of), tables[0])
    assert (tables[groups] == expected).all()
    assert len(cell_names(JOINT, query)) == expected.size
