"""A run that hardly matches anyone stops before it measures, by a noisy count that is paid for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from tests.campaigns import csv_mapping
from tests.protocols.parties import Parties
from tests.whole_run import Deployment, guard_rows, run, spec_of
from twinweave.config import RunConf
from twinweave.errors import ProtocolError, RunError
from twinweave.privacy import accountant
from twinweave.privacy.noise import OwnGaussian
from twinweave.protocols.alignment import server
from twinweave.protocols.alignment.overlap import in_common, stop_where_hardly_anyone_matches
from twinweave.protocols.channel.server import Roster
from twinweave.spec import VERSION, RunSpec
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.overlap import OverlapCheck, counted, least

KEY = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)


def schema(*parties: str, pools: tuple[tuple[str, ...], ...] = ()) -> JointSchema:
    pooled = {p for pool in pools for p in pool}
    return JointSchema(
        schemas=tuple(
            Schema(
                party=p,
                columns=(
                    KEY,
                    Column(name="x" if p in pooled else p, kind=Kind.BOOLEAN, shared=p in pooled),
                ),
            )
            for p in parties
        ),
        pools=pools,
    )


@given(sd=st.floats(0.1, 1e5), smaller=st.integers(1, 10**8))
def test_no_run_that_shares_a_tenth_is_stopped_and_few_that_share_nothing_pass(
    sd: float, smaller: int
) -> None:
    stops = least(sd, smaller)
    assert norm.cdf((stops - 0.1 * smaller) / sd) < 4e-5
    if smaller >= 70 * sd:
        assert norm.sf(stops / sd) < 0.0014


@pytest.mark.parametrize(
    ("of", "counts"),
    [
        (schema("a", "b"), {("a",): 2}),
        (schema("a", "b", "c"), {("a",): 3, ("b",): 2, ("c",): 1}),
        (schema("a", "c", "b", pools=(("a", "c"),)), {("a", "c"): 3}),
        (schema("a", "b", pools=(("a", "b"),)), {}),
    ],
    ids=["two parties", "three", "a pool and a party", "one pool"],
)
def test_users_in_common_are_counted_by_unit(
    of: JointSchema, counts: dict[tuple[str, ...], int]
) -> None:
    slots = {"a": [0, 1, 2, 3], "b": [1, 2, 7], "c": [5, 3]}
    if of.units == (("a", "c"), ("b",)):
        slots["c"] = [5, 7]
    assert counted(of) == tuple(counts)
    found = in_common(
        replace(SPEC, schema=of, plan=()), {p: np.array(slots[p]) for p in of.parties}
    )
    assert found == list(counts.values())


SPEC = RunSpec(
    version=VERSION,
    run="0" * 32,
    schema=schema("a", "b"),
    plan=(),
    epsilon=1.0,
    delta=1e-5,
    alignment="prf",
    overlap=OverlapCheck(noise_multiplier=10.0),
)


def stopped(common: int, noise: dict[str, int], rows: int = 5000) -> bool:
    slots = {"a": np.arange(rows), "b": np.arange(rows - common, 2 * rows - common)}
    drawn = {p: np.array([n]) for p, n in noise.items()}
    members = Roster(hellos={}, rows={"a": rows, "b": rows}, guards={})
    try:
        stop_where_hardly_anyone_matches(SPEC, members, slots, drawn)
    except RunError:
        return True
    return False


def test_the_noisy_count_decides_and_not_the_exact_one() -> None:
    """Noise of sd 14 in all: 42 is the least that goes on."""
    assert stopped(0, {"a": 0, "b": 0})
    assert stopped(60, {"a": -10, "b": -10})
    assert not stopped(60, {"a": -10, "b": 0})
    assert not stopped(0, {"a": 30, "b": 30})
    with pytest.raises(ProtocolError, match="noise of 'a'"):
        stop_where_hardly_anyone_matches(
            SPEC,
            Roster(hellos={}, rows={"a": 1, "b": 1}, guards={}),
            {"a": np.array([0]), "b": np.array([0])},
            {"a": np.zeros(2, np.int64), "b": np.zeros(1, np.int64)},
        )


def test_the_count_is_a_small_part_of_the_budget_that_every_party_is_charged(
    tmp_path: Path,
) -> None:
    spec = spec_of(RunConf.parse(csv_mapping(tmp_path, users=60)))
    (event,) = spec.tables.counting
    assert event.parties == spec.parties
    for party in spec.parties:
        assert event in spec.tables.events(party)
    assert accountant.epsilon([event], spec.delta) < 0.15 * spec.epsilon
    assert accountant.epsilon(spec.tables.events(), spec.delta) <= spec.epsilon
    second = replace(spec, reserved=1e6).second('{"plan": []}')
    assert not second.tables.counting  # it is paid for once


def test_each_partys_noise_is_that_of_the_event(tmp_path: Path) -> None:
    """The mean of 40 squares lies within five of its deviations, 5 s**2 sqrt(2 / 40)."""
    conf = RunConf.parse(csv_mapping(tmp_path, "protocol.alignment=prf", users=60))
    spec = spec_of(conf)
    assert spec.overlap is not None
    drawn = []
    for i in range(20):
        parties = Parties.of(conf, tmp_path / str(i), replace(spec, run=f"{i:032x}"))
        parties.drive(server.align(parties.spec, parties.setup()))
        drawn += [int(parties.answered["query.match", p].noise[0]) for p in spec.parties]
        assert all("query.match" in phases for phases in parties.charges().values())
    ratio = np.mean(np.square(drawn)) / OwnGaussian(
        noise_multiplier=spec.overlap.noise_multiplier
    ).variance(1)
    assert abs(ratio - 1) < 5 * np.sqrt(2 / len(drawn))


@pytest.mark.parametrize("alignment", ["prf", "ristretto"])
def test_ids_that_never_match_cost_the_count_alone(tmp_path: Path, alignment: str) -> None:
    options = f"protocol.alignment={alignment}", "privacy.epsilon=20"
    data: dict[str, Any] = csv_mapping(tmp_path, *options, users=800)
    path = tmp_path / "advertiser.csv"
    frame = pd.read_csv(path, dtype=str)
    frame["user"] = "00" + frame["user"]
    frame.to_csv(path, index=False)
    deployment = Deployment(data, tmp_path)
    with pytest.raises(RunError, match="leading zeros, upper and lower case") as caught:
        deployment.start()
    assert "paid for (epsilon " in str(caught.value)
    assert "00" + "u" not in str(caught.value)
    for rows in guard_rows(deployment.sites).values():
        assert [row[1] for row in rows] == ["query.match"]
    assert {m.metadata.message_type for m in deployment.messages} == {
        "query.setup",
        "query.blind",
        "query.match",
    }
    if alignment == "ristretto":
        return
    # The broken variant: without the count, the whole measurement is paid for.
    conf = RunConf.parse(data)
    found = run(conf, spec=replace(spec_of(conf), overlap=None)).findings
    assert found.measurements


@pytest.mark.attack("shapes")
@pytest.mark.parametrize("alignment", ["prf", "ristretto"])
@pytest.mark.parametrize(
    ("hop", "tags"), [(0, False), (-1, True), (2, False), (2, True), (10**15, False), (1, False)]
)
def test_a_hop_that_no_honest_run_has_is_refused_before_the_count_is_charged(
    tmp_path: Path, alignment: str, hop: int, tags: bool
) -> None:
    """Answered, each of them would be one more answer kept on the party's disk."""
    conf = RunConf.parse(csv_mapping(tmp_path, f"protocol.alignment={alignment}", users=60))
    run, last = Parties.of(conf, tmp_path), conf.data.schema.parties[-1]
    steps = server.align(run.spec, run.setup())
    question = next(steps)
    replies = {p: run.tell(question.phase, p, q) for p, q in question.requests.items()}
    asked = steps.send(replies).requests[last]
    with pytest.raises(ProtocolError):
        run.tell("query.match", last, replace(asked, hop=hop, sealed=asked.sealed if tags else {}))
    assert not run.charges()[last]
    run.tell("query.match", last, asked)
    with pytest.raises(ProtocolError):  # nothing is left to blind
        run.tell("query.match", last, replace(asked, hop=2, sealed={}))
