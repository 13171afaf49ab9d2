"""Noise for a whole run: never over budget, nearly all of it used, priority first."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinweave.errors import BudgetError, ConfigError
from twinweave.privacy import accountant
from twinweave.privacy.allocation import Allocation, SgdItem, WorkItem, calibrate
from twinweave.privacy.events import (
    DiscreteGaussian,
    Event,
    PoissonSgd,
    SharedBinomial,
    Stage,
)
from twinweave.privacy.losses import PoissonSgdLoss
from twinweave.privacy.noise import DealtCoins

DELTA = 1e-5
NONE = dict.fromkeys(Stage, 0.0)
MEASURE = NONE | {Stage.MEASUREMENT: 1.0}
TRAIN = MEASURE | {Stage.TRAINING: 1.0}
SGD = tuple(SgdItem(party=p, sampling_rate=0.05, steps=100) for p in "ab")


def table(name: str, cells: int, **rest: Any) -> WorkItem:
    return WorkItem(name=name, cells=cells, parties=("a", "b"), **rest)


def plan(items: list[WorkItem], **rest: Any) -> Allocation:
    defaults: dict[str, Any] = {
        "epsilon": 1.0,
        "delta": DELTA,
        "shares": MEASURE,
        "priority_share": 0.25,
    }
    return calibrate(items=items, **(defaults | rest))


def of(planned: Allocation, name: str) -> Event:
    return next(e for e in planned.events if e.label == name)


def tables(planned: Allocation) -> tuple[Event, ...]:
    return planned.events[: len(planned.noise)]


def trainings(planned: Allocation) -> tuple[Event, ...]:
    return planned.events[len(planned.noise) :]


def precision(event: Event) -> float:
    mechanism = event.mechanism
    if isinstance(mechanism, SharedBinomial):
        return 4 * mechanism.sensitivity**2 / mechanism.coins
    assert isinstance(mechanism, DiscreteGaussian)
    return mechanism.noise_multiplier**-2


PRIORITY = [
    table("segment x visit", 12, priority=True, coins=True),
    table("sum spend by segment", 4, priority=True, sensitivity=64, coins=True),
    table("spend", 4, priority=True),
    table("sum spend by a pool", 4, priority=True, sensitivity=64),
]
PAIRS = [table(f"pair {i}", 2 + 7 * i) for i in range(40)]

work_items = st.lists(
    st.builds(
        lambda cells, priority, coins: (cells, priority, coins),
        st.integers(1, 5000),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
).map(lambda rows: [table(str(i), c, priority=p, coins=k) for i, (c, p, k) in enumerate(rows)])


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    items=work_items,
    target=st.sampled_from([0.1, 0.5, 1.0, 4.0, 10.0]),
    settled=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_never_over_budget_and_nearly_all_used(
    items: list[WorkItem], target: float, settled: float
) -> None:
    fixed = [] if not settled else [_settled(settled * 6 / target)]
    planned = plan(items, epsilon=target, fixed=fixed)
    spent = accountant.epsilon([*fixed, *planned.events], DELTA)
    assert spent == planned.epsilon
    assert 0.99 * target < spent <= target
    first = sum(precision(of(planned, i.name)) for i in items if i.priority)
    if first:
        assert first >= 0.25 * sum(map(precision, tables(planned))) * (1 - 1e-6)


def _settled(noise_multiplier: float) -> Event:
    mechanism = DiscreteGaussian(noise_multiplier=noise_multiplier)
    return Event(label="s", stage=Stage.SELECTION, parties=("a",), mechanism=mechanism)


def test_shares_within_the_measurement_stage() -> None:
    planned = plan([*PRIORITY, *PAIRS])
    assert [e.label for e in tables(planned)] == [i.name for i in (*PRIORITY, *PAIRS)]
    total = sum(map(precision, tables(planned)))
    first = sum(precision(of(planned, i.name)) for i in PRIORITY)
    assert first / total == pytest.approx(0.25, abs=1e-3)
    small, large = precision(of(planned, "pair 1")), precision(of(planned, "pair 39"))
    assert large / small == pytest.approx((275 / 9) ** (2 / 3), rel=0.11)  # steps of 5%, twice
    assert len({e.mechanism for e in tables(planned)}) < len(tables(planned))
    spend, pooled = (of(planned, f"sum spend by {x}").mechanism for x in ("segment", "a pool"))
    assert isinstance(spend, SharedBinomial)
    assert isinstance(pooled, DiscreteGaussian)
    assert spend.sensitivity == pooled.sensitivity == 64
    assert spend.coins == pytest.approx(4 * (64 * pooled.noise_multiplier) ** 2)
    assert isinstance(of(planned, "segment x visit").mechanism, SharedBinomial)


def test_priority_takes_more_where_it_is_larger() -> None:
    planned = plan([table("big", 10_000, priority=True), table("small", 10)])
    assert precision(of(planned, "big")) > 0.9 * sum(map(precision, tables(planned)))


def test_coins_are_limited_smallest_table_first() -> None:
    items = [table(str(n), n, priority=True, coins=True) for n in (100, 4, 20)]
    free = plan(items)
    coins = {e.label: getattr(e.mechanism, "coins", 0) for e in tables(free)}
    words = sum(DealtCoins(coins=coins[str(n)]).words(n) for n in (4, 20))
    limited = plan(items, coin_limit=int(1.05 * words))
    kinds = {e.label: type(e.mechanism) for e in tables(limited)}
    assert kinds["100"] is DiscreteGaussian
    assert kinds["4"] is kinds["20"] is SharedBinomial
    assert not any(
        isinstance(e.mechanism, SharedBinomial) for e in tables(plan(items, coin_limit=0))
    )
    # A handful of coins would give a user away with probability 2**-coins.
    loud = plan(items[1:2], epsilon=50.0)
    assert isinstance(tables(loud)[0].mechanism, DiscreteGaussian)


def test_coins_go_to_the_priority_first_and_what_does_not_fit_is_passed_over() -> None:
    items = [
        table("small", 2, coins=True),
        table("sum", 3, priority=True, sensitivity=64, coins=True),
        table("count", 40, priority=True, coins=True),
    ]
    noise = {i.name: n for i, n in zip(items, plan(items).noise, strict=True)}
    cost = {i.name: noise[i.name].words(i.cells) for i in items}

    def with_coins(limit: int) -> set[str]:
        found = zip(items, plan(items, coin_limit=limit).noise, strict=True)
        return {i.name for i, n in found if isinstance(n, DealtCoins)}

    assert cost["small"] < cost["count"] < cost["sum"]
    assert with_coins(int(1.05 * cost["count"])) == {"count"}
    assert with_coins(int(1.05 * (cost["count"] + cost["small"]))) == {"count", "small"}
    assert with_coins(int(1.05 * (cost["count"] + cost["sum"]))) >= {"count", "sum"}


def test_a_large_sum_leaves_the_coins_to_tables_of_counts() -> None:
    items = [
        table("sum", 4, priority=True, sensitivity=64, coins=True),
        *(table(f"pair {i}", 40, coins=True) for i in range(20)),
    ]
    free = plan(items).noise
    words = {
        i.name: n.words(i.cells)
        for i, n in zip(items, free, strict=True)
        if isinstance(n, DealtCoins)
    }
    pairs = sum(words.values()) - words["sum"]
    limit = max(int(1.05 * pairs), int(1.01 * words["sum"]))
    limited = plan(items, coin_limit=limit).noise
    assert not isinstance(limited[0], DealtCoins)
    assert all(isinstance(n, DealtCoins) for n in limited[1:])


def test_training_gets_its_share() -> None:
    planned = plan(PAIRS[:5], shares=TRAIN, sgd=SGD)
    assert [e.parties for e in trainings(planned)] == [("a",), ("b",)]
    assert 0.99 < accountant.epsilon(planned.events, DELTA) == planned.epsilon <= 1
    of_tables = sum(map(precision, tables(planned)))
    of_training = sum(
        accountant.gaussian_mu(accountant.epsilon([e], DELTA), DELTA) ** 2
        for e in trainings(planned)
    )
    assert of_training == pytest.approx(of_tables, rel=0.02)
    alone = plan([], shares=TRAIN, sgd=SGD)
    assert 0.99 < accountant.epsilon(trainings(alone), DELTA) <= 1


@pytest.mark.parametrize(
    ("rate", "steps", "epsilon", "settled"),
    [
        (0.016, 1200, 1.0, 4.0),
        (2.56e-4, 1200, 1.0, 4.0),
        (1e-6, 1200, 1.0, 4.0),
        (0.08, 2, 3.0, 1.4),
        (1.0, 1, 10.0, 0.6),
        (0.5, 3, 50.0, 0.2),
    ],
)
def test_the_search_for_a_trainings_noise_does_not_creep(
    rate: float, steps: int, epsilon: float, settled: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few tries, each on a grid of bounded size, from a million rows to one step of all of them."""
    tried, points = [], []
    exact, pld = accountant.epsilon, PoissonSgdLoss.pld

    def tries(events: Any, delta: float) -> float:
        tried.append(events)
        return exact(events, delta)

    def counted(self: PoissonSgdLoss, interval: float) -> Any:
        found = pld(self, interval)
        points.append(found._pmf_remove.size)
        return found

    monkeypatch.setattr(accountant, "epsilon", tries)
    monkeypatch.setattr(PoissonSgdLoss, "pld", counted)
    sgd = [SgdItem(party=p, sampling_rate=rate, steps=steps) for p in "ab"]
    planned = plan([], shares=TRAIN, sgd=sgd, epsilon=epsilon, fixed=[_settled(settled)])
    assert 0.998 * epsilon < planned.epsilon <= epsilon
    assert len(tried) <= 16
    assert max(points) <= 70_000


def test_a_plan_that_forgets_training_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = accountant.epsilon

    def forgets(events: Any, delta: float) -> float:
        kept = [e for e in events if not isinstance(e.mechanism, PoissonSgd)]
        return exact(kept, delta)

    monkeypatch.setattr(accountant, "epsilon", forgets)
    broken = plan(PAIRS[:5], shares=TRAIN, sgd=SGD)
    assert exact(broken.events, DELTA) > 1.0


def test_stages_share_in_proportion() -> None:
    shares = MEASURE | {Stage.SELECTION: 0.25, Stage.EVALUATION: 5.0}  # no work in evaluation
    chosen = table("coarse", 50, stage=Stage.SELECTION)
    planned = plan([chosen, *PAIRS[:3]], shares=shares)
    rest = sum(precision(e) for e in tables(planned) if e.label != "coarse")
    assert precision(of(planned, "coarse")) / rest == pytest.approx(0.25, rel=1e-6)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="training"):
        plan(PAIRS[:2], sgd=SGD)
    with pytest.raises(ConfigError, match="repeat"):
        plan([PAIRS[0], PAIRS[0]])
    with pytest.raises(ConfigError, match="leaves nothing"):
        plan([*PRIORITY, *PAIRS], priority_share=1.0)
    with pytest.raises(ConfigError, match="coins"):
        table("x", 3, sensitivity=64, coins=True, unknown=1)
    with pytest.raises(BudgetError):
        plan(PAIRS[:2], fixed=[_settled(3.0)])
    empty = plan([])
    assert empty.events == ()
    assert empty.epsilon == 0
    assert math.isclose(
        plan([], fixed=[_settled(9.0)]).epsilon, accountant.epsilon([_settled(9.0)], DELTA)
    )
