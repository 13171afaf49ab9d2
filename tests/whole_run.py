"""Whole runs in one process for tests: a small campaign, its transcript, its parties' secrets."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict

from clients.app import app
from clients.handling import site_of
from clients.journal import Journal, folder_of
from clients.site import load_site
from scripts.engines.inprocess import InProcessGrid
from server.app import main
from server.generator import first_weights
from server.outputs import write_measured
from server.simulation import sites_of, write_sites
from strategies import records
from strategies.measuring import Findings
from strategies.weave import Stages, conduct
from tests.messages import REPLIES, REQUESTS, OpenReply
from twinweave.checkpoint import Checkpoint
from twinweave.config import RunConf
from twinweave.planning import plan as plan_run
from twinweave.privacy import accountant
from twinweave.protocols.party import Finished, Party
from twinweave.protocols.products import opening
from twinweave.protocols.products import party as products
from twinweave.protocols.products.state import Pass, Shared
from twinweave.protocols.training.party import Trained
from twinweave.spec import RunSpec
from twinweave.workload.plan import PlannedQuery

NODES = {"publisher": 1, "advertiser": 2}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A run and what an observer of the server saw: every message, in order."""

    conf: RunConf
    spec: RunSpec
    findings: Findings
    grid: InProcessGrid
    messages: list[Message]
    states: dict[str, Any]

    def party(self, name: str) -> Pass:
        """The party as it last stood before its part in the run was over, secrets included."""
        site = load_site(site_of(self.grid._contexts[NODES[name]]))
        state = self.states[str(folder_of(site, self.spec.run))]
        shared = state.shared if isinstance(state, Trained) else state
        assert isinstance(shared, Shared)
        return Pass(Party(site, shared.aligned.introduced), shared)

    def request(self, phase: str, party: str) -> Any:
        """The request of a phase as it reached a party."""
        return records.unpack(REQUESTS[phase], self.asked(phase, party).content)

    def reply(self, phase: str, party: str) -> Any:
        for message in self.messages:
            meta = message.metadata
            if meta.message_type == phase and meta.src_node_id == NODES[party]:
                return records.unpack(REPLIES[phase], message.content)
        raise LookupError(phase)

    def shares(self, party: str) -> dict[str, np.ndarray[Any, Any]]:
        """Of the cross tables, as the party opened them, in whichever hops."""
        found: dict[str, np.ndarray[Any, Any]] = {}
        for message in self.messages:
            meta = message.metadata
            if meta.message_type == "query.open" and meta.src_node_id == NODES[party]:
                found |= records.unpack(OpenReply, message.content).shares
        return found

    def asked(self, phase: str, party: str) -> Message:
        for message in self.messages:
            meta = message.metadata
            if meta.message_type == phase and meta.dst_node_id == NODES[party]:
                return message
        raise LookupError(phase)


def spec_of(conf: RunConf) -> RunSpec:
    """The specification of a run of this configuration."""
    return plan_run(conf, secrets.token_hex(16))


def run_of(conf: RunConf, plan: tuple[PlannedQuery, ...]) -> Ran:
    """A run of other tables than its own, with any noise: whatever they cost is granted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accountant, "epsilon", lambda events, delta: 0.0)
        return run(conf, spec=replace(spec_of(conf), plan=plan))


def run(
    conf: RunConf,
    *,
    spec: RunSpec | None = None,
    grid: InProcessGrid | None = None,
    messages: list[Message] | None = None,
    kept: Checkpoint | None = None,
) -> Ran:
    """Run to the end, or raise the run's own AppError; `messages` is filled in both cases.

    kept: of a run that may be, or is, cut short; its files are written too.
    """
    messages = [] if messages is None else messages
    findings: list[Findings] = []
    spec = spec or (None if kept else spec_of(conf))
    grid = grid or InProcessGrid(app, len(conf.data.parties))
    grid._tap = messages.append
    with remembered() as states:
        conduct(
            grid,
            conf,
            Stages(
                begin=lambda measured: first_weights(conf, measured),
                finish=findings.append,
                measured=lambda found: write_measured(conf, found) if kept else None,
            ),
            sites=sites_of(conf),
            spec=spec,
            kept=kept,
        )
    return Ran(
        conf=conf,
        spec=findings[0].spec,
        findings=findings[0],
        grid=grid,
        messages=messages,
        states=states,
    )


@contextmanager
def remembered() -> Iterator[dict[str, Any]]:
    """The parties' last states, by folder: at the end of a run they delete their own."""
    states: dict[str, Any] = {}
    real = Journal.write

    def write(self: Journal, phase: str, request: Any, reply: Any, state: Any) -> None:
        if not isinstance(state, Finished):
            states[str(self.folder)] = state
        real(self, phase, request, reply, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "write", write)
        yield states


def serve(data: dict[str, Any]) -> Path:
    """The server's main function as Flower calls it, every party in this process."""
    context = Context(
        run_id=1,
        node_id=0,
        node_config={},
        state=RecordDict(),
        run_config={"config": json.dumps(data)},
    )
    main(InProcessGrid(app, len(data["data"]["parties"])), context)
    return Path(data["output"])


@dataclass
class Deployment:
    """Parties with site files of their own, to be changed before the run.

    kept: of a run that is cut short, to go on with.
    """

    data: dict[str, Any]
    folder: Path
    messages: list[Message] = field(default_factory=list)
    sites: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: Checkpoint | None = None

    def __post_init__(self) -> None:
        conf = RunConf.parse(self.data)
        sites = write_sites(conf, self.folder / "sites", simulated=False)
        for path in sorted(sites.glob("*.yaml")):
            site = json.loads(path.read_text())
            self.sites[site["party"]] = site

    def start(self, grid_class: type[InProcessGrid] = InProcessGrid, **options: Any) -> Ran:
        conf = RunConf.parse(self.data | {"federation": {"mode": "deployment"}})
        configs = []
        for name, site in self.sites.items():
            path = self.folder / f"{name}.site.yaml"
            path.write_text(json.dumps(site))
            configs.append({"site": str(path)})
        grid = grid_class(app, len(configs), node_configs=configs, **options)
        return run(conf, grid=grid, messages=self.messages, kept=self.kept)


def silence(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From now on this party adds no Gaussian noise of its own to the tables it opens."""
    real, noise = opening.open_shares, opening._noise

    def opens(*given: Any, **terms: Any) -> Any:
        with monkeypatch.context() as quiet:
            if terms["own"] == name:
                quiet.setattr(opening, "_noise", lambda *drawn: 0 * noise(*drawn))
            return real(*given, **terms)

    monkeypatch.setattr(products, "open_shares", opens)


def readable(messages: list[Message]) -> Iterator[tuple[str, bytes]]:
    """(field, bytes) of everything in the messages, as the server can read it."""
    for message in messages:
        meta = message.metadata
        sender = "server" if meta.src_node_id == 0 else f"node {meta.src_node_id}"
        where = f"{meta.message_type} from {sender}"
        if message.has_error():
            yield f"{where} error", str(message.error.reason).encode()
            continue
        for name, record in message.content.items():
            for key, value in record.items():
                yield f"{where} {name}.{key}", _as_bytes(value, isinstance(record, ArrayRecord))


def _as_bytes(value: Any, is_array: bool) -> bytes:
    if is_array:
        assert isinstance(value, Array)
        return np.ascontiguousarray(value.numpy()).tobytes()
    if isinstance(value, bytes):
        return value
    return str(value).encode()


def guard_rows(sites: Mapping[str, Mapping[str, Any]]) -> dict[str, list[tuple[Any, ...]]]:
    """party -> (run, phase) of every spend that its guard has on record."""
    import sqlite3

    found: dict[str, list[tuple[Any, ...]]] = {}
    for name, site in sites.items():
        path = Path(site["guard"]["path"] or Path(site["work"]) / "guard.sqlite")
        found[name] = []
        if path.exists():
            with sqlite3.connect(path) as db:
                sql = "SELECT run, phase FROM spend WHERE party = ?"
                found[name] = db.execute(sql, (name,)).fetchall()
    return found
