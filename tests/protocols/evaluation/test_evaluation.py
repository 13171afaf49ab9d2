"""The evaluation at a party: who is set aside, what leaves, what it costs, what is refused."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.campaigns import GENERATORS
from tests.protocols.parties import Parties
from tests.source import modules, tree
from twinweave.analysis.audit.party import audit
from twinweave.analysis.audit.report import audit_report
from twinweave.config import RunConf, compose
from twinweave.errors import AppError, BudgetError, ChannelError, ConfigError, ProtocolError
from twinweave.generators.union import Rows
from twinweave.protocols.alignment.messages import BlindRequest
from twinweave.protocols.alignment.party import blind
from twinweave.protocols.evaluation import party as steps
from twinweave.protocols.evaluation import server
from twinweave.protocols.evaluation.interface import Audited, Evidence
from twinweave.protocols.evaluation.messages import EvaluateReply, EvaluateRequest
from twinweave.protocols.evaluation.party import audit_path, evaluating, evidence
from twinweave.protocols.party import Finished, Introduced, Party, Released
from twinweave.report.page.own import own_page
from twinweave.spec import RunSpec
from twinweave.tables.contingency import ABSENT
from twinweave.tables.holdout import is_aside
from twinweave.workload.audit import COUNTED, HIT_CELLS

P = "publisher"
USERS = 2000


def configured(folder: Path, *overrides: str) -> RunConf:
    """The campaign with all its columns: few people are alike in all of them."""
    data = compose(
        [
            f"output={folder / 'out'}",
            f"data.parties.0.source.campaign.users={USERS}",
            "privacy=default",
            "privacy.epsilon=4",
            "privacy.delta=1e-5",
            "privacy.guard.mode=off",
            "privacy.shares.evaluation=0.2",
            *overrides,
        ]
    )
    return RunConf.parse(data | {"generator": GENERATORS["tvae"]})


def released(parties: Parties) -> dict[str, Released]:
    """Every party as it waits for the synthetic tables."""
    return {
        name: Released(introduced=Introduced(joined=joined, hellos=parties.hellos))
        for name, joined in parties.states.items()
    }


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    folder = tmp_path_factory.mktemp("evaluation")
    found = Parties.of(configured(folder), folder)
    found.setup()
    return found


def party_of(parties: Parties, name: str = P) -> Party:
    return Party(parties.sites[name], released(parties)[name].introduced)


def union_of(parties: Parties, codes: NDArray[np.int32], name: str = P) -> Rows:
    """Synthetic people at one party alone, with these codes."""
    schema = parties.spec.schema
    union = np.full((len(codes), len(schema.names)), ABSENT, dtype=np.int32)
    for at, column in enumerate(schema.schema(name).names):
        union[:, schema.names.index(column)] = codes[:, at]
    presence = np.zeros((len(codes), len(schema.parties)), dtype=bool)
    presence[:, schema.parties.index(name)] = True
    return Rows(codes=union, presence=presence)


def request_of(parties: Parties, rows: Rows) -> EvaluateRequest:
    asked: EvaluateRequest = server.asked(parties.spec, rows, 0, [P]).requests[P]
    return asked


def random_rows(parties: Parties, n: int = 500, seed: int = 2) -> Rows:
    columns = parties.spec.schema.schema(P).data_columns
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, c.size, n) for c in columns], axis=1)
    return union_of(parties, codes.astype(np.int32))


# --- who is set aside ----------------------------------------------------------------------


def test_the_same_users_are_set_aside_at_both_parties_and_signed_sizes_are_of_the_others(
    parties: Parties,
) -> None:
    held = {}
    for name in parties.sites:
        party = party_of(parties, name)
        key = parties.sites[name].holdout_key
        assert key
        assert not is_aside(party.table.ids, bytes.fromhex(key), 0.1).any()
        assert is_aside(party.aside.ids, bytes.fromhex(key), 0.1).all()
        assert party.rows[name] == len(party.table) > 8 * len(party.aside) > 0
        held[name] = party
    one, other = held.values()
    assert not set(one.table.ids) & set(other.aside.ids)
    assert set(one.aside.ids) & set(other.aside.ids)


def test_nothing_but_the_evaluation_takes_the_rows_set_aside() -> None:
    found = {
        module
        for module, path in modules("twinweave.protocols")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr == "aside"
    }
    assert found == {"twinweave.protocols.party", "twinweave.protocols.evaluation.party"}


def test_a_party_without_the_key_takes_part_in_no_audit(tmp_path: Path) -> None:
    found = Parties.of(configured(tmp_path), tmp_path)
    found.sites[P] = replace(found.sites[P], holdout_key=None)
    with pytest.raises(ConfigError, match="holdout_key"):
        found.setup()


def test_parties_with_different_keys_stop_before_anything_is_released(tmp_path: Path) -> None:
    found = Parties.of(configured(tmp_path), tmp_path)
    found.sites[P] = replace(found.sites[P], holdout_key="ab" * 32)
    hellos = found.setup().hellos
    request = BlindRequest(run=found.spec.run, hellos=hellos, training="")
    with pytest.raises(ChannelError, match="holdout_key"):
        blind(request, found.states[P], found.sites[P])


@pytest.mark.attack("audit-word")
def test_a_partys_exact_word_is_told_only_where_it_allows_that(tmp_path: Path) -> None:
    found = Parties.of(configured(tmp_path, "audit.gate=parties"), tmp_path)
    found.setup()
    found.sites[P] = replace(found.sites[P], verdicts=False)
    with pytest.raises(ProtocolError, match="exact word"):
        found.setup()


@pytest.mark.broken("audit-word")
def test_where_it_allows_that_the_word_is_told(tmp_path: Path) -> None:
    found = Parties.of(configured(tmp_path, "audit.gate=parties"), tmp_path)
    found.setup()
    assert evaluate(found, union_of(found, party_of(found).table.codes)).verdict == "withheld"


def test_counts_that_cost_more_than_the_run_are_refused_at_setup(parties: Parties) -> None:
    plan = parties.spec.audit
    assert plan is not None
    dear = replace(parties.spec, audit=replace(plan, noise_multiplier=0.5))
    other = Parties(spec=dear, sites=parties.sites)
    with pytest.raises(BudgetError):
        other.setup()


# --- what leaves ---------------------------------------------------------------------------


def evaluate(parties: Parties, rows: Rows, found: Any = audit) -> EvaluateReply:
    reply, state = evaluating(found)(
        request_of(parties, rows), released(parties)[P], parties.sites[P]
    )
    assert isinstance(state, Finished)
    return reply


def test_the_report_stays_and_counts_with_the_charged_noise_leave(tmp_path: Path) -> None:
    parties = Parties.of(configured(tmp_path), tmp_path)
    parties.setup()
    reply = evaluate(parties, random_rows(parties))
    assert set(reply.hits) == set(COUNTED)
    assert reply.verdict == ""
    server.check(parties.spec, {P: reply})
    site = parties.sites[P]
    path = audit_path(site, parties.spec.run)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent == Path(site.work)
    deployed = audit_path(replace(site, simulated=False), "../run 7")
    assert deployed == Path(site.work) / "audit-run7.json"  # one a run, and nowhere else
    report = json.loads(path.read_text())
    assert {"attacks", "utility", "gate", "rows"} <= set(report)
    spent = party_of(parties).guard.history()
    assert spent == parties.spec.evaluation(P)
    # A second answer would be a second draw under one charge.
    with pytest.raises(ProtocolError, match="charged before"):
        evaluate(parties, random_rows(parties))


@pytest.mark.curious("audit-counts")
def test_noise_on_the_counts_has_the_scale_of_its_charge(parties: Parties, tmp_path: Path) -> None:
    """32 cells: their mean square is within (.35, 2.2) times the variance but for chance 1e-4."""
    assert 0.35 < noise_ratio(parties, tmp_path) < 2.2


@pytest.mark.broken("audit-counts", "audit-rows")
def test_counts_without_noise_are_seen(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "release_table", lambda counts, event, receipt: counts)
    assert not 0.35 < noise_ratio(parties, tmp_path) < 2.2


def noise_ratio(parties: Parties, folder: Path) -> float:
    """Mean square of what was added to a count, over the variance that was charged."""
    plan = parties.spec.audit
    assert plan is not None
    assert plan.noise_multiplier is not None
    drawn: list[float] = []
    exact = np.array([50, 60, 70, 80], dtype=np.int64)
    given = Audited(report={}, withheld=False, hits=dict.fromkeys(COUNTED, exact))
    while len(drawn) < 32:
        run = f"r{len(drawn)}"
        site = replace(parties.sites[P], work=str(folder / run))
        spec = replace(parties.spec, run=run)
        joined = replace(parties.states[P], run=run, spec=spec.dumps())
        state = Released(introduced=Introduced(joined=joined, hellos={}))
        request = replace(request_of(parties, random_rows(parties)), run=run)
        reply, _ = evaluating(lambda _: given)(request, state, site)
        drawn += [float(x) for table in reply.hits.values() for x in table - exact]
    return float(np.mean(np.square(drawn[:32]))) / plan.noise_multiplier**2


def test_without_a_share_nothing_leaves_but_that_it_is_done(tmp_path: Path) -> None:
    conf = configured(tmp_path, "privacy.shares.evaluation=0")
    parties = Parties.of(conf, tmp_path)
    parties.setup()
    reply = evaluate(parties, random_rows(parties))
    assert (reply.hits, reply.verdict) == ({}, "")
    assert parties.spec.evaluation() == ()
    plan = parties.spec.audit
    assert plan is not None
    found = audit_report(plan, "counts", parties.spec.parties, {P: reply})
    assert found.gate.state == "open"
    assert any("stays with the parties" in text for text in found.gate.unseen)
    assert found.silent == ("advertiser",)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: {"codes": r.codes[:, 1:]},
        lambda r: {"codes": r.codes + 100},
        lambda r: {"codes": r.codes - 5},
        lambda r: {"codes": r.codes.astype(np.float64)},
        lambda r: {"codes": r.codes[:0], "presence": r.presence[:0]},
        lambda r: {"presence": r.presence.astype(np.int8)},
        lambda r: {"presence": r.presence[:-1]},
        lambda r: {"seed": -1},
    ],
)
def test_rows_that_are_none_of_the_runs_are_refused(parties: Parties, change: Any) -> None:
    request = request_of(parties, random_rows(parties))
    with pytest.raises(ProtocolError, match="do not fit the schema"):
        evaluate_request(parties, replace(request, **change(request)))
    assert party_of(parties).guard.history() == ()


def evaluate_request(parties: Parties, request: EvaluateRequest) -> None:
    evaluating(audit)(request, released(parties)[P], parties.sites[P])


def test_a_row_without_its_cells_is_refused(parties: Parties) -> None:
    rows = random_rows(parties)
    lacking = replace(rows, codes=np.full_like(rows.codes, ABSENT))
    with pytest.raises(ProtocolError, match="lack cells"):
        evaluate_request(parties, request_of(parties, lacking))
    assert party_of(parties).guard.history() == ()


@pytest.mark.parametrize("rows", [1, 500])
def test_an_audit_that_breaks_down_tells_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """An error would be a bit of the party's rows, chosen by who sends the synthetic ones. Counts
    leave as from any audit; the party's word, where it is asked for, is against the tables."""

    def breaks(*_: Any) -> Any:
        raise ValueError("row 17 has age 43")

    monkeypatch.setattr("twinweave.analysis.audit.party.measured", breaks)
    found = Parties.of(configured(tmp_path, "audit.gate=parties"), tmp_path)
    found.setup()
    reply = evaluate(found, random_rows(found, rows))
    assert set(reply.hits) == set(COUNTED)
    assert reply.verdict == "withheld"
    report = audit_path(found.sites[P], found.spec.run).read_text()
    assert "ValueError" in report
    assert "age 43" not in report  # that is for the party's own log
    assert "could not be finished" in own_page(found.sites[P])


def test_answers_that_were_not_asked_for_are_refused(parties: Parties) -> None:
    good = np.zeros(HIT_CELLS, dtype=np.int64)
    server.check(parties.spec, {P: EvaluateReply(hits=dict.fromkeys(COUNTED, good), verdict="")})
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, ""),
        (dict.fromkeys(COUNTED, good[:2]), ""),
        (dict.fromkeys(COUNTED, good.astype(np.float64)), ""),
        (dict.fromkeys(COUNTED, good), "pass"),
    ]
    for hits, verdict in wrong:
        with pytest.raises(ProtocolError):
            server.check(parties.spec, {P: EvaluateReply(hits=hits, verdict=verdict)})


# --- sensitivity and power -----------------------------------------------------------------


def without(found: Evidence, group: str, row: int) -> Evidence:
    fewer: dict[str, Any] = {group: np.delete(getattr(found, group), row, axis=0)}
    return replace(found, **fewer)


@pytest.mark.attack("audit-rows")
@pytest.mark.parametrize("name", COUNTED)
def test_one_user_changes_one_cell_of_a_count_by_one(parties: Parties, name: str) -> None:
    """Brute force: every tenth of 150 rows of either group left out. So the event is the charge."""
    plan = parties.spec.audit
    party = party_of(parties)
    assert plan is not None
    rows = union_of(parties, party.table.codes[:60])
    found = evidence(request_of(parties, rows), party, plan)
    found = replace(found, used=found.used[:150], aside=found.aside[:150])
    whole = audit(found).hits[name]
    assert whole.sum() == len(found.used) + len(found.aside)
    for group in ("used", "aside"):
        for row in range(0, len(getattr(found, group)), 10):
            apart = whole - audit(without(found, group, row)).hits[name]
            assert sorted(apart.tolist()) == [0] * (HIT_CELLS - 1) + [1]


def audited(parties: Parties, rows: Rows) -> Audited:
    plan = parties.spec.audit
    assert plan is not None
    return audit(evidence(request_of(parties, rows), party_of(parties), plan))


def test_a_generator_that_copies_is_withheld_and_one_that_knows_other_people_is_not(
    parties: Parties,
) -> None:
    """Half of the rows used, copied: a leak. Rows of other people of the same campaign: none."""
    codes = party_of(parties).table.codes
    leak = audited(parties, union_of(parties, codes[::2]))
    assert leak.withheld
    assert leak.report["gate"]["reasons"]
    plan = parties.spec.audit
    assert plan is not None
    noisy = {name: table + 3 for name, table in leak.hits.items()}
    reply = EvaluateReply(hits=noisy, verdict="")
    assert audit_report(exact(parties).audit, "counts", [P], {P: reply}).gate.withheld  # type: ignore[arg-type]
    fresh = np.random.default_rng(3).permutation(party_of(parties).aside.codes)
    assert not audited(parties, union_of(parties, fresh)).withheld


def exact(parties: Parties) -> RunSpec:
    """The specification with so little noise that counts say what they are."""
    plan = parties.spec.audit
    assert plan is not None
    return replace(parties.spec, audit=replace(plan, noise_multiplier=2.0))


@pytest.mark.parametrize("part", [0.1 + 1e-12, 0.12, 0.55, -0.05])
def test_a_server_asks_for_the_sizes_of_few_parts_alone(parties: Parties, part: float) -> None:
    """Each setup tells an exact size: with any part to choose, a server would halve its way to the
    keyed hash of every user."""
    plan = parties.spec.audit
    assert plan is not None
    with pytest.raises(ConfigError, match=r"multiple of 0\.05"):
        replace(plan, holdout=part)
    asked = parties.spec.dumps().replace('"holdout":0.1,', f'"holdout":{part!r},')
    assert asked != parties.spec.dumps()
    with pytest.raises(AppError, match=r"multiple of 0\.05"):
        RunSpec.loads(asked)


@pytest.mark.parametrize("percent", range(0, 51, 5))
def test_every_multiple_may_be_set_aside(parties: Parties, percent: int) -> None:
    plan = parties.spec.audit
    assert plan is not None
    assert replace(plan, holdout=percent / 100).holdout == percent / 100
