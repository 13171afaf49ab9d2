"""A Grid that deviates: it alters one thing of an otherwise honest run, and keeps what it saw."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict

from clients.app import app
from scripts.engines.inprocess import InProcessGrid
from strategies import records
from strategies.weave import Findings  # type: ignore[attr-defined]
from tests import messages as m
from tests.security.worlds import Sites, World
from twinweave.privacy.events import Event
from twinweave.privacy.ledger import event_from_record

REQUESTS = m.REQUESTS | {"train.generator": m.TrainRequest, "train.reveal": m.RevealSumRequest}
REPLIES = m.REPLIES | {"train.generator": m.Upload, "train.reveal": m.Revealed}

Row = tuple[str, str, tuple[Event, ...]]
"""(run, phase, events) of a spend in a party's book."""


@dataclass(frozen=True)
class Delivery:
    """One message to a party and its reply, as they were on the wire; what was charged for it."""

    party: str
    phase: str
    asked: RecordDict
    reply: Message
    charged: tuple[Row, ...]

    @property
    def error(self) -> tuple[str, str] | None:
        """(class, text) of the error that came back, or None."""
        if self.reply.has_error():
            return "Flower", str(self.reply.error.reason)
        if "error" not in self.reply.content:
            return None
        told = self.reply.content["error"]
        assert isinstance(told, ConfigRecord)
        return str(told["error"]), str(told["message"])

    @property
    def request(self) -> Any:
        return records.unpack(REQUESTS[self.phase], self.asked)

    @property
    def answer(self) -> Any:
        return records.unpack(REPLIES[self.phase], self.reply.content)


class Recording(InProcessGrid):
    """An honest engine that keeps every delivery, those of other runs on the same nodes too."""

    def __init__(self, sites: Sites, log: list[Delivery] | None = None) -> None:
        super().__init__(app, len(sites.of), node_configs=sites.node_configs)
        self.sites = sites
        self.names = tuple(sites.of)
        self.log: list[Delivery] = [] if log is None else log
        self.batches: list[list[Message]] = []
        self.findings: list[Findings] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        batch = list(messages)
        if not batch:  # as Flower's loop sends to nobody for an evaluation
            return []
        self.batches.append(batch)
        return self.delivered(batch)

    def delivered(self, batch: list[Message]) -> list[str]:
        """Names of the replies, one for each message."""
        return [self._deliver(message) for message in batch]

    def party(self, node: int) -> str:
        return self.names[node - 1]

    def _deliver(self, message: Message) -> str:
        party = self.party(message.metadata.dst_node_id)
        before = book(self.sites, party)
        name = super()._deliver(message)
        after = book(self.sites, party)
        assert after[: len(before)] == before
        asked = RecordDict(dict(message.content))
        kind = message.metadata.message_type
        self.log.append(
            Delivery(party, kind, asked, self._replies[name], tuple(after[len(before) :]))
        )
        return name

    def failed(self, name: str) -> bool:
        reply = self._replies[name]
        return reply.has_error() or "error" in reply.content


@dataclass(frozen=True)
class Place:
    """Where in a run something is altered: the nth batch of a phase, at a party."""

    phase: str
    nth: int
    party: str

    def __str__(self) -> str:
        return f"{self.phase}{f' ({self.nth + 1})' if self.nth else ''} to {self.party}"


Batch = Callable[["Deviating", list[Message]], Iterable[str]]
"""Delivers a batch in its own way; yields the name of a reply for each message."""


@dataclass(frozen=True)
class Alteration:
    """What a server does at one place. batch: in the place of delivering."""

    name: str
    place: Place
    batch: Batch = field(repr=False)


class Deviating(Recording):
    """Delivers honestly but for one alteration.

    older: the engine of an older run on the same nodes. applied: whether anything was altered.
    """

    def __init__(
        self,
        world: World,
        sites: Sites,
        alteration: Alteration,
        *,
        log: list[Delivery],
        older: Recording | None = None,
    ) -> None:
        super().__init__(sites, log)
        self.world, self.older = world, older
        self.applied = False
        self._alteration = alteration

    def delivered(self, batch: list[Message]) -> list[str]:
        place = self._alteration.place
        phase = batch[0].metadata.message_type
        nth = sum(b[0].metadata.message_type == phase for b in self.batches) - 1
        if (phase, nth) != (place.phase, place.nth):
            return self.honestly(batch)
        return list(self._alteration.batch(self, batch))

    def honestly(self, batch: list[Message]) -> list[str]:
        return super().delivered(batch)

    def earlier(self, phase: str | None = None) -> list[Message]:
        """The requests of the older run."""
        assert self.older is not None
        sent = [message for batch in self.older.batches for message in batch]
        return [m for m in sent if phase in (None, m.metadata.message_type)]


def like(message: Message, content: RecordDict, **meta: Any) -> Message:
    """A message with that content; node, phase: others than this one's."""
    kept = message.metadata
    return Message(
        content,
        dst_node_id=meta.get("node", kept.dst_node_id),
        message_type=meta.get("phase", kept.message_type),
        group_id=kept.group_id,
        ttl=kept.ttl,
    )


def instead(change: Callable[[Any], RecordDict | None], party: str) -> Batch:
    """The altered request to a party and then, whatever comes back, the honest one.

    So a server that goes on: with the answer to the honest one where there is one.
    """

    def batch(grid: Deviating, messages: list[Message]) -> Iterable[str]:
        for message in messages:
            content = None
            if grid.party(message.metadata.dst_node_id) == party:
                content = change(request_of(message))
            if content is None:
                yield grid._deliver(message)
                continue
            grid.applied = True
            altered = grid._deliver(like(message, content))
            after = grid._deliver(message)
            yield altered if grid.failed(after) else after

    return batch


def request_of(message: Message) -> Any:
    return records.unpack(REQUESTS[message.metadata.message_type], message.content)


def book(sites: Sites, party: str) -> list[Row]:
    """Every spend in a party's book, in order."""
    path = sites.of[party][1] / "guard.sqlite"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT run, phase, events FROM spend ORDER BY id").fetchall()
    return [(run, phase, _events(text)) for run, phase, text in found]


def _events(text: str) -> tuple[Event, ...]:
    return tuple(event_from_record(record) for record in json.loads(text))
