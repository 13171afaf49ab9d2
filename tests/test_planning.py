"""All of a run is planned before anything is released: nothing paid for is lost to a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.campaigns import (
    TRAINING,
    configure,
    csv_mapping,
    horizontal,
    mapping,
    mixed,
    vertical,
)
from tests.protocols.parties import Parties
from tests.whole_run import Deployment, guard_rows
from twinweave.config import RunConf
from twinweave.errors import BudgetError, ConfigError, ProtocolError
from twinweave.parsing import canonical_json
from twinweave.passes import adapts
from twinweave.planning import plan, plan_second, plan_training
from twinweave.privacy import accountant
from twinweave.privacy.events import SharedBinomial
from twinweave.privacy.noise import DealtCoins, OwnGaussian
from twinweave.protocols.alignment.server import align
from twinweave.spec import RunSpec
from twinweave.workload import adaptive
from twinweave.workload.measurement import Measurement
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import cells_of
from twinweave.workload.tables import tables_to_measure

ROWS = {"publisher": 280, "advertiser": 260}


def trained(data: dict[str, Any], **changes: Any) -> RunConf:
    return RunConf.parse(data | {"generator": TRAINING | changes})


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> RunConf:
    """A run that selects features and trains."""
    folder = tmp_path_factory.mktemp("planned")
    return trained(mapping(folder, "selection.when=always", "privacy.epsilon=1"))


@pytest.fixture(scope="module")
def spec(conf: RunConf) -> RunSpec:
    return plan(conf, "ab" * 16)


def coarse(spec: RunSpec, seed: int) -> tuple[Measurement, ...]:
    """What the first pass may have found: noise, and an association here and there."""
    rng = np.random.default_rng(seed)
    found = []
    for planned in spec.plan:
        shape = cells_of(spec.schema, planned.query).shape
        values = rng.normal(30 * rng.random(shape) ** 4, planned.variance**0.5)
        found.append(Measurement(query=planned.query, values=values, variance=planned.variance))
    return tuple(found)


@pytest.mark.parametrize("asked", ["auto", 0.0])
def test_training_that_earns_nothing_takes_nothing(tmp_path: Path, asked: Any) -> None:
    data = mapping(tmp_path)
    tables = plan(RunConf.parse(data | {"generator": TRAINING | {"rounds": 0}}), "ab" * 16)
    data["privacy"]["shares"] |= {"training": asked}
    conf = trained(data)
    spec = plan(conf, "ab" * 16)
    assert spec.training is None
    assert not conf.trains
    assert spec.plan == tables.plan  # all of the budget is theirs
    data["privacy"]["shares"] |= {"training": 0.1}
    assert plan(trained(data), "ab" * 16).plan[0].variance > spec.plan[0].variance


CLIP = "data.lift.clip.spend=auto"


@pytest.mark.parametrize(
    ("reasons", "scope"),
    [((CLIP,), "lift"), ((CLIP,), "all"), ((CLIP, "selection.when=always"), "all")],
)
def test_a_second_plan_sums_up_to_clips_and_asks_nothing_again(
    tmp_path: Path, reasons: tuple[str, ...], scope: str
) -> None:
    conf = configure(tmp_path, f"workload={scope}", "privacy.epsilon=8", *reasons)
    spec = plan(conf, "ab" * 16)
    spent = {"advertiser.spend": 900.0, "publisher.arm": 2000.0}
    found = tuple(
        replace(m, values=spent.get(m.query.name, 300) * 0.4 ** np.indices(m.values.shape).sum(0))
        for m in coarse(spec, 0)
    )
    first, tables = plan_second(conf, spec, found)
    assert {m.query.name for m in first.kept} == set(spent)
    assert (first.selected is None) == (len(reasons) == 1)
    assert not {p.query.name for p in tables} & {m.query.name for m in found}
    assert {p.query.clip for p in tables if p.query.weight} == {first.clips["spend"]}
    assert first.clips["spend"] < 400
    second = replace(spec, plan=tables, overlap=None)
    spec.within_reserve(second.tables)
    events = [*spec.tables.events(), *second.tables.events()]
    assert 0.97 * 8 < accountant.epsilon(events, spec.delta) <= 8


@pytest.mark.parametrize("seed", [0, 1])
def test_whatever_is_selected_stays_within_what_was_reserved(
    conf: RunConf, spec: RunSpec, seed: int
) -> None:
    assert spec.reserve is not None
    rounds = spec.trained.generator.rounds
    training = plan_training(conf, spec, ROWS).events(spec.schema.units, rounds)
    assert accountant.epsilon([*spec.tables.events(), *spec.later, *training], spec.delta) <= 1
    _, tables = plan_second(conf, spec, coarse(spec, seed), training)
    second = replace(spec, plan=tables, overlap=None)
    spec.within_reserve(second.tables)
    events = [*spec.tables.events(), *second.tables.events(), *training]
    assert 0.97 < accountant.epsilon(events, spec.delta) <= 1


ADAPTED = ("workload.adaptive=always", "privacy.epsilon=4")
WORLDS = {
    "two parties with clips": lambda folder: configure(folder, *ADAPTED, CLIP),
    "three parties": lambda folder: vertical(folder, *ADAPTED),
    "a pool": lambda folder: RunConf.parse(horizontal(folder, *ADAPTED)),
    "a pool and another": lambda folder: mixed(folder, *ADAPTED),
}


@pytest.mark.parametrize("world", WORLDS)
def test_tables_are_asked_for_as_they_are_worth_within_what_was_reserved(
    tmp_path: Path, world: str
) -> None:
    """Whatever the first pass shows. Priority tables get their share, as without a first pass."""
    conf = WORLDS[world](tmp_path)
    spec = plan(conf, "ab" * 16)
    assert adapts(conf)
    spec.tables.check()
    first, tables = plan_second(conf, spec, coarse(spec, 0))
    assert first.selected is None
    assert first.kept == first.measurements
    second = replace(spec, plan=tables, overlap=None)
    second.tables.check()
    spec.within_reserve(second.tables)
    events = [*spec.tables.events(), *second.tables.events()]
    assert 0.95 * 4 < accountant.epsilon(events, spec.delta) <= 4
    assert not {p.query.name for p in tables} & {p.query.name for p in spec.plan}
    asked = {(p.query.columns, p.query.weight) for p in (*spec.plan, *tables)}
    alike = replace(conf, workload=replace(conf.workload, adaptive="never"))
    everything = tables_to_measure(conf.data.analyses, alike.settled_workload)
    assert asked >= {(q.columns, q.weight) for q in everything if q.priority or len(q.columns) < 3}


def test_priority_tables_lose_nothing_to_a_first_pass(tmp_path: Path) -> None:
    conf = configure(tmp_path, *ADAPTED, "protocol.noise=gaussian")
    spec = plan(conf, "ab" * 16)
    _, tables = plan_second(conf, spec, coarse(spec, 0))
    alike = replace(conf, workload=replace(conf.workload, adaptive="never"))
    found = _multipliers(tables)
    assert found == pytest.approx(_multipliers(plan(alike, "r").plan), rel=0.05)


def test_the_second_pass_is_divided_by_what_the_first_showed(tmp_path: Path) -> None:
    """And not alike: one pair that depends on each other gets several times its part."""
    conf = configure(tmp_path, *ADAPTED, "protocol.noise=gaussian")
    spec = plan(conf, "ab" * 16)
    found = list(coarse(spec, 0))
    i = next(i for i, m in enumerate(found) if m.query.name == "publisher.age/5 x publisher.arm/3")
    row, column = np.indices(found[i].values.shape)
    found[i] = replace(found[i], values=np.where(row == column, 2000.0, 10.0))
    measured = [m for m in found if m.query.is_coarse]
    worth = adaptive.second_tables(measured, conf.data.analyses, conf.settled_workload)
    _, tables = plan_second(conf, spec, tuple(found))
    given = {
        p.query: p.noise.noise_multiplier**-2 / worth[p.query]
        for p in tables
        if isinstance(p.noise, OwnGaussian) and p.query in worth
    }
    assert len(given) == len(worth)
    assert max(given.values()) < 1.1 * min(given.values())  # but for the steps noise comes in
    each = [own / cells_of(spec.schema, q).size ** (2 / 3) for q, own in worth.items()]
    assert max(each) > 3 * min(each)


def test_two_passes_take_no_more_coins_than_one(tmp_path: Path) -> None:
    conf = configure(tmp_path, *ADAPTED, "protocol.coin_limit=200000")
    spec = plan(conf, "ab" * 16)
    _, tables = plan_second(conf, spec, coarse(spec, 0))
    dealt = [
        p.noise.coins * cells_of(spec.schema, p.query).n_opened
        for p in (*spec.plan, *tables)
        if isinstance(p.noise, DealtCoins)
    ]
    assert 0.5 * 200_000 < sum(dealt) <= 200_000


def test_priority_tables_that_leave_nothing_to_others_are_refused_by_name(tmp_path: Path) -> None:
    conf = configure(tmp_path, *ADAPTED, "privacy.priority_share=1")
    with pytest.raises(ConfigError, match=r"privacy\.priority_share': leaves nothing"):
        plan(conf, "ab" * 16)


def _multipliers(tables: Sequence[PlannedQuery]) -> dict[str, float]:
    """Noise multiplier of the priority tables."""
    found = {p.query.name: p.noise for p in tables if p.query.priority}
    return {n: own.noise_multiplier for n, own in found.items() if isinstance(own, OwnGaussian)}


def test_an_audits_tables_alone_get_what_they_need(tmp_path: Path) -> None:
    data = mapping(tmp_path, *ADAPTED, "privacy.k=5", "protocol.noise=gaussian")
    data["data"]["lift"] = None
    conf = RunConf.parse(data)
    spec = plan(conf, "ab" * 16)
    _, tables = plan_second(conf, spec, coarse(spec, 0))
    (audit,) = [p for p in tables if p.query.priority]
    assert isinstance(audit.noise, OwnGaussian)
    assert 0.9 * 10 < audit.noise.noise_multiplier < 1.1 * 10  # 2 k


def test_few_tables_are_not_chosen_among(tmp_path: Path) -> None:
    homomorphic = "protocol.cross_tables=homomorphic"
    conf = trained(mapping(tmp_path, homomorphic, "workload.adaptive=auto"))
    assert not adapts(conf)
    with pytest.raises(ConfigError, match=r"workload\.adaptive': always, but this run"):
        adapts(configure(tmp_path, homomorphic, "workload.adaptive=always"))
    assert not adapts(trained(mapping(tmp_path, "selection.when=always")))
    assert not adapts(configure(tmp_path, "workload.adaptive=auto"))  # nothing is learnt from them
    assert adapts(trained(mapping(tmp_path)))


def test_a_second_plan_of_the_same_epsilon_may_show_more(spec: RunSpec) -> None:
    """At one delta its cost is below; at others it is not, and a party refuses it."""
    assert spec.reserve is not None
    table = next(p for p in spec.plan if isinstance(p.noise, DealtCoins))
    few = replace(table, noise=DealtCoins(coins=45))
    least = accountant.epsilon_of_mechanisms([SharedBinomial(coins=45)], spec.delta)
    wide = replace(spec, reserved=1 / accountant.gaussian_mu(least, spec.delta) * 0.999)
    assert wide.reserve is not None
    assert least <= accountant.epsilon_of_mechanisms([wide.reserve], spec.delta)
    with pytest.raises(BudgetError, match="more than was reserved"):
        wide.within_reserve(replace(wide, plan=(few,)).tables)
    quiet = OwnGaussian(noise_multiplier=spec.reserve.noise_multiplier * 1.01)
    spec.within_reserve(replace(spec, plan=(replace(table, noise=quiet),)).tables)


def test_a_training_that_cannot_be_planned_ends_the_run_before_a_charge(tmp_path: Path) -> None:
    """Sizes come with the parties' keys: every row in every step is more than was thought."""
    data = csv_mapping(tmp_path, "privacy.epsilon=0.05", users=60)
    data |= {"generator": TRAINING | {"expected_batch": 500, "local_steps": 400}}
    conf, deployment = RunConf.parse(data), Deployment(data, tmp_path)
    assert plan(conf, "r").training is not None
    with pytest.raises(BudgetError, match="too little is left for training"):
        deployment.start()
    assert guard_rows(deployment.sites) == {"publisher": [], "advertiser": []}


def test_a_guard_without_room_for_the_training_refuses_before_a_charge(tmp_path: Path) -> None:
    data = csv_mapping(tmp_path, users=60) | {"generator": TRAINING}
    data["privacy"]["shares"] |= {"measurement": 0.5, "training": 0.5}
    deployment = Deployment(data, tmp_path)
    spec = plan(RunConf.parse(data), "r")
    own = accountant.epsilon(spec.tables.events("advertiser"), spec.delta)
    deployment.sites["advertiser"]["guard"] |= {"epsilon": own * 1.05, "delta": spec.delta}
    refused = r"party 'advertiser': privacy budget.*raise this party's site file: guard\.epsilon"
    with pytest.raises(BudgetError, match=refused):
        deployment.start()
    assert guard_rows(deployment.sites) == {"publisher": [], "advertiser": []}


@pytest.mark.parametrize(
    ("change", "error"), [("louder", BudgetError), ("", ProtocolError), ("other", ProtocolError)]
)
def test_a_party_accepts_no_other_training(
    tmp_path: Path, change: str, error: type[Exception]
) -> None:
    """Less noise than the run has room for, no plan at all, or steps that were not agreed on."""
    conf = trained(csv_mapping(tmp_path, users=60))
    parties = Parties.of(conf, tmp_path)
    members = parties.setup()
    honest = plan_training(conf, parties.spec, members.rows)
    changes: dict[str, dict[str, Any]] = {
        "louder": {"noise_multiplier": 0.5},
        "other": {"steps": 9},
    }
    text = canonical_json(
        replace(
            honest,
            parties={
                p: replace(own, **changes.get(change, {})) for p, own in honest.parties.items()
            },
        )
    )
    parties.drive(align(parties.spec, members, canonical_json(honest)))
    parties = Parties.of(conf, tmp_path)
    members = parties.setup()
    with pytest.raises(error):
        parties.drive(align(parties.spec, members, text if change else ""))
