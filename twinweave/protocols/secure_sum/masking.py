"""Secure sum by pairwise masks: a party's end and the server's.

Bonawitz et al. (CCS 2017, eprint 2017/281, section 4) on the graph of Bell et al. (eprint
2020/704). In round r party u sends, modulo 2**32 or 2**64,

    y_u = x_u + M(b_u,r) + sum of M(s_uv,r) over neighbours v after u - ... over those before u

where M is a key stream, b_u,r the self-mask's seed (HKDF of u's own secret) and s_uv,r the
pair's (HKDF of what u and v agreed on once in the run). In a sum the pair masks cancel. Once
the server has fixed who is in the sum, each of them reveals for each neighbour exactly one
secret: its Shamir share of b_v,r when v is in the sum, or s_uv,r when v is not.

Who learns what: the server who took part, the vectors' length, the sum; a party and an outsider
nothing; server and a party together, with two parties the other's vector, else the sum of the
others'. Who drops out before its upload is left out, afterwards in the sum while enough answer.

Differs from the paper:
- One key agreement a run. All that is ever revealed is an HKDF output for one round (b_u,r,
  s_uv,r), which tells nothing of another round's; the roots are never shared or revealed.
- s_uv,r of a dropped party v comes from u itself, who knows it, not from shares of v's key. So
  whoever helps to open v's pair masks has, by the same answer, withheld its share of b_v,r: a
  late message of v stays under its self-mask. The price: when u uploads and then vanishes,
  and a neighbour of u had dropped out before, the round cannot be opened. It is repeated: the
  same values, protected again under the next round's number, cost no further privacy.
- Shares of the self-masks of all rounds are dealt at once (32 bytes a round and neighbour).
- Vectors live in Z_{2^32} or Z_{2^64}; no prime field. The last word of a vector counts the
  parties, so that masks that do not cancel are noticed.
- No signatures on the set of survivors and no round of messages for them: instead the threshold
  t of shares, which is also the least number of neighbours that must be in the sum for a party
  to answer, satisfies 2t > k + (colluding neighbours). Then a server that tells parties
  different sets opens sums of `SumPlan.honest_in_any_sum` honest parties at the least. Proof: let
  it open the sum over a group C of honest parties, and let u in C have c' colluding and h honest
  neighbours in C. Each honest neighbour v outside C must have had s_uv,r revealed: by u, told
  that v is out, or by v, told that u is out, who thus withheld its share of b_u,r. But u, told
  of t living neighbours, kept back s_uv,r for t - c' - h of those outside or more. So at most
  k - t + c' + h shares of b_u,r are out, which is fewer than t unless h >= 2t - k - c'.
- Where a plan survives no dropout (`SumPlan.needs_everyone`, as with two parties) the only request
  that a party would answer is known beforehand: the answer travels with the upload, and the
  round takes a single message. No pair seed is then ever revealed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.channel.keys import open_sealed, pair_secret, seal
from twinweave.protocols.keystream import KEY_BYTES, Keystream, hkdf
from twinweave.protocols.ring import Ring, dtype_of
from twinweave.protocols.secure_sum import rounds, shamir
from twinweave.protocols.secure_sum.interface import Revealed, RevealRequest, SumParty, Upload
from twinweave.protocols.secure_sum.masks import apply_masks
from twinweave.protocols.secure_sum.plan import SumPlan

PHASE = "secure_sum.deal"


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskingParty(SumParty):
    """A party's end. Its peers are its neighbours."""

    @staticmethod
    def peers(plan: SumPlan, own: str) -> tuple[str, ...]:
        return plan.neighbours[own]

    @property
    def neighbours(self) -> tuple[str, ...]:
        return self.plan.neighbours[self.own]

    @property
    def needs_no_request(self) -> bool:
        return self.plan.needs_everyone

    def deal(self) -> dict[str, bytes]:
        """Shares of the self-mask seeds of all rounds, sealed, by neighbour."""
        plan = self.plan
        seeds = b"".join(self._self_seed(number) for number in range(plan.rounds))
        coefficients = hkdf(self.secret, "secure sum: share coefficients", plan.digest)
        shares = shamir.split(
            np.frombuffer(seeds, np.uint8),
            threshold=plan.shares_needed,
            n_holders=len(self.neighbours),
            stream=Keystream(coefficients),
        )
        return {
            peer: seal(share.tobytes(), keys=self.keys[peer], phase=PHASE, label=plan.digest)
            for peer, share in zip(self.neighbours, shares, strict=True)
        }

    def accept(self, sealed: Mapping[str, bytes]) -> MaskingParty:
        """Keep what each neighbour dealt. Raises ChannelError, or ProtocolError if one lacks."""
        plan = self.plan
        if missing := set(self.neighbours) - set(sealed):
            raise ProtocolError(
                f"secure sum: nothing dealt by {', '.join(sorted(missing))}. "
                "Set up again without the parties that do not answer."
            )
        shares = {
            peer: open_sealed(sealed[peer], keys=self.keys[peer], phase=PHASE, label=plan.digest)
            for peer in self.neighbours
        }
        for peer, share in shares.items():
            if len(share) != plan.rounds * KEY_BYTES:
                raise ProtocolError(f"secure sum: shares of {peer!r} are cut. Set up again.")
        return self._keeping(shares)

    def protect(
        self, values: NDArray[np.floating[Any]], round_: int, terms: str = ""
    ) -> tuple[MaskingParty, Upload]:
        """Encode and mask: `words`, uint32 or uint64 (d + 1,)."""
        self._check_round(round_)
        state = replace(self, progress=rounds.begin(self.plan, self.progress, round_, terms))
        words = np.empty(len(values) + 1, dtype_of(self.plan.encoding.bits))
        self.plan.encoding.encode(values, out=words[:-1])
        words[-1] = 1
        position = self.plan.parties.index
        pairs = {peer: state._pair_seed(peer, round_) for peer in self.neighbours}
        after = [s for peer, s in pairs.items() if position(peer) > position(self.own)]
        before = [s for peer, s in pairs.items() if position(peer) < position(self.own)]
        apply_masks(words, plus=[self._self_seed(round_), *after], minus=before)
        if not self.plan.needs_everyone:
            return state, Upload(words=words)
        everyone = RevealRequest(round=round_, alive=dict.fromkeys(self.plan.parties, True))
        state, revealed = state.reveal(everyone)
        return state, Upload(words=words, secrets=revealed.secrets)

    def reveal(self, request: RevealRequest) -> tuple[MaskingParty, Revealed]:
        """One secret for each neighbour: its self-mask's share, or, of a dropped one, the pair's.

        Raises ProtocolError for a request that does not place every party once, that leaves out
        this party, that comes before its upload, or that leaves too few parties in the sum.
        """
        self._check_round(request.round)
        check_alive(self.plan, request.alive, self.own)
        progress = rounds.answer(self.progress, request)
        secrets = {
            peer: self._share(peer, request.round)
            if request.alive[peer]
            else self._pair_seed(peer, request.round)
            for peer in self.neighbours
        }
        return replace(self, progress=progress), Revealed(secrets=secrets)

    def _check_round(self, round_: int) -> None:
        rounds.check_round(self.plan, round_)
        if not self.progress.shares:
            raise ProtocolError("secure sum: no shares yet. Accept what the peers dealt first.")

    def _self_seed(self, round_: int) -> bytes:
        return hkdf(self.secret, "secure sum: self mask", self.plan.digest, str(round_))

    def _pair_seed(self, peer: str, round_: int) -> bytes:
        root = pair_secret(self.keys[peer], "secure sum: pair mask")
        terms = self.progress.terms.get(str(round_), "")
        return hkdf(root, self.plan.digest, str(round_), terms)

    def _share(self, peer: str, round_: int) -> bytes:
        return self.progress.shares[peer][KEY_BYTES * round_ : KEY_BYTES * (round_ + 1)]


def check_alive(plan: SumPlan, alive: Mapping[str, bool], own: str) -> None:
    """Raise ProtocolError unless `own` may help to open the sum over these parties."""
    rounds.check_placed(plan, alive, own, ())
    near = _near(plan, alive, own)
    if sum(alive.values()) < plan.min_alive or near < plan.shares_needed:
        raise ProtocolError(
            f"secure sum: too few parties in the sum ({sum(alive.values())} of {plan.min_alive} "
            f"needed, {near} neighbours of {plan.shares_needed}). Refused; repeat the round."
        )


def _near(plan: SumPlan, alive: Mapping[str, bool], party: str) -> int:
    return sum(alive[peer] for peer in plan.neighbours[party])


class MaskingServer:
    """The server's end of one round: adds up masked vectors as they come, then opens the sum."""

    def __init__(self, plan: SumPlan, *, round_: int, length: int) -> None:
        """length: of the values, d. Memory: one vector of d + 1 words."""
        self._plan = plan
        self._round = round_
        self._list = rounds.Attendance(plan, round_)
        self._total: Ring = np.zeros(length + 1, dtype_of(plan.encoding.bits))
        self._early: dict[str, Revealed] = {}

    def add(self, party: str, upload: Upload) -> None:
        """Add one upload. Raises ProtocolError: unknown, second or late party, other shape."""
        self._list.check(party)
        words = upload.words
        if words.shape != self._total.shape or words.dtype != self._total.dtype:
            raise ProtocolError(f"secure sum: the upload of {party!r} has another shape or dtype.")
        self._total += words
        self._list.came.add(party)
        self._early[party] = Revealed(secrets=upload.secrets)

    def requests(self) -> dict[str, RevealRequest]:
        """Fix who is in the sum and ask them; nobody when the uploads brought the answers.

        Raises RunError when too few uploads came.
        """
        plan, came = self._plan, self._list.came
        alive = self._list.close(least=plan.min_alive)
        if any(_near(plan, alive, party) < plan.shares_needed for party in came):
            self._list.too_few("uploaded")
        if plan.needs_everyone:
            return {}
        return dict.fromkeys(sorted(came), RevealRequest(round=self._round, alive=alive))

    def finish(self, revealed: Mapping[str, Revealed]) -> NDArray[np.float64]:
        """Take the masks off and decode: float64 (d,). Parties in the sum may have vanished.

        Raises RunError when too few answered, ProtocolError for an answer that breaks a rule.
        """
        self._list.check_closed()
        answers = self._early if self._plan.needs_everyone else revealed
        for party, answer in answers.items():
            self._check_answer(party, answer)
        added, removed = self._pair_masks(answers)
        total = self._total.copy()
        apply_masks(total, plus=added, minus=[*self._self_masks(answers), *removed])
        if int(total[-1]) != len(self._list.came):
            raise ProtocolError(
                f"secure sum: the masks of round {self._round} do not cancel. The parties hold "
                "different plans or keys; start a new run."
            )
        return self._plan.encoding.decode(total[:-1])

    def _self_masks(self, answers: Mapping[str, Revealed]) -> Iterator[bytes]:
        """Self-mask seeds of the parties in the sum, from their neighbours' shares."""
        for party in sorted(self._list.came):
            shares = {
                holder: np.frombuffer(answers[peer].secrets[party], np.uint8)
                for holder, peer in enumerate(self._plan.neighbours[party], start=1)
                if peer in answers
            }
            if len(shares) < self._plan.shares_needed:
                self._list.too_few("answered")
            yield shamir.combine(shares, threshold=self._plan.shares_needed).tobytes()

    def _pair_masks(self, answers: Mapping[str, Revealed]) -> tuple[list[bytes], list[bytes]]:
        """Seeds of the pair masks to add and to take off: of each dropped party's neighbours."""
        position, came = self._plan.parties.index, self._list.came
        added: list[bytes] = []
        removed: list[bytes] = []
        for dropped in (p for p in self._plan.parties if p not in came):
            for peer in self._plan.neighbours[dropped]:
                if peer not in came:
                    continue
                if peer not in answers:
                    self._list.too_few("answered")
                seed = answers[peer].secrets[dropped]
                (removed if position(peer) < position(dropped) else added).append(seed)
        return added, removed

    def _check_answer(self, party: str, answer: Revealed) -> None:
        good = party in self._list.came and set(answer.secrets) == set(self._plan.neighbours[party])
        if not good or any(len(secret) != KEY_BYTES for secret in answer.secrets.values()):
            raise ProtocolError(
                f"secure sum: the answer of {party!r} is not one secret a neighbour."
            )
