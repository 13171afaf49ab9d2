"""The messages of the secure products: masked matrices to the peers, shares with noise back.

Tables are keyed by their index in the plan of this pass, as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ProtocolError

Sealed = Mapping[str, Mapping[str, bytes]]
"""Sender -> receiver -> what it sealed."""


@dataclass(frozen=True, kw_only=True)
class AgreeRequest:
    """plan: the tables chosen after a first pass, as JSON."""

    run: str
    plan: str


@dataclass(frozen=True, kw_only=True)
class AgreeReply:
    """sealed: for every other party, an empty message that only the same plan opens."""

    sealed: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ShareRequest:
    """slots: int64 (rows,), own rows in secret order -> spine. seeds: dealt, 32 bytes a peer;
    coin_seeds: dealt, 32 bytes a table with coins in which this party is first. None of these
    without a dealer.

    step: 0, or 1 for the tables chosen after a first pass; plan: those as JSON, "" in step 0.
    agreed: in step 1, what every other party sealed for this one when it was told the plan.
    """

    run: str
    step: int
    plan: str
    n_slots: int
    slots: NDArray[np.int64] = field(repr=False)
    seeds: dict[str, bytes] = field(repr=False)
    coin_seeds: dict[str, bytes] = field(repr=False)
    agreed: dict[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class ShareReply:
    """sealed: for each peer, a masked matrix with shares of tested coins, or an encrypted
    matrix; tables: local, noisy, int64.

    pooled: this party's part of its pool's tables, uint64, uniform alone.
    """

    sealed: dict[str, bytes] = field(repr=False)
    tables: dict[str, NDArray[np.int64]] = field(repr=False)
    pooled: dict[str, NDArray[Any]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """sealed: what each peer gave for this party to open tables with, by peer.

    hop: 1; encrypted products take a second, for the parties that offered. corrections: dealt,
    by peer, and coin_words, by table, where this party is second. None without a dealer.
    """

    run: str
    step: int
    hop: int
    sealed: dict[str, bytes] = field(repr=False)
    corrections: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    coin_words: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class OpenReply:
    """shares: of the noisy cross tables, unsigned, uniform alone. sealed: answers to offers.

    dealt: sealed shares for the secure sums of the training, by receiver; none without it.
    """

    shares: dict[str, NDArray[Any]] = field(repr=False)
    sealed: dict[str, bytes] = field(repr=False)
    dealt: dict[str, bytes] = field(repr=False)


def addressed(receiver: str, senders: Iterable[str], sealed: Sealed) -> dict[str, bytes]:
    """What each sender sealed for the receiver. Raises ProtocolError where something lacks."""
    found = {}
    for sender in senders:
        if receiver not in sealed.get(sender, {}):
            raise ProtocolError(f"party {sender!r} sent nothing for {receiver!r}. Start a new run.")
        found[sender] = sealed[sender][receiver]
    return found
