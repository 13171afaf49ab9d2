"""A run in one process that is killed at a chosen point, and goes on; and what must then hold.

The points are counted: before and after every file is written and renamed, every charge, every
message at the server and at a party. A process that is killed writes nothing more, whatever its
code would still do on its way out.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import itertools
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Error, Message, RecordDict

import twinweave
from clients import journal
from clients.app import app
from scripts.engines.inprocess import InProcessGrid, _over_the_wire
from server import outputs
from server.app import main
from strategies import records, weave
from tests.campaigns import TRAINING, mapping
from tests.messages import REPLIES, REQUESTS, Revealed, RevealSumRequest, TrainRequest, Upload
from twinweave import durable, rundir
from twinweave.checkpoint import FOLDER
from twinweave.config import RunConf
from twinweave.errors import DivergedError, RunError
from twinweave.generators.random_source import RandomSource
from twinweave.privacy import mechanisms
from twinweave.privacy.guard import Guard
from twinweave.protocols import wire
from twinweave.protocols.channel import party as channel

ASKED: dict[str, Any] = REQUESTS | {
    "train.generator": TrainRequest,
    "train.reveal": RevealSumRequest,
}
ANSWERED: dict[str, Any] = REPLIES | {"train.generator": Upload, "train.reveal": Revealed}


class Killed(BaseException):
    """kill -9."""


@dataclass
class Killer:
    """Counts the points that a run comes by, and kills at one of them. at: from 1; 0: at none.

    party: kills the party's process alone, where the point is at one; the server goes on.
    """

    at: int = 0
    party: bool = False
    count: int = 0
    dead: bool = False
    where: str = ""
    inside: bool = False

    def point(self, name: str) -> None:
        if self.dead:
            raise Killed
        self.count += 1
        if self.count == self.at:
            self.dead, self.where = True, name
            raise Killed


@dataclass
class World:
    """A run's configuration, and what left its parties, over all of its lives."""

    data: dict[str, Any]
    left: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    measured: bytes | None = None

    @property
    def out(self) -> Path:
        return Path(self.data["output"])

    def live(self, killer: Killer, *, full: int | None = None, **more: Any) -> bool:
        """Run, or go on, to the end or to the killer's point; whether it came to the end.

        full: the disk is, once it has taken so many files.
        """
        resume = str(self.out) if (self.out / rundir.CONFIGURATION).exists() else None
        config = json.dumps(self.data | {"resume": resume} | more)
        context = Context(1, 0, {}, state=RecordDict(), run_config={"config": config})
        grid = Watched(app, len(self.data["data"]["parties"]))
        grid.world, grid.killer = self, killer
        with patched(killer, full), suppress(Killed, RunError, DivergedError):
            main(grid, context)
            return True
        path = self.out / rundir.MEASUREMENTS
        if path.exists():
            now = path.read_bytes()
            assert self.measured in (None, now), "what was measured has changed"
            self.measured = now
        return False

    def books(self) -> dict[str, list[tuple[str, str]]]:
        """Of every party: what its guard was charged for, and when: (phase, events)."""
        found = {}
        for path in sorted((self.out / "parties").glob("*/guard.sqlite")):
            with sqlite3.connect(path) as db:
                rows = db.execute("SELECT phase, events FROM spend ORDER BY phase").fetchall()
            found[path.parent.name] = rows
        return found


class Watched(InProcessGrid):
    """Counts the points of a message's way, and keeps a hash of every answer that left a party."""

    world: World
    killer: Killer

    def _deliver(self, message: Message) -> str:
        name = f"{message.metadata.message_type} {len(self.world.left)}"
        message.metadata.__dict__["_message_id"] = name
        self.killer.point(f"{name}: before it is sent")
        arrived = _over_the_wire(message)
        try:
            self.killer.inside = True
            self.killer.point(f"{name}: before it is handled")
            reply = app(arrived, self._contexts[arrived.metadata.dst_node_id])
            self.killer.point(f"{name}: before the answer leaves")
        except Killed:
            if not self.killer.party:
                raise
            self.killer.dead = False  # the party's process starts anew with the next message
            reply = Message(Error(code=0, reason="lost"), reply_to=arrived)
        finally:
            self.killer.inside = False
        self.note(arrived, reply)
        self.killer.point(f"{name}: before the answer arrives")
        self._replies[name] = _over_the_wire(reply)
        return name

    def note(self, asked: Message, reply: Message) -> None:
        phase = asked.metadata.message_type
        if reply.has_error() or "error" in reply.content:
            return
        request = records.unpack_request(ASKED[phase], asked.content)
        party = str(asked.metadata.dst_node_id)
        answer = wire.to_bytes(records.unpack(ANSWERED[phase], reply.content))
        what = journal._name(phase, request)
        self.world.left.setdefault((party, what), set()).add(hashlib.sha256(answer).hexdigest())


@contextmanager
def patched(killer: Killer, full: int | None) -> Iterator[None]:
    """Every point that is not a message's."""
    synced = itertools.count(1)

    def fsync(_: int) -> None:  # nobody pulls the plug here
        if full is not None and next(synced) > full:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(durable, "write_new", _torn(killer, durable.write_new))
        patch.setattr(durable, "rename", _around(killer, "rename", durable.rename))
        patch.setattr(Guard, "spend", _around(killer, "charge", Guard.spend))
        patch.setattr(outputs, "_synthetic", _weights_alone)
        yield


def _around(killer: Killer, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def around(*given: Any, **named: Any) -> Any:
        killer.point(f"before {name}")
        done = real(*given, **named)
        killer.point(f"after {name}")
        return done

    return around


def _torn(killer: Killer, real: Callable[..., None]) -> Callable[..., None]:
    """Writing a file; between its two points half of it is there."""

    def write(path: Path, data: bytes, mode: int = durable.PRIVATE) -> None:
        killer.point(f"before {path.name}")
        real(path, data[: len(data) // 2], mode)
        killer.point(f"within {path.name}")
        real(path, data, mode)

    return write


def _weights_alone(conf: RunConf, findings: Any, lift: Any) -> tuple[None, None, dict[str, Path]]:
    """In the place of the synthesis, which no party takes part in and nothing is charged for."""
    rundir.write_array(Path(conf.output) / rundir.WEIGHTS, findings.weights)
    return None, None, {}


def configured(folder: Path, *overrides: str) -> dict[str, Any]:
    data = mapping(
        folder / "out",
        "data.parties.0.source.campaign.users=60",
        "workload.pairs=false",
        "workload.three_way=false",
        "protocol.alignment=prf",
        "privacy.guard.mode=on",
        "privacy.guard.epsilon=50",
        *overrides,
    )
    data["generator"] = TRAINING | {"width": 4, "latent": 2, "expected_batch": 300}
    return data


def world(data: dict[str, Any], out: Path) -> World:
    return World(data=copy.deepcopy(data) | {"output": str(out)})


@contextmanager
def without_chance() -> Iterator[None]:
    """Every draw is a function of what it is for, so that two runs can be compared."""

    def key(purpose: str) -> Callable[[int], bytes]:
        return lambda n: hashlib.shake_256(purpose.encode()).digest(n)

    def gaussian(cells: int, scale: float) -> Any:
        return np.random.default_rng(round(1e6 * scale)).integers(-9, 9, cells)

    real = RandomSource.__init__
    drawn = SimpleNamespace(urandom=key("party"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mechanisms, "_gaussian", gaussian)
        patch.setattr(mechanisms, "_coins", lambda cells, coins, _: gaussian(cells, coins))
        patch.setattr(RandomSource, "__init__", lambda self: real(self, b"k" * 32))
        patch.setattr(channel, "os", drawn)
        tokens = SimpleNamespace(token_bytes=key("server"), token_hex=lambda n: "ab" * n)
        patch.setattr(weave, "secrets", tokens)
        yield


def check(lived: World, whole: World) -> None:
    """What must hold of a run that was killed and went on, beside one that was not."""
    more = {what: n for what, hashes in lived.left.items() if (n := len(hashes)) > 1}
    assert not more, f"two releases for one charge: {more}"
    assert lived.left.keys() == whole.left.keys()
    assert lived.books() == whole.books()
    run, other = twinweave.load(lived.out), twinweave.load(whole.out)
    assert run.status == "finished"
    assert run.ledger == other.ledger
    assert run.report["privacy"] == other.report["privacy"]
    assert run.report["lift"]["conversions"]
    kept = lived.measured
    assert kept in (None, (lived.out / rundir.MEASUREMENTS).read_bytes())
    assert not (lived.out / FOLDER).exists()
    assert not list(lived.out.glob("parties/*/runs"))


def same(lived: World, whole: World) -> None:
    """Of two runs without chance: the same tables, and the same trained weights."""
    for name in (rundir.MEASUREMENTS, rundir.WEIGHTS):
        assert (lived.out / name).read_bytes() == (whole.out / name).read_bytes(), name
