"""Targets, raking and synthesis against slow oracles, and the trap that cross tables avoid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.generators.toys import conf
from twinweave.errors import ConfigError
from twinweave.generators import registry
from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import FitConf, RakeConf, SynthesisConf
from twinweave.synthesis.population import NOWHERE, Population, population, row_cells
from twinweave.synthesis.rake import Constraint, Tables, constraints, rake
from twinweave.synthesis.resample import exchange, resample
from twinweave.synthesis.synthesise import first_weights, synthesise, synthetic_rows
from twinweave.tables.contingency import ABSENT
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side

LAYOUT = UnionLayout(
    parties=("shop", "ads"),
    names=("region", "arm", "visit", "spend"),
    sizes=(3, 2, 2, 4),
    holders=((0, 1), (1,), (0,), (0,)),
)
PAIRS = (
    Query(sides=(Side(party="shop", columns=("region",)),)),
    Query(sides=(Side(party="shop", columns=("region", "visit")),)),
    Query(sides=(Side(party="shop", columns=("visit", "spend")),)),
    Query(sides=(Side(party="ads", columns=("region", "arm")),)),
    Query(sides=(Side(party="ads", columns=("arm",)), Side(party="shop", columns=("visit",)))),
    Query(
        sides=(Side(party="ads", columns=("region", "arm")), Side(party="shop", columns=("visit",)))
    ),
)
ONE_WAY = tuple(
    Query(sides=(Side(party=p, columns=(c,)),))
    for p, c in (("shop", "region"), ("shop", "visit"), ("shop", "spend"), ("ads", "arm"))
)
QUICK = SynthesisConf(fit=FitConf(latents=300, network_steps=0, free_steps=120))
LIFT = 0.2


def world(n: int, seed: int) -> Rows:
    """Users of an experiment: half of the union at both, arm raises the visit rate by LIFT."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    presence = np.stack([kind != 2, kind != 1], axis=1)
    region = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    arm = rng.random(n) < 0.5
    visit = rng.random(n) < 0.2 + LIFT * arm + 0.05 * region
    spend = np.where(visit, rng.integers(1, 4, n), 0)
    codes = np.stack([region, arm, visit, spend], axis=1).astype(np.int32)
    codes[~LAYOUT.visible(presence)] = ABSENT
    return Rows(codes=codes, presence=presence)


def measured(rows: Rows, queries: tuple[Query, ...], sigma: float, seed: int) -> list[Measurement]:
    rng = np.random.default_rng(seed)
    out = []
    for q in queries:
        sizes = [
            int(np.prod([LAYOUT.sizes[LAYOUT.names.index(c)] for c in s.columns])) + q.is_cross
            for s in q.sides
        ]
        cells = row_cells(q, LAYOUT, rows)
        count = np.bincount(cells[cells >= 0], minlength=int(np.prod(sizes))).astype(float)
        values = (count + rng.normal(0, sigma, len(count))).reshape(sizes)
        if q.is_cross:
            values[-1, -1] = 0
        out.append(Measurement(query=q, values=values, variance=max(sigma**2, 1e-6)))
    return out


def sizes_of(rows: Rows) -> dict[str, int]:
    return dict(zip(LAYOUT.parties, rows.presence.sum(axis=0).tolist(), strict=True))


def lift_of(rows: Rows) -> float:
    both = rows.codes[rows.presence.all(axis=1)]
    return float(both[both[:, 1] == 1, 2].mean() - both[both[:, 1] == 0, 2].mean())


def test_cell_of_a_row_by_hand():
    codes = np.array([[2, 1, 0, 3], [1, ABSENT, 1, 2], [0, 1, ABSENT, ABSENT]], dtype=np.int32)
    presence = np.array([[True, True], [True, False], [False, True]])
    rows = Rows(codes=codes, presence=presence)
    assert row_cells(PAIRS[2], LAYOUT, rows).tolist() == [3, 6, NOWHERE]
    # ads: region x arm has 6 positions, absent is 6; shop: visit has 2, absent is 2.
    assert row_cells(PAIRS[5], LAYOUT, rows).tolist() == [5 * 3 + 0, 6 * 3 + 1, 1 * 3 + 2]


def test_overlap_is_estimated_without_bias_and_better_than_from_its_cells_alone():
    """200 noisy repeats of one union; mean within 4 of its standard errors: false alarm 6e-5."""
    rows = world(3000, seed=1)
    truth = rows.presence.all(axis=1).sum()
    found = []
    for seed in range(200):
        people = population(LAYOUT.parties, sizes_of(rows), measured(rows, PAIRS, 30, seed))
        assert people.users.sum() == pytest.approx(sum(sizes_of(rows).values()) - people.users[0])
        found.append(people.users[0])
    assert abs(np.mean(found) - truth) < 4 * np.std(found) / np.sqrt(200)
    assert np.std(found) < 30 * np.sqrt(6)


def test_three_parties_of_whom_two_share_nobody():
    sizes = {"a": 100, "b": 80, "c": 50}
    disjoint = Query(sides=(Side(party="a", columns=("x",)), Side(party="b", columns=("y",))))
    inside = Query(sides=(Side(party="a", columns=("x",)), Side(party="c", columns=("z",))))
    tables = [
        Measurement(
            query=disjoint, values=np.array([[0, 0, 60], [0, 0, 40], [30, 50, 0.0]]), variance=1e-3
        ),
        Measurement(
            query=inside, values=np.array([[20, 30, 10], [0, 0, 40], [0, 0, 0.0]]), variance=1e-3
        ),
    ]
    people = population(("a", "b", "c"), sizes, tables)
    users = {tuple(p): u for p, u in zip(people.patterns.tolist(), people.users, strict=True)}
    assert users[True, False, True] == pytest.approx(50, abs=0.1)
    assert users[True, False, False] == pytest.approx(50, abs=0.1)
    assert people.size == 180
    drawn = people.presence(18)
    assert len(drawn) == 18
    assert drawn.sum(axis=0).tolist() == [10, 8, 5]


def test_a_small_overlap_gets_components_beyond_its_share():
    patterns = np.array([[True, True], [True, False], [False, True]])
    people = Population(patterns=patterns, users=np.array([100.0, 9900.0, 0.0]))
    found = people.latents(110)
    both = found.presence.all(axis=1)
    assert len(found) == 110
    assert both.sum() == 11
    assert found.users[both].sum() == pytest.approx(100)
    assert found.users.sum() == pytest.approx(10_000)


def test_a_missing_size_is_named():
    with pytest.raises(ConfigError, match="ads"):
        population(LAYOUT.parties, {"shop": 5}, [])


def iterative_proportional_fitting(table: np.ndarray, rows: np.ndarray, columns: np.ndarray):
    for _ in range(500):
        table = table * (rows / table.sum(axis=1))[:, None]
        table = table * (columns / table.sum(axis=0))
    return table


def test_weights_under_exact_margins_are_those_of_proportional_fitting():
    rng = np.random.default_rng(3)
    codes = rng.choice(6, 5000, p=[0.3, 0.1, 0.1, 0.1, 0.2, 0.2])
    first, second = codes // 2, codes % 2
    rows, columns = np.array([0.5, 0.2, 0.3]), np.array([0.6, 0.4])
    wanted = [
        Constraint(name=n, cells=c.astype(np.int32), target=t, variance=np.full(len(t), 1e-12))
        for n, c, t in (("rows", first, rows), ("columns", second, columns))
    ]
    found = rake(wanted, 5000, 5000, RakeConf(strength=1.0, steps=200))
    table = np.bincount(codes, found.weights, 6).reshape(3, 2)
    start = np.bincount(codes, minlength=6).reshape(3, 2) / 5000
    assert np.allclose(table, iterative_proportional_fitting(start, rows, columns), atol=1e-5)
    assert found.effective < 5000


def test_raking_weighs_misfit_by_the_noise_it_knows():
    """Two measurements of one table that disagree: the result sits nearer the precise one."""
    cells = np.repeat(np.arange(2, dtype=np.int32), 500)
    precise = Constraint(
        name="p", cells=cells, target=np.array([0.7, 0.3]), variance=np.full(2, 1e-6)
    )
    vague = Constraint(
        name="v", cells=cells, target=np.array([0.3, 0.7]), variance=np.full(2, 1e-2)
    )
    found = rake([precise, vague], 1000, 1000, RakeConf(strength=1e-3, steps=200))
    assert found.weights[:500].sum() == pytest.approx(0.7, abs=1e-3)
    assert found.misfit["p"] < 1.5 < found.misfit["v"]
    kept = rake([precise, vague], 1000, 1000, RakeConf(strength=1e6, steps=200))
    assert kept.weights[:500].sum() == pytest.approx(0.5, abs=1e-3)
    assert kept.effective == pytest.approx(1000, rel=1e-3)


def test_a_linear_constraint_takes_signed_amounts():
    """Demographic parity as one functional: rate at group 1 less rate at group 0 is zero."""
    rng = np.random.default_rng(4)
    group = rng.integers(0, 2, 4000)
    label = rng.random(4000) < 0.3 + 0.3 * group
    amount = label * np.where(group == 1, 1 / group.mean(), -1 / (1 - group.mean()))
    groups = Constraint(
        name="group",
        cells=group.astype(np.int32),
        variance=np.full(2, 1e-9),
        target=np.bincount(group) / 4000,
    )
    parity = Constraint(
        name="parity",
        cells=np.zeros(4000, np.int32),
        target=np.zeros(1),
        variance=np.full(1, 1e-9),
        amount=amount,
    )

    def gap(wanted: list[Constraint]) -> float:
        w = rake(wanted, 4000, 4000, RakeConf(strength=0.1, steps=200)).weights
        rates = [np.average(label[group == g], weights=w[group == g]) for g in (0, 1)]
        return float(rates[1] - rates[0])

    assert gap([groups]) > 0.25
    assert abs(gap([groups, parity])) < 1e-3


def test_resampling_rounds_each_weight_up_or_down():
    rows = world(500, seed=5)
    weights = np.random.default_rng(6).exponential(size=500)
    weights /= weights.sum()
    index = resample(weights, rows, 2000, np.random.default_rng(7))
    count = np.bincount(index, minlength=500)
    assert len(index) == 2000
    assert (np.abs(count - 2000 * weights) < 1).all()
    assert np.array_equal(index, resample(weights, rows, 2000, np.random.default_rng(7)))


def chi_square(chosen: np.ndarray, weights: np.ndarray, wanted: list[Constraint]) -> float:
    tables, n = Tables(wanted, len(weights)), len(chosen)
    expected = n * tables.sums(weights)
    found = tables.sums(np.bincount(chosen, minlength=len(weights)).astype(float))
    return float(((found - expected) ** 2 / (expected + 1)).mean())


def test_exchanges_bring_the_rows_closer_to_the_weighted_tables():
    rows = world(8000, seed=20)
    wanted = constraints(measured(rows, PAIRS, 10, 21), LAYOUT, rows, 8000)
    weights = np.random.default_rng(22).gamma(2, size=8000)
    weights /= weights.sum()
    first = np.random.default_rng(23).choice(8000, 2000, p=weights)
    runs = [exchange(first, weights, wanted, 60, np.random.default_rng(24)) for _ in range(2)]
    assert np.array_equal(*runs)
    assert chi_square(first, weights, wanted) > 0.4  # about 1, less where cells are few
    assert chi_square(runs[0], weights, wanted) < 0.05


def test_exchanges_meet_a_functional_with_signed_amounts():
    rows = world(8000, seed=25)
    visit = (rows.codes[:, 2] == 1).astype(float)
    amount = visit * np.where(rows.codes[:, 1] == 1, 1.0, -1.0)
    level = Constraint(
        name="level",
        cells=np.zeros(8000, np.int32),
        target=np.zeros(1),
        variance=np.ones(1),
        amount=amount,
    )
    weights = np.full(8000, 1 / 8000)
    first = np.flatnonzero(amount >= 0)[:1000]
    found = exchange(first, weights, [level], 60, np.random.default_rng(26))
    assert abs(amount[first].mean() - amount.mean()) > 0.05
    assert amount[found].mean() == pytest.approx(amount.mean(), abs=0.01)


def test_synthetic_rows_keep_the_lift_that_one_way_tables_lose():
    rows = world(6000, seed=8)
    sizes = sizes_of(rows)
    kept = synthesise(None, LAYOUT, measured(rows, PAIRS, 10, 9), sizes, QUICK, seed=1)
    assert abs(len(kept.rows) - len(rows)) < 100
    assert lift_of(kept.rows) == pytest.approx(lift_of(rows), abs=0.03)
    assert max(kept.misfit.values()) < 2
    assert kept.effective > len(rows)
    collapsed = synthesise(None, LAYOUT, measured(rows, ONE_WAY, 10, 9), sizes, QUICK, seed=1)
    assert abs(lift_of(collapsed.rows)) < 0.04


def test_same_seed_same_rows():
    tables = measured(world(2000, seed=10), PAIRS, 10, 11)
    sizes = {"shop": 1600, "ads": 1400}
    conf = replace(QUICK, fit=FitConf(latents=50, network_steps=0, free_steps=10), rows=300)
    runs = [synthesise(None, LAYOUT, tables, sizes, conf, seed=s).rows.codes for s in (1, 1, 2)]
    assert len(runs[0]) == 300
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


class Uniform:
    """A network with samples only, as the llm."""

    soft = None

    def sample(self, presence, generator: torch.Generator) -> Rows:
        codes = (
            torch.stack(
                [torch.randint(s, (len(presence),), generator=generator) for s in LAYOUT.sizes],
                dim=1,
            )
            .numpy()
            .astype(np.int32)
        )
        codes[~LAYOUT.visible(presence)] = ABSENT
        return Rows(codes=codes, presence=presence)


@pytest.mark.parametrize("mixture", [0.0, 0.5])
def test_a_network_with_samples_only_is_raked(mixture):
    rows = world(4000, seed=12)
    conf = replace(QUICK, rake=RakeConf(strength=0.01, steps=150), mixture=mixture)
    tables = measured(rows, PAIRS, 10, 13)
    found = synthesise(Uniform(), LAYOUT, tables, sizes_of(rows), conf, seed=1)
    assert lift_of(found.rows) == pytest.approx(lift_of(rows), abs=0.04)
    assert bool(found.trace) == (mixture > 0)


def test_value_sums_and_the_corner_are_no_targets():
    rows = world(300, seed=16)
    tables = measured(rows, PAIRS, 0, 17)
    weighted = Query(
        sides=(Side(party="ads", columns=("arm",)), Side(party="shop", weight="spend"))
    )
    extra = Measurement(query=weighted, values=np.zeros((3, 1)), variance=1.0)
    wanted = constraints([*tables, extra], LAYOUT, rows, 300)
    assert len(wanted) == len(tables)
    assert [len(c.target) for c in wanted][-2:] == [8, 20]
    exact = rake(wanted, 300, 300, RakeConf(steps=5))
    assert np.allclose(exact.weights, 1 / 300)
    assert exact.effective == pytest.approx(300)


def test_broken_raking_that_forgets_the_variance_is_caught():
    """Every constraint taken as equally noisy: the precise one is no longer met."""
    cells = np.repeat(np.arange(2, dtype=np.int32), 500)
    wanted = [
        Constraint(name=str(v), cells=cells, target=np.array([t, 1 - t]), variance=np.full(2, v))
        for t, v in ((0.7, 1e-6), (0.3, 1e-2))
    ]
    equal = [replace(c, variance=np.full(2, 1e-4)) for c in wanted]
    assert rake(wanted, 1000, 1000, RakeConf(steps=200)).weights[:500].sum() > 0.69
    assert rake(equal, 1000, 1000, RakeConf(steps=200)).weights[:500].sum() < 0.55


def test_a_generator_that_was_never_trained_starts_from_the_tables():
    rows = world(1500, seed=30)
    known = LAYOUT, measured(rows, PAIRS, 10, 31), sizes_of(rows)
    quick = replace(QUICK, fit=FitConf(latents=50, network_steps=5, free_steps=10), rows=200)
    c = conf("tvae")
    first = first_weights(c, *known, quick, 1)
    untrained, trained = (
        synthetic_rows(c, *known, quick, 1, weights).rows.codes for weights in (None, first)
    )
    assert np.array_equal(untrained, trained)
    assert not np.array_equal(trained, synthetic_rows(c, *known, quick, 1, -first).rows.codes)


def test_the_format_stage_learns_what_the_tables_say(caplog):
    rows = world(1500, seed=32)
    known = LAYOUT, measured(rows, PAIRS, 10, 33), sizes_of(rows)
    quick = replace(QUICK, fit=FitConf(latents=50, network_steps=0, free_steps=10))
    c = conf("llm", format_steps=60, format_learning_rate=2e-2, format_batch=64)
    with caplog.at_level("INFO", "twinweave.run"):
        weights = first_weights(c, *known, quick, 1)
    written = registry.load(c, LAYOUT, weights).sample(
        np.ones((4000, 2), bool), torch.Generator().manual_seed(2)
    )
    share = np.bincount(written.codes[:, 0], minlength=3) / 4000
    np.testing.assert_allclose(share, [0.5, 0.3, 0.2], atol=0.07)  # at first a third each
    assert "format stage: learn the format 100%" in caplog.text
