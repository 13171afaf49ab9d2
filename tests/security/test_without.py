"""Each defence of setup and measurement, taken out: then, and only then, the attack goes through.

An attack is a server's steps against the parties of a small run; it returns once it succeeded,
and says with its own assertions what that is. With the defence in place a named error ends it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.campaigns import csv_mapping, mixed
from tests.e2e.clear import Clear
from tests.protocols.parties import Parties
from tests.security.without import without
from tests.whole_run import spec_of
from twinweave.config import RunConf
from twinweave.errors import AppError, ProtocolError
from twinweave.parsing import canonical_json
from twinweave.privacy import guard
from twinweave.privacy.events import DiscreteGaussian, Stage
from twinweave.privacy.noise import OwnCoins, OwnGaussian
from twinweave.protocols.alignment.messages import BlindRequest
from twinweave.protocols.alignment.server import align
from twinweave.protocols.channel import keys as channel
from twinweave.protocols.channel import party as setup
from twinweave.protocols.channel.keys import Hello, PairKeys, open_sealed
from twinweave.protocols.party import Introduced, Party
from twinweave.protocols.products import party as products
from twinweave.protocols.products import server
from twinweave.protocols.products.messages import AgreeRequest
from twinweave.protocols.products.server import measure
from twinweave.protocols.training.plan import row_weights
from twinweave.site import Site
from twinweave.spec import RunSpec, SecondPlan
from twinweave.tables.column import VALUE_UNITS
from twinweave.workload.plan import PlannedQuery, TablePlan
from twinweave.workload.queries import Query, Side

P, A = "publisher", "advertiser"
SHARE = "query.share"
FEW = ("workload.pairs=false", "workload.three_way=false", "privacy.epsilon=8")
PLANNED: dict[tuple[str, ...], RunSpec] = {}
"""Specifications by the overrides that they were planned for: planning takes longer than a run."""

Attack = Callable[[Path], None]


def two(folder: Path, *overrides: str, alignment: str = "prf") -> Parties:
    overrides = (*FEW, f"protocol.alignment={alignment}", *overrides)
    conf = RunConf.parse(csv_mapping(folder, *overrides, users=80))
    if overrides not in PLANNED:
        PLANNED[overrides] = spec_of(conf)
    spec = replace(PLANNED[overrides], run=secrets.token_hex(16))
    return Parties.of(conf, folder, spec)


def aligned(run: Parties) -> tuple[Any, Any]:
    members = run.setup()
    return members, run.drive(align(run.spec, members))


# --- attacks -----------------------------------------------------------------------------


def costs_more_than_it_says(folder: Path) -> None:
    run = two(folder)
    run.spec = replace(run.spec, epsilon=0.01)
    run.measured()
    assert all(run.charges().values())


def asks_for_too_much(folder: Path) -> None:
    run = two(folder)
    run.sites[P] = replace(run.sites[P], max_epsilon=0.5)
    run.measured()
    assert run.charges()[P]


def cannot_be_computed(folder: Path) -> None:
    run = two(folder)
    spec = json.loads(run.spec.dumps())
    first = next(p["noise"] for p in spec["plan"] if "noise_multiplier" in p["noise"])
    first["noise_multiplier"] = 1e300
    with pytest.raises(OverflowError):  # no error with a name: a crash
        replace(run, spec=RunSpec.loads(canonical_json(spec))).measured()


def invents_members(folder: Path) -> None:
    """At commit 8ee12a0 a table left with noise of sd .71 and was charged as sd 50."""
    run = two(folder)
    own = Side(party=P, columns=("gender", "region", "age"))
    pool = replace(own, pool=(P, *invented(10_000)))
    run.spec = replace(run.spec, plan=(pooled(pool, unknown=10_000),))
    asked = next(measure(run.spec, *aligned(run))).requests
    left = run.tell(SHARE, P, asked[P]).pooled["0"].astype(np.int64)
    clear = Clear(RunConf.parse(csv_mapping(folder, *FEW, users=80)))
    assert (left - clear.table(Query(sides=(own,)))).std() < 2
    assert run.charges()[P] == {"query.match", SHARE}


def invented(n: int) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(n))


def pooled(side: Side, unknown: int) -> PlannedQuery:
    noise = OwnCoins(coins=10_000, unknown=unknown)
    return PlannedQuery(query=Query(sides=(side,)), stage=Stage.MEASUREMENT, noise=noise)


def pools_whom_it_likes(folder: Path) -> None:
    """North and south are parties with the same columns, but did not agree to a pool."""
    conf = mixed(folder, users=60)
    run = Parties.of(conf, folder)
    run.sites = {name: replace(site, pools=()) for name, site in run.sites.items()}
    run.measured()
    assert all(run.charges().values())


def breaks_the_first_plans_rules_in_the_second(folder: Path) -> None:
    run = two(folder, "selection.when=always")
    run.drive(measure(run.spec, *aligned(run)))
    pool = Side(party=P, columns=("region",), pool=(P, *invented(10_000)))
    second = canonical_json(SecondPlan(plan=(pooled(pool, unknown=10_000),)))
    run.tell("query.agree", P, AgreeRequest(run=run.spec.run, plan=second))


def counts_a_sum_in_the_second_plan_as_a_count(folder: Path) -> None:
    """It would be charged for a change of one, and a user changes it by all units."""
    run = two(folder, CLIP)
    run.drive(measure(run.spec, *aligned(run)))
    sides = Side(party=P, columns=("arm",)), Side(party=A, weight="spend", clip=50.0)
    honest = PlannedQuery(
        query=Query(sides=sides),
        stage=Stage.MEASUREMENT,
        noise=OwnGaussian(noise_multiplier=30.0, sensitivity=VALUE_UNITS),
    )
    second = json.loads(canonical_json(SecondPlan(plan=(honest,))))
    second["plan"][0]["noise"]["sensitivity"] = 1
    asked = AgreeRequest(run=run.spec.run, plan=json.dumps(second))
    for party in (P, A):
        run.tell("query.agree", party, asked)


def shows_more_in_the_second_plan_than_was_reserved(folder: Path) -> None:
    run = two(folder, CLIP)
    run.drive(measure(run.spec, *aligned(run)))
    assert run.spec.reserved is not None
    plan = (gaussian(run.spec.reserved * 0.5),)
    asked = AgreeRequest(run=run.spec.run, plan=canonical_json(SecondPlan(plan=plan)))
    run.tell("query.agree", P, asked)


CLIP = "data.lift.clip.spend=auto"


def tells_two_second_plans(folder: Path) -> None:
    run = two(folder, "selection.when=always")
    members, slots = aligned(run)
    run.drive(measure(run.spec, members, slots))
    plans = [replace(run.spec, plan=(gaussian(multiplier),)) for multiplier in (30.0, 31.0)]
    told = canonical_json(SecondPlan(plan=plans[1].plan))

    def asks(phase: str, party: str, request: Any) -> Any:
        fork = phase in ("query.agree", SHARE) and party == P
        return replace(request, plan=told) if fork else request

    run.drive(measure(plans[0], members, slots, step=1), asks)
    assert all("query.share/1" in phases for phases in run.charges().values())


def gaussian(multiplier: float) -> PlannedQuery:
    query = Query(sides=(Side(party=P, columns=("region",)),))
    noise = OwnGaussian(noise_multiplier=multiplier)
    return PlannedQuery(query=query, stage=Stage.MEASUREMENT, noise=noise)


def listens_with_a_key_of_its_own(folder: Path) -> None:
    """The advertiser seals its blinded ids for the server, which says it is the publisher."""
    run = two(folder, alignment="ristretto")
    run.setup()
    key = X25519PrivateKey.generate()
    hellos = {name: Hello.loads(text) for name, text in run.hellos.items()}
    hellos[P] = replace(hellos[P], public_key=key.public_key().public_bytes_raw())
    told = {name: hello.dumps() for name, hello in hellos.items()}
    reply = run.tell("query.blind", A, BlindRequest(run=run.spec.run, hellos=told))
    keys = PairKeys.agree(key, hellos[P], hellos[A], pins=run.sites[P].pins)
    assert open_sealed(reply.sealed[A], keys=keys, phase="query.blind", label=A)


def chooses_sizes(folder: Path) -> None:
    """With so many rows at the other party, one's own weight in a sum is nil."""
    run = two(folder)
    run.setup()
    made = replace(Hello.loads(run.hellos[P]), rows=10**7)
    told = {**run.hellos, P: made.dumps()}
    run.tell("query.blind", A, BlindRequest(run=run.spec.run, hellos=told))
    weights = row_weights(Party(run.sites[A], run.states[A]).rows)
    assert weights[A] < 1e-4 < weights[P]


def signs_an_absurd_size(folder: Path) -> None:
    """The publisher signs 10**12 rows; the advertiser, whose pin it has, sets out to count them."""
    run = two(folder)
    run.setup()
    state = run.states[P]
    run.states[P] = replace(state, rows=10**12)
    hello = Party(run.sites[P], Introduced(joined=run.states[P], hellos={})).hello
    told = {**run.hellos, P: hello.dumps()}
    run.tell("query.blind", A, BlindRequest(run=run.spec.run, hellos=told))
    assert sum(Party(run.sites[A], run.states[A]).rows.values()) > 10**12


def asks_for_more_slots(folder: Path) -> None:
    run = two(folder)
    asked = next(measure(run.spec, *aligned(run))).requests[P]
    run.tell(SHARE, P, replace(asked, n_slots=asked.n_slots + 1000))
    assert run.charges()[P] == {"query.match", SHARE}


def masks_two_matrices_alike(folder: Path) -> None:
    run = two(folder)
    asked = next(measure(run.spec, *aligned(run))).requests[P]
    seed = b"s" * 32
    alike = replace(asked, coin_seeds=dict.fromkeys(asked.coin_seeds, seed))
    assert len(alike.coin_seeds) > 1
    run.tell(SHARE, P, alike)
    assert run.charges()[P] == {"query.match", SHARE}


# --- with and without --------------------------------------------------------------------

Check = tuple[Callable[..., Any], str]


@dataclass(frozen=True)
class Case:
    """An attack, and all the defences that stand in its way."""

    attack: Attack
    defences: tuple[Check, ...]


VERIFIED: Check = (channel.verify_hello, "identity.verify(")
CASES: dict[str, Case] = {
    "cost": Case(
        costs_more_than_it_says,
        (
            (RunSpec.within_budget, "accountant.epsilon(self.limit.bounded(events), self.delta) >"),
            (guard._within, "total > limit.epsilon"),
        ),
    ),
    "limits": Case(asks_for_too_much, ((Site.check_budget, "asked > getattr"),)),
    "numbers": Case(
        cannot_be_computed,
        (
            (OwnGaussian.__post_init__, "check_positive"),
            (DiscreteGaussian.__post_init__, "check_positive"),
        ),
    ),
    "members": Case(invents_members, ((TablePlan.check, "check(self.schema"),)),
    "pools": Case(pools_whom_it_likes, ((setup.check_schema, "site.party in pool"),)),
    "second-plan": Case(
        breaks_the_first_plans_rules_in_the_second, ((TablePlan.check, "check(self.schema"),)
    ),
    "second-plan, a sum": Case(
        counts_a_sum_in_the_second_plan_as_a_count, ((PlannedQuery.__post_init__, "_fits("),)
    ),
    "second-plan, reserved": Case(
        shows_more_in_the_second_plan_than_was_reserved,
        (
            (RunSpec.within_reserve, "accountant.dominated"),
            (RunSpec.within_budget, "accountant.epsilon(self.limit.bounded(events), self.delta) >"),
            (guard._within, "total > limit.epsilon"),
        ),
    ),
    "fork": Case(tells_two_second_plans, ((products._begin, "party.unseal"),)),
    "keys": Case(listens_with_a_key_of_its_own, (VERIFIED,)),
    "sizes": Case(chooses_sizes, (VERIFIED,)),
    "absurd": Case(signs_an_absurd_size, ((Site.check_rows, "rows > self.max_rows"),)),
    "slots": Case(asks_for_more_slots, ((products._begin, "request.n_slots !="),)),
    "shapes": Case(masks_two_matrices_alike, ((products._begin, "len(set(seeds))"),)),
}


@pytest.mark.attack("cost", "limits", "numbers", "members", "pools", "second-plan", "fork")
@pytest.mark.attack("keys", "sizes", "absurd", "slots", "shapes")
@pytest.mark.broken("cost", "limits", "numbers", "members", "pools", "second-plan", "fork")
@pytest.mark.broken("keys", "sizes", "absurd", "slots", "shapes")
@pytest.mark.parametrize("name", CASES)
def test_the_attack_succeeds_without_its_defence_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    guarded, bare = tmp_path / "guarded", tmp_path / "bare"
    guarded.mkdir()
    bare.mkdir()
    with pytest.raises(AppError):
        case.attack(guarded)
    for function, check in case.defences:
        without(monkeypatch, function, check)
    case.attack(bare)


@pytest.mark.attack("shapes")
@pytest.mark.broken("shapes")
def test_charging_before_checking_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At commit 8ee12a0 every request that was refused had been charged for."""
    run = two(tmp_path)
    asked = next(measure(run.spec, *aligned(run))).requests[P]
    wrong = replace(asked, slots=asked.slots * 0)
    with pytest.raises(ProtocolError):
        run.tell(SHARE, P, wrong)
    assert run.charges()[P] == {"query.match"}
    real = products._begin

    def early(request: Any, state: Any, site: Site) -> Any:
        party = Party(site, state.introduced)
        party.charge(SHARE, [p.event for p in party.spec.tables.local(P).values()])
        return real(request, state, site)

    monkeypatch.setattr(products, "_begin", early)
    with pytest.raises(ProtocolError):
        run.tell(SHARE, P, wrong)
    assert run.charges()[P] == {"query.match", SHARE}


@pytest.mark.attack("overwrite")
@pytest.mark.broken("overwrite")
def test_taking_whatever_table_a_party_answers_lets_it_overwrite_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = two(tmp_path)
    index = next(iter(run.spec.tables.local(P)))

    def lies(phase: str, party: str, reply: Any) -> Any:
        if (phase, party) != (SHARE, A):
            return reply
        theirs = run.answered[SHARE, P].tables[str(index)]
        return replace(reply, tables={**reply.tables, str(index): theirs * 0 + 7})

    with pytest.raises(ProtocolError, match="own tables of 'advertiser'"):
        run.measured(hears=lies)

    def everything(spec: RunSpec, shared: Any) -> Any:
        return {int(i): table for reply in shared.values() for i, table in reply.tables.items()}

    monkeypatch.setattr(server, "_local", everything)
    run = two(tmp_path)
    measured = run.measured(hears=lies)
    assert (measured.measurements[index].values == 7).all()


@pytest.mark.remains("lies")
def test_a_party_may_answer_what_it_likes_of_its_own_table(tmp_path: Path) -> None:
    run = two(tmp_path)
    index = next(iter(run.spec.tables.local(A)))

    def lies(phase: str, party: str, reply: Any) -> Any:
        if (phase, party) != (SHARE, A):
            return reply
        return replace(reply, tables={i: table * 0 + 7 for i, table in reply.tables.items()})

    assert (run.measured(hears=lies).measurements[index].values == 7).all()
