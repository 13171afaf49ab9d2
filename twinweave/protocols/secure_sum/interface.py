"""What every secure sum has in common: what travels, and the two ends.

A run sets up once (`deal`, `accept`); each round is an upload and, where the protocol needs it, a
request that some parties answer (`requests` empty: no further message). Floats go in at the
parties and come out at the server; what lies between is the protocol's own business.

| | masking | secret sharing | homomorphic |
|---|---|---|---|
| `deal` | shares of self-masks | nothing | the first party's key, as a seed |
| `Upload.words` | masked vector | nothing | ciphertext, uint8 |
| `Upload.sealed` | nothing | shares for the aggregators | nothing |
| `RevealRequest` | who is alive | the same and the sealed shares | the same and summed ciphertext |
| asked | all in the sum | the aggregators | one party, another each round |
| `Revealed` | a secret a neighbour | an aggregator's sum (`words`) | the decrypted sum (`words`) |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError
from twinweave.protocols.channel.keys import PairKeys
from twinweave.protocols.secure_sum.plan import SumPlan


def _no_words() -> NDArray[Any]:
    return np.zeros(0, np.uint32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Upload:
    """A party's protected vector of one round. sealed: by receiver. secrets: by neighbour."""

    words: NDArray[Any] = field(default_factory=_no_words, repr=False)
    sealed: dict[str, bytes] = field(default_factory=dict, repr=False)
    secrets: dict[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class RevealRequest:
    """The server fixes who is in the sum. alive: every party of the plan -> in it or not.

    One dict, so a party cannot be both. sealed: by sender, for the party asked.
    """

    round: int
    alive: dict[str, bool]
    words: NDArray[Any] = field(default_factory=_no_words, repr=False)
    sealed: dict[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Revealed:
    """A party's answer. secrets: one for each neighbour, so never two for the same party."""

    words: NDArray[Any] = field(default_factory=_no_words, repr=False)
    secrets: dict[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a party must keep between messages. Losing it means starting a new run.

    shares: what was dealt, by sender (masking: self-mask shares of a neighbour, 32 bytes a
    round; homomorphic: the key's seed). rounds: number of each round that was protected -> ""
    or the hash of the one request answered in it. terms: of each of those rounds.
    """

    shares: dict[str, bytes] = field(default_factory=dict, repr=False)
    rounds: dict[str, str] = field(default_factory=dict)
    terms: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class SumParty(ABC):
    """A party's end. Steps that change what it must remember return the new state first.

    secret: its 32-byte secret of the run. keys: by peer (see `peers`), or by more. progress:
    what to store between messages, and to hand in again.
    Raises ProtocolError for a party outside the plan or missing keys.
    """

    plan: SumPlan
    own: str
    secret: bytes = field(repr=False)
    keys: Mapping[str, PairKeys] = field(repr=False)
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        if self.own not in self.plan.parties:
            raise ProtocolError(f"secure sum: {self.own!r} is not in the plan. Check the parties.")
        for peer in self.peers(self.plan, self.own):
            held = self.keys.get(peer)
            place = (self.plan.run, self.own, peer)
            if held is None or (held.run_id, held.own, held.peer) != place:
                raise ProtocolError(f"secure sum: no keys with {peer!r} in this run. Set up first.")

    @staticmethod
    @abstractmethod
    def peers(plan: SumPlan, own: str) -> tuple[str, ...]:
        """Parties that `own` exchanges sealed messages with."""

    @property
    @abstractmethod
    def needs_no_request(self) -> bool:
        """Whether the last round is over for this party with its upload."""

    @abstractmethod
    def deal(self) -> dict[str, bytes]:
        """Once a run: sealed messages by receiver, relayed by the server. Repeatable."""

    @abstractmethod
    def accept(self, sealed: Mapping[str, bytes]) -> Self:
        """Once a run: what the peers dealt, by sender. Raises ChannelError, ProtocolError."""

    def _keeping(self, shares: dict[str, bytes]) -> Self:
        """With what was dealt. Raises ProtocolError where other things were dealt before."""
        if self.progress.shares not in ({}, shares):
            raise ProtocolError("secure sum: other shares than before. Start a new run.")
        return replace(self, progress=replace(self.progress, shares=shares))

    @abstractmethod
    def protect(
        self, values: NDArray[np.floating[Any]], round_: int, terms: str = ""
    ) -> tuple[Self, Upload]:
        """float32 or float64 (d,) -> what may leave the party.

        terms: a digest of whatever else the parties must have been told alike in this round;
        parties with different ones get no sum. Raises ProtocolError: a value out of range, a
        round that is not planned or was protected before (answer a repeated message with the
        stored reply), nothing accepted yet.
        """

    @abstractmethod
    def reveal(self, request: RevealRequest) -> tuple[Self, Revealed]:
        """Answer the request of a round: the same one alike, any other with a ProtocolError."""
