"""Pools that nobody agreed to: members who draw no coins would divide the others' away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.campaigns import mixed
from tests.protocols.parties import Parties, at, drop, put
from tests.whole_run import spec_of
from twinweave.errors import ChannelError, ConfigError, ProtocolError, RunError, SchemaError
from twinweave.parsing import canonical_json
from twinweave.privacy.events import Stage
from twinweave.privacy.noise import OwnCoins
from twinweave.protocols.alignment.messages import BlindRequest
from twinweave.protocols.alignment.server import align
from twinweave.protocols.products.server import measure
from twinweave.spec import SecondPlan
from twinweave.tables.column import Column, Kind
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query, Side

NORTH, SOUTH, SHOP = "north", "south", "shop0"


def pooled(
    members: Sequence[str], *others: Side, unknown: int, columns: tuple[str, ...] = ("region",)
) -> PlannedQuery:
    """A table of a pool, alone or across; so many members' coins are said to be unknown."""
    side = Side(party=members[0], columns=columns, pool=tuple(members))
    noise = OwnCoins(coins=10_000, unknown=unknown)
    return PlannedQuery(query=Query(sides=(side, *others)), stage=Stage.MEASUREMENT, noise=noise)


def invented(n: int) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(n))


def begun(folder: Path, schema: JointSchema | None = None, *tables: PlannedQuery) -> Parties:
    conf = mixed(folder, users=60)
    spec = spec_of(conf)
    spec = replace(spec, schema=schema or spec.schema, plan=tables)
    return Parties.of(conf, folder, spec)


def with_members(
    schema: JointSchema, like: str, members: tuple[str, ...], pool: tuple[str, ...]
) -> JointSchema:
    """A schema in which more parties hold what one of them does."""
    more = tuple(replace(schema.schema(like), party=name) for name in members)
    return JointSchema(schemas=(*schema.schemas, *more), pools=(pool,))


@pytest.mark.attack("members")
def test_ten_thousand_members_who_are_no_parties(tmp_path: Path) -> None:
    """At commit 8ee12a0 a table left with noise of sd .71 and was charged as sd 50."""
    table = pooled((NORTH, *invented(10_000)), unknown=10_000)
    with pytest.raises(ConfigError, match="no pool"):
        begun(tmp_path, None, table).setup()


@pytest.mark.attack("pools")
@pytest.mark.parametrize("kept", [(NORTH,), (NORTH, SOUTH)])
def test_members_whom_the_site_file_does_not_name(tmp_path: Path, kept: tuple[str, ...]) -> None:
    """They are parties of the schema, which the server wrote as well."""
    members = (*kept, *invented(40))
    schema = spec_of(mixed(tmp_path, users=60)).schema
    schema = with_members(schema, NORTH, invented(40), members)
    run = begun(tmp_path, schema, pooled(members, unknown=40))
    with pytest.raises(SchemaError, match="its site file does not name"):
        run.setup()
    assert not any(run.charges().values())


@pytest.mark.attack("pools")
def test_a_pool_of_others_whom_nobody_pinned(tmp_path: Path) -> None:
    """A table across to them: every party of a run must prove who it is before it goes on."""
    schema, others = spec_of(mixed(tmp_path, users=60)).schema, invented(40)
    key = schema.schema(SHOP).key
    mood = Column(name="mood", kind=Kind.BOOLEAN, shared=True)
    theirs = tuple(Schema(party=name, columns=(key, mood)) for name in others)
    schema = JointSchema(schemas=(*schema.schemas, *theirs), pools=(*schema.pools, others))
    shop = Side(party=SHOP, columns=("converted",))
    run = begun(tmp_path, schema, pooled(others, shop, unknown=40, columns=("mood",)))
    with pytest.raises(RunError, match="the run needs exactly"):
        run.setup()  # a server that deviates goes on all the same
    made = {name: run.hellos[NORTH].replace(NORTH, name) for name in others}
    hellos = {**run.hellos, **made}
    with pytest.raises(ChannelError, match="is not pinned"):
        run.tell("query.blind", SHOP, BlindRequest(run=run.spec.run, hellos=hellos))
    assert not any(run.charges().values())


@pytest.mark.parametrize("unknown", [0, 2, 10_000])
def test_more_unknown_members_than_there_are(unknown: int) -> None:
    with pytest.raises((ProtocolError, ConfigError)):
        pooled((NORTH, SOUTH), unknown=unknown)


@pytest.mark.attack("second-plan")
def test_a_second_plan_is_checked_as_the_first(tmp_path: Path) -> None:
    run = begun(tmp_path, None, pooled((NORTH, SOUTH), unknown=1))
    run.spec = replace(run.spec, reserved=20.0)
    members = run.setup()
    slots = run.drive(align(run.spec, members))
    run.drive(measure(run.spec, members, slots))
    charged = run.charges()
    for table in (
        pooled((NORTH, *invented(10_000)), unknown=10_000),
        pooled((NORTH, SHOP), unknown=1),
    ):
        second = replace(run.spec, plan=(table,))
        with pytest.raises(ConfigError, match="no pool"):
            run.drive(measure(second, members, slots, step=1))
    assert run.charges() == charged


@pytest.mark.parametrize(
    "change",
    [
        drop(),
        put(x=np.zeros(2, np.uint64)),
        lambda own: {k: a.astype(float) for k, a in own.items()},
        lambda own: {k: a.astype(np.uint32) for k, a in own.items()},
        lambda own: {k: a[1:] for k, a in own.items()},
        lambda own: {k: a[None] for k, a in own.items()},
    ],
)
@pytest.mark.parametrize("party", [NORTH, SHOP])
def test_the_server_names_a_part_that_does_not_fit(
    tmp_path: Path, change: Callable[[Any], Any], party: str
) -> None:
    run = begun(tmp_path, None, pooled((NORTH, SOUTH), unknown=1))
    if party == SHOP:  # which is in no pool
        change = put(**{"0": np.zeros(3, np.uint64)})
    with pytest.raises(ProtocolError, match="pooled"):
        run.measured(hears=at("query.share", party, pooled=change))


@pytest.mark.attack("fork")
def test_a_second_plan_that_the_parties_are_told_apart_is_noticed(tmp_path: Path) -> None:
    """Each would be charged for its own, and a user at both would lose more than the run's."""
    run = begun(tmp_path, None, pooled((NORTH, SOUTH), unknown=1))
    run.spec = replace(run.spec, reserved=20.0)
    members = run.setup()
    slots = run.drive(align(run.spec, members))
    run.drive(measure(run.spec, members, slots))
    charged = run.charges()
    plans = [replace(run.spec, plan=(table,)) for table in two_tables()]
    told = canonical_json(SecondPlan(plan=plans[1].plan))

    def asks(phase: str, party: str, request: Any) -> Any:
        fork = phase in ("query.agree", "query.share") and party == NORTH
        return replace(request, plan=told) if fork else request

    with pytest.raises(ChannelError, match="sealed for another label"):
        run.drive(measure(plans[0], members, slots, step=1), asks)
    assert run.charges() == charged


def two_tables() -> tuple[PlannedQuery, PlannedQuery]:
    return (
        pooled((NORTH, SOUTH), unknown=1),
        replace(pooled((NORTH, SOUTH), unknown=1), stage=Stage.SELECTION),
    )
