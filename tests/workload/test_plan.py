"""A table and its noise fit each other; a plan knows who takes part in which table."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from twinweave.errors import ConfigError, ProtocolError
from twinweave.parsing import canonical_json, parse
from twinweave.privacy.accountant import epsilon_of_mechanisms
from twinweave.privacy.events import SharedBinomial, Stage
from twinweave.privacy.noise import DEALT_COINS, DealtCoins, Noise, OwnCoins, OwnGaussian
from twinweave.tables.column import VALUE_UNITS, Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.plan import PlannedQuery, TablePlan
from twinweave.workload.queries import Query, Side

KEY = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
SHOP = (KEY, Column(name="sex", kind=Kind.CATEGORICAL, levels=("f", "m"), shared=True))
BANK = (
    KEY,
    Column(name="loan", kind=Kind.BOOLEAN),
    Column(name="paid", kind=Kind.INTEGER, role=Role.VALUE, bounds=(0, 9), bins=2),
)
POOL = ("north", "south")
SCHEMA = JointSchema(
    schemas=(
        *(Schema(party=p, columns=SHOP) for p in POOL),
        Schema(party="bank", columns=BANK),
    ),
    pools=(POOL,),
)
SHOPS = Side(party="north", columns=("sex",), pool=POOL)
NORTH = Side(party="north", columns=("sex",))
LOAN, PAID = Side(party="bank", columns=("loan",)), Side(party="bank", weight="paid")
COUNT = OwnGaussian(noise_multiplier=3.0)
SUM = OwnGaussian(noise_multiplier=3.0, sensitivity=VALUE_UNITS)


def planned(noise: Noise, *sides: Side) -> PlannedQuery:
    return PlannedQuery(query=Query(sides=sides), stage=Stage.MEASUREMENT, noise=noise)


FITS = [
    planned(COUNT, LOAN),
    planned(COUNT, SHOPS),
    planned(COUNT, NORTH, LOAN),
    planned(SUM, PAID, NORTH),
    planned(DealtCoins(coins=50), NORTH, LOAN),
    planned(DealtCoins(coins=5000, sensitivity=VALUE_UNITS), PAID, NORTH),
    planned(OwnCoins(coins=50, unknown=1), SHOPS),
    planned(OwnCoins(coins=50, unknown=2), SHOPS, LOAN),
]


@pytest.mark.parametrize("fits", FITS, ids=lambda p: f"{type(p.noise).__name__} {p.query.name}")
def test_what_travels_comes_back(fits: PlannedQuery) -> None:
    assert parse(PlannedQuery, json.loads(canonical_json(fits))) == fits


@pytest.mark.parametrize(
    ("noise", "sides"),
    [
        (SUM, (LOAN,)),
        (COUNT, (PAID, NORTH)),
        (DealtCoins(coins=50), (LOAN,)),
        (DealtCoins(coins=50), (SHOPS, LOAN)),
        (DealtCoins(coins=5000), (PAID, NORTH)),  # a sum that is charged for as a count
        (DealtCoins(coins=5000, sensitivity=VALUE_UNITS), (LOAN, NORTH)),
        (DealtCoins(coins=5000, sensitivity=VALUE_UNITS), (PAID,)),
        (DealtCoins(coins=5000, sensitivity=VALUE_UNITS), (PAID, SHOPS)),
        (OwnCoins(coins=50, unknown=1), (NORTH, LOAN)),
        (OwnCoins(coins=50, unknown=1), (SHOPS, PAID)),
        (OwnCoins(coins=50, unknown=2), (SHOPS,)),
    ],
)
def test_noise_that_does_not_bound_a_user_is_refused(noise: Noise, sides: tuple[Side, ...]) -> None:
    with pytest.raises(ProtocolError, match="does not bound"):
        planned(noise, *sides)


def test_a_sum_that_is_charged_as_a_count_would_show_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken variant of what the test above refuses."""
    monkeypatch.setattr("twinweave.workload.plan._fits", lambda *_: True)
    charged = planned(DealtCoins(coins=5000), PAID, NORTH).event.mechanism
    assert isinstance(charged, SharedBinomial)
    shown = replace(charged, sensitivity=VALUE_UNITS)
    said, true = (epsilon_of_mechanisms([m], 1e-5) for m in (charged, shown))
    assert true > 10 * said


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (OwnGaussian, {"noise_multiplier": 0.0}),
        (OwnGaussian, {"noise_multiplier": float("nan")}),
        (DealtCoins, {"coins": 0}),
        (OwnCoins, {"coins": 4, "unknown": 0}),
    ],
)
def test_no_noise_at_all_is_refused(kind: type[Noise], fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        kind(**fields)  # type: ignore[arg-type]


def test_a_plan_knows_who_takes_part() -> None:
    plan = TablePlan(schema=SCHEMA, tables=tuple(FITS))
    assert [e.label for e in plan.events()] == [p.query.name for p in FITS]
    assert len(plan.events("south")) == 3
    assert list(plan.local("bank")) == [0]
    assert list(plan.pooled("south")) == [1, 6]
    assert list(plan.crossing("bank", "north")) == [2, 3, 4, 5, 7]
    assert list(plan.crossing("south", "bank")) == [7]
    assert plan.pairs() == (("north", "bank"), ("south", "bank"))
    assert plan.peers("bank") == POOL


def test_a_plan_beyond_the_schema_or_a_partys_strength_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("twinweave.workload.plan.OWN_COINS", 1 << 30)
    TablePlan(schema=SCHEMA, tables=tuple(FITS)).check()
    invented = Side(party="north", columns=("sex",), pool=("north", "east", "west"))
    for noise, side, error in (
        (OwnCoins(coins=50, unknown=2), invented, ConfigError),
        (COUNT, Side(party="bank", columns=("sex",)), ConfigError),
        (OwnCoins(coins=1 << 31, unknown=1), SHOPS, ProtocolError),
    ):
        with pytest.raises(error):
            TablePlan(schema=SCHEMA, tables=(planned(noise, side),)).check()
    few = planned(DealtCoins(coins=DEALT_COINS // 20), NORTH, LOAN)
    TablePlan(schema=SCHEMA, tables=(few,)).check()
    with pytest.raises(ProtocolError, match="dealt coins"):
        TablePlan(schema=SCHEMA, tables=(few, few)).check()
