"""The gate: from findings to whether tables are handed out. A pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twinweave.analysis.audit.results import AttackFinding, Gate, LowerBound, Reason

CANARIES = "canaries"
_LESS = (
    "Lower privacy.epsilon, train less (generator.rounds), or choose another generator; then run "
    "again. audit.threshold says what an attack may reach."
)
_BUG = (
    "The noise is not what it is said to be: a mistake in the program. Hand nothing out, and "
    "report it with the figures."
)
_THEIRS = "Ask the party: its own audit.json says why."


def without_noise() -> Gate:
    """The word on rows of a generator that was trained without noise, whoever looked at them."""
    what = "the generator was trained without noise (privacy.unsafe): its rows have no guarantee"
    remedy = "No audit can say that they are safe. Run without privacy.unsafe for tables."
    return Gate(state="withheld", reasons=(Reason(source="unsafe", what=what, remedy=remedy),))


def decide(
    attacks: Mapping[str, Sequence[AttackFinding]],
    bounds: Sequence[LowerBound] = (),
    *,
    refused: Sequence[str] = (),
    unseen: Sequence[str] = (),
) -> Gate:
    """Withhold where an attack beats its threshold beyond its interval, a lower bound exceeds
    the epsilon claimed, or a party says so.

    attacks: by party. refused: parties that gave their exact word against it. unseen: what there
    was no looking at, in sentences; it withholds nothing.
    """
    reasons = [_attack(party, found) for party, own in attacks.items() for found in own]
    reasons += [_bound(found) for found in bounds]
    reasons += [
        Reason(source=p, what="refuses on its exact findings", remedy=_THEIRS) for p in refused
    ]
    given = tuple(reason for reason in reasons if reason is not None)
    return Gate(state="withheld" if given else "open", reasons=given, unseen=tuple(unseen))


def unfinished(error: str) -> Gate:
    """The word of a party whose audit came to no end. error: of what kind."""
    what = f"the audit could not be finished ({error}): nobody knows what an attack would reach"
    remedy = "The party's own log says where it stopped: please report it. audit=off goes without."
    return Gate(state="withheld", reasons=(Reason(source="audit", what=what, remedy=remedy),))


def _attack(party: str, found: AttackFinding) -> Reason | None:
    if not found.exceeds:
        return None
    low, high = found.interval
    what = (
        f"the attack `{found.name}` succeeds {found.advantage:+.1%} more often on rows that were "
        f"used ({low:+.1%} to {high:+.1%}), above {found.threshold:.1%}"
    )
    return Reason(source=party, what=what, remedy=_LESS)


def _bound(found: LowerBound) -> Reason | None:
    if not found.exceeds:
        return None
    what = (
        f"{found.path}: epsilon is {found.bound:.3g} or more (confidence {found.confidence:.4g}), "
        f"and {found.claimed:.3g} is claimed"
    )
    return Reason(source=CANARIES, what=what, remedy=_BUG)
