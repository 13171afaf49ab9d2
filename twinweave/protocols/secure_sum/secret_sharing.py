"""Secure sum by additive secret sharing to aggregators that are parties themselves.

The first m parties of the plan aggregate: m = max(2, colluding + 1), so one of them at least
does not collude. In round r party u writes its encoded vector as a sum of m shares modulo 2**32
or 2**64 (Ito, Saito, Nishizeki 1987; as in Prio, Corrigan-Gibbs and Boneh, NSDI 2017): m - 1 are
key streams, 32-byte seeds on the wire, one is what is left. Each share is sealed for its
aggregator and relayed by the server. Once the server has fixed who is in the sum, each
aggregator returns the sum of the shares it holds; the server adds those.

| who | learns |
|---|---|
| server | who took part, the vectors' length, the sum; the aggregators' sums are uniform else |
| an aggregator | uniform shares; less than all aggregators together learn nothing |
| all aggregators together | every vector: more parties than the plan says collude |
| another party | nothing |
| outsider | nothing |

With two parties both aggregate: each holds the one share of the other's vector that the other
did not keep, uniform alone. As in every sum of two, the sum minus one's own part is the other's.

A server that tells aggregators different survivors gets sums of shares that do not add up (the
vector's last word counts the parties: refused). A party that drops out before its upload is not
in the sum; without an aggregator, before or after it, the round cannot be opened.

Cost: a party sends one vector and m - 1 seeds; an aggregator receives, unseals and expands
those of all, and sends one vector more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.channel.keys import open_sealed, seal
from twinweave.protocols.keystream import KEY_BYTES, hkdf
from twinweave.protocols.ring import Ring, dtype_of
from twinweave.protocols.secure_sum import rounds
from twinweave.protocols.secure_sum.interface import Revealed, RevealRequest, SumParty, Upload
from twinweave.protocols.secure_sum.masks import apply_masks
from twinweave.protocols.secure_sum.plan import SumPlan

PHASE = "secure_sum.share"


def aggregators(plan: SumPlan) -> tuple[str, ...]:
    """The parties that add up shares: the first ones of the plan, two or more."""
    return plan.parties[: max(2, plan.colluding + 1)]


def vector_goes_to(plan: SumPlan, party: str) -> str:
    """Which aggregator gets this party's full-length share: never the party itself."""
    chosen = aggregators(plan)
    return chosen[(plan.parties.index(party) + 1) % len(chosen)]


@dataclass(frozen=True, kw_only=True, eq=False)
class SharingParty(SumParty):
    """A party's end. Its peers are the aggregators; an aggregator's are all others."""

    @staticmethod
    def peers(plan: SumPlan, own: str) -> tuple[str, ...]:
        chosen = aggregators(plan)
        return tuple(p for p in (plan.parties if own in chosen else chosen) if p != own)

    @property
    def needs_no_request(self) -> bool:
        return self.own not in aggregators(self.plan)

    def deal(self) -> dict[str, bytes]:
        """Nothing."""
        return {}

    def accept(self, sealed: Mapping[str, bytes]) -> SharingParty:
        """Nothing to accept. Raises ProtocolError where something was dealt."""
        if sealed:
            raise ProtocolError("secure sum: shares need no set-up. Use the same protocol.")
        return self

    def protect(
        self, values: NDArray[np.floating[Any]], round_: int, terms: str = ""
    ) -> tuple[SharingParty, Upload]:
        """Encode and share: `sealed`, one for each other aggregator."""
        plan = self.plan
        progress = rounds.begin(plan, self.progress, round_, terms)
        words = np.empty(len(values) + 1, dtype_of(plan.encoding.bits))
        plan.encoding.encode(values, out=words[:-1])
        words[-1] = 1
        full = vector_goes_to(plan, self.own)
        seeds = {a: self._seed(a, round_) for a in aggregators(plan) if a != full}
        apply_masks(words, plus=(), minus=seeds.values())
        shares: dict[str, bytes | memoryview] = {a: s for a, s in seeds.items() if a != self.own}
        shares[full] = words.astype(words.dtype.newbyteorder("<"), copy=False).data
        label = _label(plan, round_, terms)
        sealed = {
            a: seal(share, keys=self.keys[a], phase=PHASE, label=label)
            for a, share in shares.items()
        }
        return replace(self, progress=progress), Upload(sealed=sealed)

    def reveal(self, request: RevealRequest) -> tuple[SharingParty, Revealed]:
        """An aggregator's sum of shares: `words`, uint32 or uint64 (d + 1,), uniform alone.

        Raises ProtocolError: not an aggregator; another set of survivors than before; shares
        that lack or are of other lengths; too few parties.
        ChannelError: a share that is not of this sender, run and round.
        """
        if self.own not in aggregators(self.plan):
            raise ProtocolError(f"secure sum: {self.own!r} aggregates nothing. Refused.")
        rounds.check_round(self.plan, request.round)
        rounds.check_alive(self.plan, request.alive, self.own, aggregators(self.plan))
        progress = rounds.answer(self.progress, request)
        senders = [p for p, alive in request.alive.items() if alive and p != self.own]
        if set(request.sealed) != set(senders):
            raise ProtocolError(
                "secure sum: the shares are not those of the parties in the sum. Refused."
            )
        seeds, total = self._collect(request, senders)
        apply_masks(total, plus=seeds, minus=())
        return replace(self, progress=progress), Revealed(words=total)

    def _collect(self, request: RevealRequest, senders: Iterable[str]) -> tuple[list[bytes], Ring]:
        """Seeds of the shares that are streams, and the sum of those that are vectors."""
        plan, seeds, total = self.plan, [self._seed(self.own, request.round)], None
        label = _label(plan, request.round, self.progress.terms[str(request.round)])
        for sender in senders:
            share = open_sealed(
                request.sealed[sender], keys=self.keys[sender], phase=PHASE, label=label
            )
            if vector_goes_to(plan, sender) != self.own:
                if len(share) != KEY_BYTES:
                    raise ProtocolError(f"secure sum: the share of {sender!r} is cut. Refused.")
                seeds.append(share)
                continue
            if len(share) % (plan.encoding.bits // 8):
                raise ProtocolError(f"secure sum: the share of {sender!r} is cut. Refused.")
            vector = np.frombuffer(share, f"<u{plan.encoding.bits // 8}")
            if total is None:
                total = vector.astype(dtype_of(plan.encoding.bits))
            elif total.shape == vector.shape:
                total += vector
            else:
                raise ProtocolError(
                    f"secure sum: a share of {sender!r} of another length. Refused."
                )
        # The aggregator before this one in the ring sends it a vector, and is in every sum.
        assert total is not None
        return seeds, total

    def _seed(self, aggregator: str, round_: int) -> bytes:
        return hkdf(self.secret, "secure sum: share", self.plan.digest, str(round_), aggregator)


class SharingServer:
    """The server's end of one round: relays the shares, adds the aggregators' sums."""

    def __init__(self, plan: SumPlan, *, round_: int, length: int) -> None:
        """length: of the values, d. Memory: the sealed shares of the round."""
        self._plan = plan
        self._round = round_
        self._length = length
        self._sealed: dict[str, dict[str, bytes]] = {a: {} for a in aggregators(plan)}
        self._list = rounds.Attendance(plan, round_)

    def add(self, party: str, upload: Upload) -> None:
        """Keep one upload. Raises ProtocolError: unknown, second or late party, other shares."""
        self._list.check(party)
        if set(upload.sealed) != set(self._sealed) - {party}:
            raise ProtocolError(f"secure sum: {party!r} did not upload one share an aggregator.")
        for aggregator, share in upload.sealed.items():
            self._sealed[aggregator][party] = share
        self._list.came.add(party)

    def requests(self) -> dict[str, RevealRequest]:
        """Fix who is in the sum and ask every aggregator. Raises RunError without one of them."""
        alive = self._list.close(needed=aggregators(self._plan))
        return {
            aggregator: RevealRequest(round=self._round, alive=alive, sealed=sealed)
            for aggregator, sealed in self._sealed.items()
        }

    def finish(self, revealed: Mapping[str, Revealed]) -> NDArray[np.float64]:
        """Add the aggregators' sums and decode: float64 (d,). Raises RunError if one lacks."""
        self._list.require(aggregators(self._plan), set(revealed), "answered")
        encoding = self._plan.encoding
        total: Ring = np.zeros(self._length + 1, dtype_of(encoding.bits))
        for party, answer in revealed.items():
            good = party in self._sealed and answer.words.shape == total.shape
            if not good or answer.words.dtype != total.dtype:
                raise ProtocolError(
                    f"secure sum: the answer of {party!r} is not an aggregator's sum of this "
                    "length."
                )
            total += answer.words
        if int(total[-1]) != len(self._list.came):
            raise ProtocolError(
                f"secure sum: the shares of round {self._round} do not add up. The parties hold "
                "different plans, or answered different survivors; start a new run."
            )
        return encoding.decode(total[:-1])


def _label(plan: SumPlan, round_: int, terms: str) -> str:
    return f"{plan.digest}/{round_}/{terms}"
