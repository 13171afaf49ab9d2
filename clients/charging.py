"""Spend before release: the one place where a party's phases meet its guard."""

from __future__ import annotations

from clients.party import Party
from twinweave.errors import ProtocolError
from twinweave.privacy.events import Event


def foresee(party: Party) -> None:
    """Refuse a run whose tables do not all fit in the guard, before any party has released one.

    Raises BudgetError; spends nothing. A run that passes is still charged phase by phase.
    """
    own = [p.event for p in party.spec.plan if party.name in p.query.parties]
    party.guard.check(fingerprint=party.session.fingerprint, events=own)


def charge(party: Party, phase: str, attempt: int, events: list[Event]) -> None:
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
