"""Spend before release: the one place where a party's phases meet its guard."""

from __future__ import annotations

from collections.abc import Sequence

from clients.party import Party
from twinweave.errors import BudgetError, ProtocolError
from twinweave.privacy.events import Event
from twinweave.privacy.guard import Receipt


def foresee(party: Party) -> None:
    """Refuse a pass whose tables do not all fit in the guard, before any party released one.

    Raises BudgetError; spends nothing. A pass that fits is still charged phase by phase. A
    second pass must also stay within the run's epsilon together with the first.
    """
    if party.session.tables:
        within_budget(party, party.events)
    own = [p.event for p in party.now.plan if party.name in p.query.parties]
    party.guard.check(fingerprint=party.session.fingerprint, events=own)


def within_budget(party: Party, events: Sequence[Event]) -> None:
    """Raise BudgetError unless the events compose to the run's own epsilon or less."""
    from twinweave.privacy import accountant

    spec = party.spec
    if accountant.epsilon(events, spec.delta) > spec.epsilon * (1 + 1e-6):
        raise BudgetError("the plan exceeds the run's own epsilon. Nothing was released for it.")


def charge(party: Party, phase: str, attempt: int, events: list[Event]) -> Receipt:
    """Charge the guard for what is about to be released. Raises BudgetError, ProtocolError."""
    receipt = party.guard.spend(
        fingerprint=party.session.fingerprint,
        run=party.session.run,
        phase=phase,
        attempt=attempt,
        request_hash=party.spec.digest,
        events=events,
    )
    if not receipt.fresh:
        raise ProtocolError(
            f"{phase}, attempt {attempt}: charged before, and its answer is lost. "
            "Ask as a new attempt; it is charged again."
        )
    return receipt
