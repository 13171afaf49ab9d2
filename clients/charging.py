"""Spend before release: the one place where a party's phases meet its guard."""

from __future__ import annotations

from collections.abc import Sequence

from clients.party import Party
from twinweave.errors import BudgetError, ProtocolError
from twinweave.privacy.events import Event
from twinweave.privacy.guard import Receipt


def foresee(party: Party) -> None:
    """Refuse a pass whose tables do not all fit, before any party released one of them.

    Raises BudgetError; spends nothing. The tables of the run so far, at all parties, fit in the
    run's epsilon; this party's own in what it has left. A pass that fits is still charged phase
    by phase.
    """
    within_budget(party, party.events)
    check(party, [p.event for p in party.now.plan if party.name in p.query.parties])


def within_budget(party: Party, events: Sequence[Event]) -> None:
    """Raise BudgetError unless the events compose to the run's own epsilon or less."""
    from twinweave.privacy import accountant

    spec = party.spec
    if accountant.epsilon(events, spec.delta) > spec.epsilon * (1 + 1e-6):
        raise BudgetError("the plan exceeds the run's own epsilon. Nothing was released for it.")


def check(party: Party, events: Sequence[Event]) -> None:
    """Raise BudgetError unless this party may still release all of the events."""
    party.guard.check(
        fingerprint=party.session.fingerprint,
        run=party.session.run,
        events=events,
        run_limit=party.limit,
    )


def charge(party: Party, phase: str, events: Sequence[Event]) -> Receipt:
    """Charge the guard for what is about to be released. Raises BudgetError, ProtocolError."""
    receipt = party.guard.spend(
        fingerprint=party.session.fingerprint,
        run=party.session.run,
        phase=phase,
        request_hash=party.spec.digest,
        events=events,
        run_limit=party.limit,
    )
    if not receipt.fresh:
        raise ProtocolError(f"{phase}: charged before, and answered once. Start a new run.")
    return receipt
