"""Messages that come twice, late, altered, or not at all; budgets over several runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from clients import journal
from clients.app import app
from scripts.engines.inprocess import InProcessGrid, _over_the_wire
from strategies import records
from tests import messages as m
from tests.campaigns import configure, csv_mapping
from tests.whole_run import NODES, Deployment, Ran, guard_rows, run, serve
from twinweave.config import RunConf
from twinweave.errors import AppError, BudgetError, ProtocolError, RunError
from twinweave.protocols import wire

CHARGED = ["query.match", "query.open", "query.share"]
# Of a measurement in one pass; tests/e2e/test_audit.py repeats the evaluation.
PHASES = tuple(p for p in m.REQUESTS if p not in ("query.agree", "evaluate.synthetic"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Deployment]:
    folder = tmp_path_factory.mktemp("finished")
    deployment = Deployment(csv_mapping(folder), folder)
    return deployment.start(), deployment


def send(ran: Ran, phase: str, party: str, request: Any) -> Message:
    """Straight to the ClientApp, as the engine would."""
    content = records.pack(request)
    message = Message(content, dst_node_id=NODES[party], message_type=phase, group_id=phase)
    message.metadata.__dict__["_message_id"] = "repeat"
    return app(_over_the_wire(message), ran.grid._contexts[NODES[party]])


def answer(ran: Ran, phase: str, party: str, request: Any) -> Any:
    return records.unpack(m.REPLIES[phase], send(ran, phase, party, request).content)


@pytest.mark.attack("again")
@pytest.mark.parametrize("party", NODES)
@pytest.mark.parametrize("phase", PHASES)
def test_a_repeat_gets_the_same_bytes_and_costs_nothing(
    finished: tuple[Ran, Deployment], phase: str, party: str
) -> None:
    ran, deployment = finished
    before = guard_rows(deployment.sites)
    again = answer(ran, phase, party, ran.request(phase, party))
    assert wire.to_bytes(again) == wire.to_bytes(ran.reply(phase, party))
    assert guard_rows(deployment.sites) == before
    assert sorted(row[1] for row in before[party]) == CHARGED


CHANGES = {
    "query.setup": lambda r: replace(r, sites="/elsewhere"),
    "query.blind": lambda r: replace(r, hellos={**r.hellos, "publisher": "{}"}),
    "query.match": lambda r: replace(r, sealed=dict.fromkeys(r.sealed, b"x")),
    "query.share": lambda r: replace(r, slots=r.slots[::-1].copy()),
    "query.open": lambda r: replace(r, sealed=dict.fromkeys(r.sealed, b"x")),
}


@pytest.mark.attack("again")
@pytest.mark.parametrize("phase", PHASES)
def test_another_request_under_the_same_name_is_refused(
    finished: tuple[Ran, Deployment], phase: str
) -> None:
    ran, deployment = finished
    before = guard_rows(deployment.sites)
    changed = CHANGES[phase](ran.request(phase, "publisher"))
    with pytest.raises(ProtocolError, match="party 'publisher': another request came"):
        answer(ran, phase, "publisher", changed)
    assert guard_rows(deployment.sites) == before


@pytest.mark.parametrize("phase", PHASES[1:])
def test_a_message_of_another_run_is_refused(finished: tuple[Ran, Deployment], phase: str) -> None:
    ran, deployment = finished
    before = guard_rows(deployment.sites)
    with pytest.raises(ProtocolError, match="has not been set up"):
        answer(ran, phase, "advertiser", replace(ran.request(phase, "advertiser"), run="0" * 32))
    assert guard_rows(deployment.sites) == before


def test_phases_out_of_order_are_refused(tmp_path: Path) -> None:
    """Each phase's request to a party that has not been set up."""
    conf = configure(tmp_path)
    ran = run(conf)
    fresh = InProcessGrid(app, 2)
    for phase in PHASES[1:]:
        request = ran.request(phase, "publisher")
        with pytest.raises(AppError, match="has not been set up"):
            answer(replace(ran, grid=fresh), phase, "publisher", request)


# --- on the way --------------------------------------------------------------------------


class Lossy(InProcessGrid):
    """Loses the first reply of one phase from every node: sent, computed, never arrived."""

    phase = ""
    always: int | None = None

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        sent = []
        for message in messages:
            (name,) = super().push_messages([message])
            meta = message.metadata
            first = (meta.message_type, meta.dst_node_id) not in self.lost
            if (meta.message_type == self.phase and first) or meta.dst_node_id == self.always:
                self.lost.add((meta.message_type, meta.dst_node_id))
                del self._replies[name]
            sent.append(name)
        return sent

    @property
    def lost(self) -> set[tuple[str, int]]:
        return self.__dict__.setdefault("_lost", set())


@pytest.mark.parametrize("phase", PHASES)
def test_lost_replies_are_asked_for_again(tmp_path: Path, phase: str) -> None:
    deployment = Deployment(csv_mapping(tmp_path, users=60), tmp_path)
    grid = deployment.start(type("LosesOne", (Lossy,), {"phase": phase})).grid
    assert isinstance(grid, Lossy)
    assert len(grid.lost) == 2
    for rows in guard_rows(deployment.sites).values():
        assert sorted(row[1] for row in rows) == CHARGED


@pytest.mark.parametrize(("silent", "name"), [(1, "publisher"), (2, "advertiser")])
def test_a_party_that_never_answers_is_named(tmp_path: Path, silent: int, name: str) -> None:
    deployment = Deployment(csv_mapping(tmp_path, users=60), tmp_path)
    with pytest.raises(RunError, match=f"query.setup: no answer from {name!r} within 600 s"):
        deployment.start(type("Silent", (Lossy,), {"always": silent}))
    assert guard_rows(deployment.sites) == {"publisher": [], "advertiser": []}


@pytest.mark.remains("stop")
def test_a_party_that_falls_silent_is_named(tmp_path: Path) -> None:
    class FallsSilent(Lossy):
        def push_messages(self, messages: Iterable[Message]) -> list[str]:
            messages = list(messages)
            if messages[0].metadata.message_type == "query.match":
                self.always = 2
            return super().push_messages(messages)

    deployment = Deployment(csv_mapping(tmp_path, users=60), tmp_path)
    with pytest.raises(RunError, match=r"query\.match: no answer from 'advertiser' within"):
        deployment.start(FallsSilent)
    for rows in guard_rows(deployment.sites).values():
        assert [row[1] for row in rows] == ["query.match"]  # the count of users in common alone


class Echo(InProcessGrid):
    """Delivers every earlier request once more before each phase, as a slow network might."""

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        messages = list(messages)
        for old in self.old:
            super().push_messages([old])
        names = list(super().push_messages(messages))
        self.old.extend(messages)
        return names

    @property
    def old(self) -> list[Message]:
        return self.__dict__.setdefault("_old", [])


@pytest.mark.attack("again", "rollback")
def test_late_repeats_do_not_take_a_party_back(tmp_path: Path) -> None:
    deployment = Deployment(csv_mapping(tmp_path, users=60), tmp_path)
    grid = deployment.start(Echo).grid
    assert isinstance(grid, Echo)
    assert len(grid.old) == 10
    for rows in guard_rows(deployment.sites).values():
        assert sorted(row[1] for row in rows) == CHARGED


# --- over several runs -------------------------------------------------------------------


def durable(tmp_path: Path, epsilon: float) -> list[str]:
    """Guards that outlive a run; every run's own files in a new folder."""
    guard = {
        "mode": "on",
        "path": str(tmp_path / "guard.sqlite"),
        "epsilon": epsilon,
        "delta": 1e-5,
    }
    return [f"privacy.guard={{{','.join(f'{k}:{v}' for k, v in guard.items())}}}"]


def test_budgets_add_up_over_runs_and_end(tmp_path: Path) -> None:
    """Of the publisher's users a run takes 3.28, two 4.88, three 6.19."""
    options = durable(tmp_path, 5.9)
    findings = [run(configure(tmp_path / str(i), *options)).findings for i in range(2)]
    assert not np.array_equal(
        findings[0].measurements[0].values, findings[1].measurements[0].values
    )
    rows = guard_rows({"publisher": {"guard": {"path": str(tmp_path / "guard.sqlite")}}})
    assert len(rows["publisher"]) == 2 * len(CHARGED)
    with pytest.raises(BudgetError, match="party 'publisher': privacy budget: epsilon"):
        run(configure(tmp_path / "2", *options))
    after = guard_rows({"publisher": {"guard": {"path": str(tmp_path / "guard.sqlite")}}})
    assert after == rows


def test_no_change_of_a_table_resets_its_book(tmp_path: Path) -> None:
    """A row more or less, ids in another case, a rule that drops rows: still the same name."""
    data = csv_mapping(tmp_path, *durable(tmp_path, 5.0), users=60)
    run(RunConf.parse(data))
    path = tmp_path / "publisher.csv"
    header, *lines = path.read_text().splitlines()
    changed = {
        "a row less": lines[:-1],
        "a row more": [*lines, lines[0].replace(lines[0].partition(",")[0], "newcomer")],
        "another case": [
            line.partition(",")[0].upper() + line[line.index(",") :] for line in lines
        ],
        "a row that is dropped": [line.replace("mobile", "") for line in lines],
    }
    rules = {"a row that is dropped": {"missing": "drop"}}
    book = guard_rows({"publisher": {"guard": {"path": str(tmp_path / "guard.sqlite")}}})
    for name, rows in changed.items():
        path.write_text("\n".join([header, *rows]) + "\n")
        again = json.loads(json.dumps(data))
        for column in again["data"]["parties"][0]["columns"]:
            column |= rules.get(name, {}) if column["name"] == "device" else {}
        with pytest.raises(BudgetError, match=r"dataset 'campaign'.*raise privacy\.guard\.ep"):
            run(RunConf.parse(again | {"output": str(tmp_path / name)}))
    assert guard_rows({"publisher": {"guard": {"path": str(tmp_path / "guard.sqlite")}}}) == book


@pytest.mark.parametrize("lasts", [True, False])
def test_a_report_says_whether_runs_add_up(tmp_path: Path, lasts: bool) -> None:
    """A guard whose file is in the run's own directory forgets with it."""
    data = csv_mapping(tmp_path, *(durable(tmp_path, 9.0) if lasts else []), users=60)
    report = json.loads((serve(data) / "report.json").read_text())
    state = "on" if lasts else "this run"
    assert report["privacy"]["guards"] == {"publisher": state, "advertiser": state}


def test_parties_with_the_same_users_may_share_a_guards_file(tmp_path: Path) -> None:
    """A simulation whose parties know the same ids keeps one book for each of them."""
    guard = str(tmp_path / "guard.sqlite")
    data = csv_mapping(tmp_path, "privacy.guard.path=" + guard, users=60)
    for party in data["data"]["parties"]:
        path = tmp_path / f"{party['name']}.csv"
        lines = path.read_text().splitlines()
        users = [f"u{i},{line.partition(',')[2]}" for i, line in enumerate(lines[1:41])]
        path.write_text("\n".join([lines[0], *users]) + "\n")
    deployment = Deployment(data, tmp_path)
    deployment.start()
    for rows in guard_rows(deployment.sites).values():
        assert sorted(row[1] for row in rows) == CHARGED


@pytest.mark.attack("secrets")
def test_a_new_run_forgets_the_secrets_of_runs_long_silent(tmp_path: Path) -> None:
    deployment = Deployment(csv_mapping(tmp_path, users=60), tmp_path)
    deployment.start()
    folders = {
        name: next((Path(site["work"]) / "runs").glob("*/*"))
        for name, site in deployment.sites.items()
    }
    long_ago = time.time() - journal.KEPT - 60
    for answer in folders["publisher"].glob("[0-9]*-*"):
        os.utime(answer, (long_ago, long_ago))
    deployment.start()
    assert not folders["publisher"].exists()
    assert folders["advertiser"].exists()


def test_a_table_that_changes_between_runs_is_read_again(tmp_path: Path) -> None:
    """Even in one process: a sweep must not go on with the old rows."""
    data = csv_mapping(tmp_path, users=60)
    deployment = Deployment(data, tmp_path)
    before = deployment.start().findings.rows["publisher"]
    path = tmp_path / "publisher.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-5]) + "\n")
    assert deployment.start().findings.rows["publisher"] == before - 5


def test_unknown_fields_are_refused(finished: tuple[Ran, Deployment]) -> None:
    """A message that says more than its class declares does not pass."""
    ran, _ = finished
    message = ran.asked("query.blind", "publisher")
    content = records.pack(ran.request("query.blind", "publisher"))
    scalars: Any = content["scalars"]
    scalars["extra"] = 1
    with pytest.raises(ProtocolError, match="unknown field"):
        records.unpack(m.BlindRequest, content)
    assert records.unpack(m.BlindRequest, message.content)
