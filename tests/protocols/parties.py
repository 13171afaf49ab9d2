"""A run's measurement without Flower: parties' steps, and a server that may deviate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clients.site import load_site
from server.simulation import write_sites
from tests.messages import REPLIES, REQUESTS
from tests.whole_run import guard_rows, spec_of
from twinweave.config import RunConf
from twinweave.protocols import wire
from twinweave.protocols.alignment.party import blind, match
from twinweave.protocols.alignment.server import align
from twinweave.protocols.channel.messages import SetupRequest
from twinweave.protocols.channel.party import setup
from twinweave.protocols.channel.server import Roster, roster
from twinweave.protocols.products.party import agree, open_, share
from twinweave.protocols.products.server import Measured, measure
from twinweave.protocols.steps import Steps
from twinweave.site import Site
from twinweave.spec import RunSpec

STEPS: dict[str, Callable[..., tuple[Any, Any]]] = {
    "query.blind": blind,
    "query.match": match,
    "query.agree": agree,
    "query.share": share,
    "query.open": open_,
}
Alter = Callable[[str, str, Any], Any]
"""(phase, party, message) -> the message that arrives in its place."""


def faithful(phase: str, party: str, message: Any) -> Any:
    return message


@dataclass
class Parties:
    """Every party of a run in one process.

    By (phase, party), the last of each: before, the party's state; asked and answered.
    """

    spec: RunSpec
    sites: dict[str, Site]
    states: dict[str, Any] = field(default_factory=dict)
    hellos: dict[str, str] = field(default_factory=dict)
    before: dict[tuple[str, str], Any] = field(default_factory=dict)
    asked: dict[tuple[str, str], Any] = field(default_factory=dict)
    answered: dict[tuple[str, str], Any] = field(default_factory=dict)

    @classmethod
    def of(cls, conf: RunConf, folder: Path, spec: RunSpec | None = None) -> Parties:
        files = sorted(write_sites(conf, folder).glob("*.yaml"))
        sites = [load_site(path) for path in files]
        return cls(spec=spec or spec_of(conf), sites={site.party: site for site in sites})

    def setup(self) -> Roster:
        request = SetupRequest(run=self.spec.run, spec=self.spec.dumps(), sites="")
        replies = []
        for name, site in self.sites.items():
            reply, self.states[name] = setup(request, site)
            self.hellos[name] = reply.hello
            replies.append(reply)
        return roster(self.spec, replies)

    def tell(self, phase: str, party: str, request: Any) -> Any:
        """The party's answer; its state moves on. Messages go over the wire, as bytes."""
        arrived: Any = wire.from_bytes(REQUESTS[phase], wire.to_bytes(request))
        reply, state = STEPS[phase](arrived, self.states[party], self.sites[party])
        self.before[phase, party] = self.states[party]
        self.states[party] = wire.from_bytes(type(state), wire.to_bytes(state))
        self.asked[phase, party], self.answered[phase, party] = request, reply
        return wire.from_bytes(REPLIES[phase], wire.to_bytes(reply))

    def drive(self, steps: Steps[Any], asks: Alter = faithful, hears: Alter = faithful) -> Any:
        """A server's steps to their end. asks: alters requests on their way; hears: replies."""
        try:
            question = next(steps)
            while True:
                phase, replies = question.phase, {}
                for party, request in question.requests.items():
                    reply = self.tell(phase, party, asks(phase, party, request))
                    replies[party] = hears(phase, party, reply)
                question = steps.send(replies)
        except StopIteration as done:
            return done.value

    def measured(self, asks: Alter = faithful, hears: Alter = faithful) -> Measured:
        """A whole measurement of one pass."""
        members = self.setup()
        slots = self.drive(align(self.spec, members))
        return self.drive(measure(self.spec, members, slots), asks, hears)

    def charges(self) -> dict[str, set[str]]:
        """Phases that each party's guard was charged in."""
        plain = {name: vars(s) | {"guard": vars(s.guard)} for name, s in self.sites.items()}
        return {name: {phase for _, phase in rows} for name, rows in guard_rows(plain).items()}


def at(wanted: str, who: str, **changes: Any) -> Alter:
    """Alters fields of one phase's message to, or from, one party.

    changes: field -> what takes the old value to the new one.
    """

    def alter(phase: str, party: str, message: Any) -> Any:
        if (phase, party) != (wanted, who):
            return message
        return replace(message, **{k: change(getattr(message, k)) for k, change in changes.items()})

    return alter


def put(**entries: Any) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Of a dict, with these entries beside or instead of its own."""
    return lambda own: {**own, **entries}


def drop(key: str | None = None) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Of a dict, without one entry: the named, or the first."""
    return lambda own: {k: v for k, v in own.items() if k != (key or next(iter(own)))}
