"""A plan before a run: the run's own plan, from public sizes alone."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from operator import le
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scripts import plan as command
from tests.campaigns import TRAINING, mapping
from twinweave.analysis.lift.needed import REACH, needed_for
from twinweave.config import RunConf
from twinweave.errors import ConfigError, SourceError
from twinweave.foresight.assumptions import Amount, PlanConf
from twinweave.foresight.foresight import Foresight, foresight
from twinweave.foresight.search import HALF, least_epsilon
from twinweave.parsing import parse
from twinweave.planning import plan
from twinweave.report.terminal.foresight import foresight_text
from twinweave.report.terminal.text import WIDTH

ROWS = {"publisher": 60_000, "advertiser": 50_000}
LIFT = 0.0075
ASKED = PlanConf(rows=ROWS, rates={"converted": 0.05}, lifts={"converted": LIFT})
ALL = ("workload.one_way=true", "workload.pairs=true", "workload.three_way=true")
FEW = ("workload.one_way=false", "workload.pairs=false", "workload.three_way=false")


def run(*overrides: str, **changes: Any) -> RunConf:
    """One that measures its priority tables alone."""
    return RunConf.parse(mapping(Path("x"), "privacy.epsilon=.3", *FEW, *overrides) | changes)


@pytest.fixture(scope="module")
def found() -> Foresight:
    return foresight(run(), ASKED)


def test_the_tables_are_those_of_the_run(found: Foresight) -> None:
    spec = plan(run(), "ab" * 16)
    told = {t.name: t.noise_sd for t in found.tables if "users in common" not in t.name[:40]}
    counts = {p.query.name: p.variance**0.5 for p in spec.plan if p.query.weight is None}
    assert counts.items() <= told.items()
    assert found.spent is not None
    assert 0.99 * 0.3 < found.spent <= 0.3


def test_an_epsilon_is_the_least_that_reaches_it(found: Foresight) -> None:
    """Planned anew at it, and a little below."""
    told: Any = found.outlooks[0]
    assert told.found.noise_ratio > HALF
    for epsilon, reached in ((told.epsilon_for_half, True), (told.epsilon_for_half * 0.97, False)):
        again: Any = foresight(run(f"privacy.epsilon={epsilon}"), ASKED).outlooks[0].found
        assert (again.noise_ratio <= HALF) is reached
    for epsilon, reached in ((told.epsilon_for_lift, True), (told.epsilon_for_lift * 0.97, False)):
        again = foresight(run(f"privacy.epsilon={epsilon}"), ASKED).outlooks[0].found
        assert (again.smallest <= LIFT) is reached


def test_so_many_users_reach_it_too(found: Foresight) -> None:
    told: Any = found.outlooks[0]
    for users, value, aim in (
        (told.users_for_half, "noise_ratio", HALF),
        (told.users_for_lift, "smallest", LIFT),
    ):
        more = replace(ASKED, rows=ROWS | {"publisher": round(users)})
        again = foresight(run(), more).outlooks[0].found
        assert getattr(again, value) == pytest.approx(aim, rel=1e-3)


def test_what_a_report_says_of_epsilon_is_what_the_planner_says(found: Foresight) -> None:
    """The scaling by which an inconclusive report names an epsilon, against real plans."""
    told: Any = found.outlooks[0]
    said = needed_for(
        LIFT,
        noise=told.found.noise_sd,
        sampling=told.found.sampling_error,
        errors=told.found.quantiles,
        users=sum(told.found.users),
        epsilon=found.epsilon,
        delta=found.delta,
    )
    assert said.epsilon == pytest.approx(told.epsilon_for_lift, rel=0.05)
    assert said.times == pytest.approx(told.users_for_lift / ROWS["publisher"])


def test_none_will_do_where_sampling_hides_it_or_tables_are_tiny() -> None:
    told: Any = foresight(run(), replace(ASKED, lifts={"converted": 0.001})).outlooks[0]
    assert told.epsilon_for_lift is None
    assert told.users_for_lift > ROWS["publisher"]
    tiny = foresight(run(), PlanConf(rows={"publisher": 12, "advertiser": 9})).outlooks[0]
    assert tiny.epsilon_for_half is None
    assert f"none ≤ {REACH:g}" in foresight_text(
        foresight(run(), PlanConf(rows=dict.fromkeys(ROWS, 9)))
    )


def test_the_search_ends_at_its_ends() -> None:
    for near in (0.001, 0.02, 0.9, 3.2, 3.3, 19.9, 500):
        assert least_epsilon(lambda e: False, near) is None
        assert least_epsilon(lambda e: True, near) == pytest.approx(0.02, rel=0.02)
        for where in (0.021, 3.21, 19.5):
            found: Any = least_epsilon(partial(le, where), near)
            assert where <= found <= where * 1.021


def test_rows_are_counted_and_nothing_else_is_read(tmp_path: Path) -> None:
    """A table whose other columns are spoilt has as many rows."""
    data = mapping(tmp_path)
    for number, party in enumerate(data["data"]["parties"]):
        file = tmp_path / f"{party['name']}.csv"
        spoilt = {c["name"]: ["?"] * (50 + number) for c in party["columns"]}
        pd.DataFrame(spoilt | {"user": range(50 + number)}).to_csv(file, index=False)
        party["source"] = {"kind": "csv", "path": str(file)}
    assert foresight(RunConf.parse(data), PlanConf()).rows == {"publisher": 50, "advertiser": 51}
    party["source"]["path"] = str(tmp_path / "gone.csv")
    with pytest.raises(SourceError):
        foresight(RunConf.parse(data), PlanConf())
    del party["source"], data["federation"]
    data["federation"] = {"mode": "deployment"}
    with pytest.raises(ConfigError, match=r"plan\.rows\.advertiser.*Give the public size"):
        foresight(RunConf.parse(data), PlanConf())


def test_shares_and_matches_that_are_stated_are_used() -> None:
    asked = replace(ASKED, arms={"test": 0.5, "control": 0.1}, matched=0.5)
    told = foresight(run(), asked).outlooks[0].found
    assert list(told.users) == [30_000, 6_000]
    assert told.base == pytest.approx(0.025)
    spent = replace(ASKED, values={"spend": Amount(mean=2.0, sd=15.0)})
    (value,) = (o.found for o in foresight(run(), spent).outlooks if o.found.outcome == "spend")
    assert value.sampling_error == pytest.approx(15 * (2 / 20_000) ** 0.5)


def test_a_design_effect_is_on_the_sampling_error_alone(found: Foresight) -> None:
    """Stated, or declared by the lift."""
    before: Any = found.outlooks[0].found
    conf = run()
    lift: Any = conf.data.lift
    clustered = replace(conf.data, lift=replace(lift, design_effect=4.0))
    declared = replace(conf, data=clustered)
    for told in (
        foresight(conf, replace(ASKED, design_effect=4.0)),
        foresight(declared, ASKED),
    ):
        after: Any = told.outlooks[0].found
        assert after.sampling_error == pytest.approx(2 * before.sampling_error)
        assert after.noise_sd == before.noise_sd
        assert "design effect of clusters: 4" in told.assumed


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": {"nobody": 5}},
        {"rows": {"publisher": 0}},
        {"rates": {"spend": 0.1}},
        {"rates": {"converted": 1.0}},
        {"arms": {"test": 0.9, "control": 0.2}},
        {"arms": {"test": 0.5}},
        {"values": {"spend": {"mean": 1, "sd": 0}}},
        {"matched": 0},
        {"design_effect": 0.5},
        {"values": {"spend": {"mean": float("nan"), "sd": 1}}},
        {"rates": {"converted": []}},
        {"lifts": {"converted": 0}},
        {"lifts": {"converted": float("nan")}},
        {"unknown": 1},
    ],
)
def test_assumptions_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"plan\."):
        foresight(run(), parse(PlanConf, {"rows": ROWS} | wrong, where="plan"))


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [([*ALL, "selection.when=always"], {}), ([], {"generator": TRAINING})],
    ids=["selection", "training"],
)
def test_every_stage_of_a_run_is_shown(overrides: list[str], changes: dict[str, Any]) -> None:
    told = foresight(run(*overrides, **changes), ASKED)
    stages = {t.stage for t in told.tables}
    assert ("selection" in stages) is bool(overrides)
    assert bool(told.training) is bool(changes)
    assert told.spent is not None
    assert 0.99 * 0.3 < told.spent <= 0.3
    assert set(told.spent_by_stage) >= stages
    assert told.outlooks
    text = foresight_text(told)
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    words = ["generator=none", *FEW, "plan.rows.publisher=9000", "plan.rows.advertiser=9000"]
    assert command.main([*words, "plan.rates.converted=[.05,.1]", f"plan.json={file}"]) == 0
    assert "what the budget buys" in capsys.readouterr().out
    assert command.main([*words, "plan.rates.converted=[.05,.1]", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(file.read_text())
    assert [o["found"]["base"] for o in printed["outlooks"][:2]] == [0.05, 0.1]
    assert command.main([*words, "plan.rats=1"]) == ConfigError.exit_code
    assert command.main([*words, "plan=1"]) != 0
    assert command.main([*words, "plan.json=/nowhere/plan.json"]) != 0
