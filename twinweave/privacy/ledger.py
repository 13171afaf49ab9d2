"""The list of privacy events of a run, and what they compose to.

A ledger stores events, never an epsilon: the accountant interprets them when asked, so a
restored ledger costs what its releases cost, not what a file says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from twinweave.errors import ProtocolError
from twinweave.parsing import Parsed, parse, to_plain
from twinweave.privacy import accountant
from twinweave.privacy.events import Event, Mechanism, Stage

SCHEMA_VERSION = 1

_KINDS: dict[str, type[Mechanism]] = {cls.__name__: cls for cls in get_args(Mechanism)}

_NOTE_STAGES = (
    "Each stage and each party is composed alone. Their epsilons do not add up to the epsilon in "
    "all: composition is less than the sum."
)
_NOTE_PARTIES = (
    "A party's epsilon bounds what a user known to that party alone loses; a user may sit in "
    "every party's table, and the epsilon in all bounds that."
)


@dataclass(frozen=True, kw_only=True)
class Ledger(Parsed):
    """Immutable list of releases; `charge` returns the longer one."""

    events: tuple[Event, ...] = ()

    def charge(self, *events: Event) -> Ledger:
        """The ledger after these releases. Charge before drawing noise, from the same event."""
        return Ledger(events=(*self.events, *events))

    def epsilon(self, delta: float) -> float:
        """Of everything composed; inf if a release had no guarantee."""
        return accountant.epsilon(self.events, delta)

    def torn(self, delta: float) -> float:
        """Against a server that tears matches apart; what it can do at most to the matching.

        A user whom two parties hold, and to whom it deals two slots, stands in a table across as
        two users, each at one party alone: it changes two cells by one each, and the table costs
        it twice (`protocols.products.matching`).
        """
        again = [e for e in self.events if e.mechanism.IS_TABLE and len(e.parties) > 1]
        return accountant.epsilon((*self.events, *again), delta)

    def by_stage(self, delta: float) -> dict[str, float]:
        """Epsilon of each stage that released something, composed alone (not additive)."""
        return {
            stage.value: accountant.epsilon([e for e in self.events if e.stage is stage], delta)
            for stage in Stage
            if any(e.stage is stage for e in self.events)
        }

    def by_party(self, delta: float) -> dict[str, float]:
        """Epsilon of the releases about each party's users, composed alone."""
        parties = sorted({p for e in self.events for p in e.parties})
        return {
            party: accountant.epsilon([e for e in self.events if party in e.parties], delta)
            for party in parties
        }

    def notes(self) -> tuple[str, ...]:
        """Sentences that must stand beside the figures."""
        own = dict.fromkeys(e.mechanism.NOTE for e in self.events if e.mechanism.NOTE)
        return (_NOTE_STAGES, _NOTE_PARTIES, *own)

    def to_record(self) -> dict[str, Any]:
        """JSON-ready; `restore` reads it back."""
        return {"version": SCHEMA_VERSION, "events": [event_to_record(e) for e in self.events]}

    @classmethod
    def restore(cls, record: Mapping[str, Any]) -> Ledger:
        """The ledger that `to_record` or `report` wrote.

        Raises ProtocolError for another schema version, ConfigError for malformed events.
        """
        if record.get("version") != SCHEMA_VERSION:
            raise ProtocolError(
                f"ledger: its schema version is not {SCHEMA_VERSION}. "
                "Read it with the release of Twinweave that wrote it."
            )
        events = record.get("events")
        if not isinstance(events, (list, tuple)):
            raise ProtocolError("ledger: 'events' is not a list. Give a file that a run wrote.")
        return cls(events=tuple(event_from_record(e) for e in events))

    def report(self, delta: float) -> dict[str, Any]:
        """Content of `ledger.json`: events, and epsilon in all, per party, per stage.

        An infinite epsilon is written as null, since JSON has no infinity.
        """
        return {
            **self.to_record(),
            "unit": "user; neighbours: one user added or removed at every party",
            "accountant": accountant.NAME,
            "delta": delta,
            "epsilon": finite(self.epsilon(delta)),
            "epsilon_if_matches_are_torn": finite(self.torn(delta)),
            "epsilon_by_party": {k: finite(v) for k, v in self.by_party(delta).items()},
            "epsilon_by_stage": {k: finite(v) for k, v in self.by_stage(delta).items()},
            "notes": list(self.notes()),
        }


def event_to_record(event: Event) -> dict[str, Any]:
    """JSON-ready event; its mechanism carries its `kind`."""
    plain: dict[str, Any] = to_plain(event)
    kind = type(event.mechanism).__name__
    return {**plain, "stage": event.stage.value, "mechanism": {"kind": kind, **plain["mechanism"]}}


def event_from_record(record: Any) -> Event:
    """The event that `event_to_record` wrote. Raises ProtocolError or ConfigError."""
    mechanism = record.get("mechanism") if isinstance(record, Mapping) else None
    kind = _KINDS.get(mechanism.get("kind", "")) if isinstance(mechanism, Mapping) else None
    if kind is None or not isinstance(mechanism, Mapping):
        raise ProtocolError("ledger: an event's mechanism is unknown. Give a file a run wrote.")
    fields = {k: v for k, v in mechanism.items() if k != "kind"}
    return parse(
        Event, {**record, "mechanism": parse(kind, fields, where="mechanism")}, where="event"
    )


def finite(epsilon: float) -> float | None:
    """None for infinity, which JSON does not have."""
    return epsilon if math.isfinite(epsilon) else None
