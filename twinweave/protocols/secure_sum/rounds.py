"""What the sums by shares and by encryption have in common: one vector, one answer a round.

The bookkeeping of rounds is `masking`'s too. The other two have no threshold as it has: whoever
opens a sum answers one set of survivors a round, so a server that tells parties different sets
opens nothing, or one sum. It must only contain enough parties: two that do not collude, so that
it is not one party's part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import NoReturn

from twinweave.errors import ProtocolError, RunError
from twinweave.parsing import canonical_json
from twinweave.protocols.secure_sum.interface import Progress, RevealRequest
from twinweave.protocols.secure_sum.plan import SumPlan


def least_in_sum(plan: SumPlan) -> int:
    """Parties that a sum must contain: two more than collude, or all of them.

    A party that relies on the others' noise must add sigma**2 over this less `plan.colluding`.
    """
    return min(len(plan.parties), plan.colluding + 2)


def begin(plan: SumPlan, progress: Progress, round_: int, terms: str) -> Progress:
    """Take note that a vector is protected in this round. Raises ProtocolError for a second:
    two vectors under one mask would show their difference."""
    check_round(plan, round_)
    number = str(round_)
    if number in progress.rounds:
        raise ProtocolError(
            f"secure sum: round {round_} was protected before. Send the stored reply, or protect "
            "the same values under the next round's number."
        )
    return replace(
        progress, rounds={**progress.rounds, number: ""}, terms={**progress.terms, number: terms}
    )


def answer(progress: Progress, request: RevealRequest) -> Progress:
    """Take note of the request that is answered, once it has been checked.

    Raises ProtocolError: nothing was uploaded in the round; another set of survivors was
    answered in it.
    """
    given = progress.rounds.get(str(request.round))
    if given is None:
        raise ProtocolError(
            f"secure sum: nothing was protected in round {request.round} yet. Refused."
        )
    asked = hashlib.sha256(canonical_json(request.alive).encode()).hexdigest()
    if given not in ("", asked):
        raise ProtocolError(
            f"secure sum: other survivors than before in round {request.round}. Both answers "
            "together would show one party's part; refused."
        )
    return replace(progress, rounds={**progress.rounds, str(request.round): asked})


def check_round(plan: SumPlan, round_: int) -> None:
    if type(round_) is not int or not 0 <= round_ < plan.rounds:
        raise ProtocolError("secure sum: a round outside the plan. Plan more rounds.")


def check_placed(
    plan: SumPlan, alive: Mapping[str, bool], own: str, needed: tuple[str, ...]
) -> None:
    """Raise ProtocolError unless every party is placed once, and `own` and `needed` are in."""
    if set(alive) != set(plan.parties) or any(type(value) is not bool for value in alive.values()):
        raise ProtocolError(
            "secure sum: the request does not say of each party once whether it is in the sum."
        )
    if not alive[own] or not all(alive[party] for party in needed):
        raise ProtocolError(
            "secure sum: asked to open a sum without a party that must be in it. Refused."
        )


def check_alive(
    plan: SumPlan, alive: Mapping[str, bool], own: str, needed: tuple[str, ...]
) -> None:
    """Raise ProtocolError unless `own` may help to open the sum over these parties."""
    check_placed(plan, alive, own, needed)
    if sum(alive.values()) < least_in_sum(plan):
        raise ProtocolError(
            f"secure sum: too few parties in the sum ({sum(alive.values())} of "
            f"{least_in_sum(plan)} needed). Refused; repeat the round."
        )


class Attendance:
    """The server's list of one round: who uploaded, and whether it is closed."""

    def __init__(self, plan: SumPlan, round_: int) -> None:
        check_round(plan, round_)
        self._plan = plan
        self._round = round_
        self.came: set[str] = set()
        self._closed = False

    def check(self, party: str) -> None:
        """Raise ProtocolError for an upload that is unknown, repeated or late."""
        if party not in self._plan.parties or party in self.came or self._closed:
            raise ProtocolError(
                f"secure sum: an upload of {party!r} in round {self._round} that is unknown, "
                "repeated or late. Ignored."
            )

    def close(self, *, least: int | None = None, needed: tuple[str, ...] = ()) -> dict[str, bool]:
        """Who is in the sum. Raises RunError: too few, or without a party that is `needed`.

        least: parties that a sum must contain; `least_in_sum` where it is not given.
        """
        self._closed = True
        if len(self.came) < (least_in_sum(self._plan) if least is None else least):
            self.too_few("uploaded")
        self.require(needed, self.came, "uploaded")
        return {party: party in self.came for party in self._plan.parties}

    def check_closed(self) -> None:
        if not self._closed:
            raise ProtocolError("secure sum: the round is not closed. Ask for requests first.")

    def require(self, needed: tuple[str, ...], present: set[str], what: str) -> None:
        """Raise RunError unless every needed party is present; ProtocolError while it is open."""
        self.check_closed()
        if missing := [party for party in needed if party not in present]:
            raise RunError(
                f"secure sum: {', '.join(missing)} has not {what} in round {self._round}, and the "
                f"sum cannot be opened without. {_REPEAT}"
            )

    def too_few(self, what: str) -> NoReturn:
        raise RunError(
            f"secure sum: too few parties {what} in round {self._round} to open its sum. {_REPEAT}"
        )


_REPEAT = "Repeat it: the same values under the next round's number."
