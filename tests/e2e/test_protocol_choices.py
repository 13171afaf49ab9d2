"""Every choice of protocol in a whole run: right tables, a right sum, and nothing readable."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from clients.app import app
from scripts.engines.inprocess import _over_the_wire
from strategies import measuring, records
from tests import messages as m
from tests.campaigns import TRAINING, configure, csv_mapping, mapping, vertical
from tests.e2e.clear import Clear, assert_exact, assert_noise, deviations
from tests.e2e.leaks import SHARP, leaks, readable_shares
from tests.e2e.needles import parts_of, search
from tests.e2e.plans import Plan, silent, table
from tests.statistics import p_variance, plausible
from tests.whole_run import (
    NODES,
    Deployment,
    Ran,
    guard_rows,
    readable,
    run,
    run_of,
    silence,
    spec_of,
)
from twinweave import planning
from twinweave.config import RunConf
from twinweave.errors import ConfigError, ProtocolError
from twinweave.generators.registry import coverage
from twinweave.generators.union import UnionLayout
from twinweave.privacy.noise import DealtCoins, OwnGaussian
from twinweave.protocols import wire
from twinweave.protocols.channel import keys as channel
from twinweave.protocols.products import bfv, kinds, party
from twinweave.protocols.products.opening import open_shares
from twinweave.protocols.secure_sum import homomorphic, secret_sharing
from twinweave.protocols.secure_sum.kinds import KINDS
from twinweave.protocols.secure_sum.masking import MaskingParty
from twinweave.protocols.training.plan import row_weights
from twinweave.tables.column import VALUE_UNITS
from twinweave.workload.queries import Query, Side

P, A = "publisher", "advertiser"
HOMOMORPHIC = "protocol.cross_tables=homomorphic"
tenseal = pytest.mark.skipif(
    find_spec("tenseal") is None, reason="TenSEAL is missing: pip install 'twinweave[homomorphic]'"
)


# --- cross tables without a dealer ---------------------------------------------------------


COUNTS = OwnGaussian(noise_multiplier=3.0)
SUMS = OwnGaussian(noise_multiplier=0.05, sensitivity=VALUE_UNITS)


def many_cells() -> Any:
    """Hundreds of cells of local, cross and weighted tables; here the publisher is narrower."""
    left = Side(party=P, columns=("age", "device"))
    right = Side(party=A, columns=("region", "loyalty", "channel"))
    spend = [Side(party=A, weight="spend", clip=clip) for clip in (None, 60.0)]
    return (
        table(left, right, noise=COUNTS),
        table(Side(party=P, columns=("age", "device", "region", "arm")), noise=COUNTS),
        *(table(left, side, noise=SUMS) for side in spend),
    )


def encrypted(folder: Path, plan: Plan | None = None, *, users: int = 300) -> Ran:
    conf = configure(folder, HOMOMORPHIC, f"data.parties.0.source.campaign.users={users}")
    return run(conf) if plan is None else run_of(conf, plan)


Finished = tuple[Ran, Deployment, list[dict[str, list[tuple[Any, ...]]]]]


@pytest.mark.curious("server")
@tenseal
def test_the_default_workload(tmp_path: Path, clear: Clear) -> None:
    """Priority tables across the parties, all local ones, Gaussian noise of both, no leak."""
    ran = encrypted(tmp_path)
    kinds = assert_noise(ran, clear)
    assert {"cross gaussian", "local gaussian"} <= set(kinds)
    assert "coins" not in kinds
    planned = [p.query for p in ran.spec.plan]
    assert all(q.priority for q in planned if q.is_cross)
    other = spec_of(configure(tmp_path)).plan
    wanted = [p.query for p in other if p.query.priority or not p.query.is_cross]
    assert planned == wanted
    assert len(other) > len(planned)
    assert leaks(ran, clear) == set()


@tenseal
@pytest.mark.parametrize("offering", [P, A])
def test_without_noise_every_table_is_exact(tmp_path: Path, clear: Clear, offering: str) -> None:
    """Whichever party encrypts: the one with the narrower matrix."""
    plan = many_cells() if offering == P else spec_of(configure(tmp_path, HOMOMORPHIC)).plan
    ran = encrypted(tmp_path, silent(plan))
    assert_exact(ran, clear)
    assert list(ran.reply("query.share", offering).sealed) == [A if offering == P else P]
    asked = [x for x in ran.messages if x.metadata.message_type == "query.open"]
    second = asked[4:]  # after a request to each party and its reply
    assert {x.metadata.dst_node_id or x.metadata.src_node_id for x in second} == {0, 1, 2} - {
        0,
        *(NODES[p] for p in (P, A) if p != offering),
    }


@tenseal
def test_three_parties_offer_and_answer_at_once(tmp_path: Path) -> None:
    """Every pair has a product; one party offers to both others, one answers both."""
    conf = vertical(tmp_path, HOMOMORPHIC)
    publisher = Side(party=P, columns=("age", "arm"))
    panel, advertiser = Side(party="panel", columns=("device",)), Side(party=A, columns=("loyal",))
    pairs = (publisher, panel), (panel, advertiser), (advertiser, publisher)
    plan = tuple(table(*sides, noise=COUNTS) for sides in pairs)
    ran = run_of(conf, silent(plan))
    assert_exact(ran, Clear(conf))
    asked = [x for x in ran.messages if x.metadata.message_type == "query.open"]
    assert [x.metadata.dst_node_id for x in asked if not x.metadata.src_node_id] == [1, 2, 3, 2, 3]


@tenseal
def test_its_noise_has_the_published_variance(tmp_path: Path, clear: Clear) -> None:
    ran = encrypted(tmp_path, many_cells())
    assert assert_noise(ran, clear)["cross gaussian"].size > 500
    assert all(plausible(p_value, SHARP) for _, p_value in readable_shares(ran))


@tenseal
@pytest.mark.parametrize("lazy", [P, A])
def test_noise_of_one_party_only_is_caught(
    tmp_path: Path, clear: Clear, monkeypatch: pytest.MonkeyPatch, lazy: str
) -> None:
    silence(monkeypatch, lazy)
    kinds = deviations(encrypted(tmp_path, many_cells()), clear)
    assert not plausible(p_variance(kinds["cross gaussian"]))
    assert plausible(p_variance(kinds["local gaussian"]))


@pytest.mark.broken("server")
@tenseal
def test_an_offer_in_the_clear_is_caught(
    tmp_path: Path, clear: Clear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealing off: the checker sees that what passes is not sealed."""
    monkeypatch.setattr(channel, "seal", lambda plaintext, **_: bytes(plaintext))
    monkeypatch.setattr(channel, "open_sealed", lambda sealed, **_: bytes(sealed))
    assert "a message that is not sealed" in leaks(encrypted(tmp_path), clear)


@pytest.mark.broken("server")
@tenseal
def test_a_share_without_masks_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = open_shares

    def bare(*given: Any, **terms: Any) -> Any:
        return {i: 0 * share for i, share in real(*given, **terms).items()}

    monkeypatch.setattr(party, "open_shares", bare)
    found = dict(readable_shares(encrypted(tmp_path)))
    assert not plausible(found["not uniform alone"], SHARP)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    if find_spec("tenseal") is None:
        pytest.skip("TenSEAL is missing: pip install 'twinweave[homomorphic]'")
    folder = tmp_path_factory.mktemp("finished")
    drawn: list[dict[str, list[tuple[Any, ...]]]] = []
    deployment = Deployment(csv_mapping(folder, HOMOMORPHIC), folder)
    real = open_shares

    def opens(*given: Any, **terms: Any) -> Any:
        drawn.append(guard_rows(deployment.sites))
        return real(*given, **terms)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(party, "open_shares", opens)
        ran = deployment.start()
    return ran, deployment, drawn


def test_each_party_is_charged_before_it_draws(finished: Finished) -> None:
    """The advertiser, whose matrix is narrower, offers: it opens in the second hop."""
    _, deployment, drawn = finished
    before_first, before_second = (
        {party: [row[1] for row in rows] for party, rows in at.items()} for at in drawn
    )
    assert "query.open" in before_first[P]
    assert "query.open, hop 2" not in before_first[A]
    assert "query.open, hop 2" in before_second[A]
    assert guard_rows(deployment.sites) == drawn[1]


def test_repeats_get_the_same_bytes_and_cost_nothing(finished: Finished) -> None:
    """Offers and answers are randomised: only stored ones can be the same."""
    ran, deployment, _ = finished
    before = guard_rows(deployment.sites)
    repeated = 0
    replies = {x.metadata.reply_to_message_id: x for x in ran.messages if x.metadata.src_node_id}
    for asked in ran.messages:
        meta = asked.metadata
        if meta.src_node_id or meta.message_type not in ("query.share", "query.open"):
            continue
        node = meta.dst_node_id
        again = app(_over_the_wire(asked), ran.grid._contexts[node])
        kind = m.ShareReply if meta.message_type == "query.share" else m.OpenReply
        first = replies[meta.message_id]
        assert wire.to_bytes(records.unpack(kind, again.content)) == wire.to_bytes(
            records.unpack(kind, first.content)
        )
        repeated += 1
    assert repeated == 5
    assert guard_rows(deployment.sites) == before


@pytest.mark.attack("again")
def test_another_offer_under_the_same_name_is_refused(finished: Finished) -> None:
    ran, deployment, _ = finished
    before = guard_rows(deployment.sites)
    request = ran.request("query.open", P)
    other = replace(request, sealed={A: request.sealed[A][::-1]})
    with pytest.raises(ProtocolError, match="another request came"):
        records.unpack(m.OpenReply, send(ran, P, other).content)
    assert guard_rows(deployment.sites)[A] == before[A]


def send(ran: Ran, party: str, request: Any) -> Message:
    from flwr.app import Message

    content = records.pack(request)
    message = Message(
        content, dst_node_id=NODES[party], message_type="query.open", group_id="query.open"
    )
    message.metadata.__dict__["_message_id"] = "repeat"
    return app(_over_the_wire(message), ran.grid._contexts[NODES[party]])


# --- refusals ------------------------------------------------------------------------------


@tenseal
@pytest.mark.parametrize("server_looks", [True, False])
def test_tables_too_large_are_refused_before_a_table_is_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server_looks: bool
) -> None:
    """The server knows since setup; a party finds out by itself."""
    data = csv_mapping(tmp_path, HOMOMORPHIC, users=60)
    deployment = Deployment(data, tmp_path)
    monkeypatch.setattr(bfv, "MAX_SECONDS", 1e-3)
    if not server_looks:
        monkeypatch.setattr(measuring, "check_sizes", lambda spec, n_slots: None)
        monkeypatch.setattr(kinds, "check_sizes", lambda spec, n_slots: None)
    with pytest.raises(ConfigError, match="too large for homomorphic") as caught:
        deployment.start()
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(
        "Use protocol.cross_tables=secret_sharing, or ask for fewer or coarser tables."
    )
    assert text.startswith("party " if not server_looks else "configuration 'protocol.cross")
    paid = [] if server_looks else ["query.match"]  # the count of users in common
    assert all([r[1] for r in rows] == paid for rows in guard_rows(deployment.sites).values())
    last = deployment.messages[-1].metadata.message_type
    assert last == ("query.setup" if server_looks else "query.share")


def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    monkeypatch.setitem(sys.modules, "tenseal.sealapi", None)


def test_a_server_without_tenseal_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing(monkeypatch)
    with pytest.raises(ConfigError, match=r'pip install "twinweave\[homomorphic\]"\.$') as caught:
        run(configure(tmp_path, HOMOMORPHIC))
    assert "\n" not in str(caught.value)


@tenseal
def test_a_party_without_tenseal_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = configure(tmp_path, HOMOMORPHIC)
    spec = spec_of(conf)
    missing(monkeypatch)
    seen: list[Message] = []
    with pytest.raises(ConfigError, match=r"^party 'publisher': .*twinweave\[homomorphic\]"):
        run(conf, spec=spec, messages=seen)
    assert {x.metadata.message_type for x in seen} == {"query.setup"}


@tenseal
def test_without_priority_tables_across_it_is_refused() -> None:
    cross = Query(sides=(Side(party=P, columns=("age",)), Side(party=A, columns=("channel",))))
    local = Query(sides=(Side(party=P, columns=("age",)),))
    with pytest.raises(ConfigError, match="secret_sharing"):
        kinds.measurable("homomorphic", (cross, local))
    assert kinds.measurable("homomorphic", (local,)) == (local,)
    assert kinds.measurable("secret_sharing", (cross, local)) == (cross, local)


def test_selection_by_few_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"selection\.when"):
        planning.plan(configure(tmp_path, HOMOMORPHIC, "selection.when=always"), "r")


def test_coins_without_a_dealer_are_refused(tmp_path: Path) -> None:
    spec = spec_of(configure(tmp_path))
    assert any(isinstance(p.noise, DealtCoins) for p in spec.plan)
    with pytest.raises(ProtocolError, match="coins need a dealer"):
        replace(spec, cross_tables="homomorphic")


# --- secure sums ---------------------------------------------------------------------------

ENDS: dict[str, Any] = {
    "masking": MaskingParty,
    "secret_sharing": secret_sharing.SharingParty,
    "homomorphic": homomorphic.HomomorphicParty,
}


@pytest.mark.curious("server-updates", "party-sum")
@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=tenseal) if k == "homomorphic" else k for k in KINDS]
)
def test_training_moves_by_the_mean_update_and_shows_none(
    tmp_path: Path, clear: Clear, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    updates = {}
    end, real = ENDS[kind], ENDS[kind].protect

    def protect(self: Any, values: Any, round_: int, terms: str) -> Any:
        updates[self.own, round_] = values.copy()
        return real(self, values, round_, terms)

    monkeypatch.setattr(end, "protect", protect)
    once = "workload.adaptive=never"  # one pass of tables, as the search for leaks knows it
    data = mapping(tmp_path, f"protocol.secure_sum={kind}", "privacy.epsilon=8", once)
    data["generator"] = TRAINING
    data["privacy"]["shares"] |= {"measurement": 0.7, "training": 0.3}
    ran = run(RunConf.parse(data))
    assert len(updates) == 4

    weights: list[Any] = [
        records.unpack(m.TrainRequest, x.content).weights
        for x in ran.messages
        if x.metadata.message_type == "train.generator" and x.metadata.dst_node_id == NODES[P]
    ] + [ran.findings.weights]
    layout, shares = UnionLayout.of(ran.spec.schema), row_weights(ran.findings.rows)
    training = ran.spec.training
    assert training
    covered = coverage(training.generator, layout)
    parts_covered = [shares[p] * covered[p] for p in ran.spec.parties]
    divisor = np.sum(parts_covered, axis=0)
    for round_ in range(2):
        moved = (weights[round_ + 1] - weights[round_]) * np.where(divisor > 0, divisor, 1)
        total = updates[P, round_] + updates[A, round_]
        assert np.abs(total).max() > 1e-3
        np.testing.assert_allclose(moved, total, atol=1e-6)  # fixed point and float32

    parts = [part for u in updates.values() for part in parts_of(u, "<f4", "<f8")]
    assert parts
    text = [data for _, data in readable(ran.messages)]
    assert search(text, {"update": parts}) == set()
    if kind != "masking":  # whose whole transcript has a test of its own
        assert leaks(ran, clear) == set()
