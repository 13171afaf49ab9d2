"""The messages of a run, phase by phase (DESIGN section 4). Public unless marked sealed.

Every request carries `run` and `attempt`: with the phase they identify it, so that a party
answers a repeated message with the same reply and spends no budget twice. Dicts are keyed by
party name, tables by the query's index in the run specification.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class SetupRequest:
    """spec: canonical JSON of the RunSpec. sites: folder of site files (simulation), or ""."""

    run: str
    attempt: int
    spec: str
    sites: str


@dataclass(frozen=True, kw_only=True)
class SetupReply:
    """party is "" from a node that plays no party in this run (spare). hello: signed key.

    guard: "on" or "off", as the party's own configuration says.
    """

    party: str
    rows: int
    spec_hash: str
    hello: str
    guard: str


@dataclass(frozen=True, kw_only=True)
class BlindRequest:
    run: str
    attempt: int
    hellos: dict[str, str]
    rows: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class BlindReply:
    """sealed: for the party named, tags blinded once (ristretto) or the shared key (prf)."""

    sealed: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class MatchRequest:
    """hop h of k-1: what the previous party sealed for this one."""

    run: str
    attempt: int
    hop: int
    sealed: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class MatchReply:
    """sealed: for the next hop; tags: owner -> uint8 (rows, 32) under every party's key."""

    sealed: dict[str, bytes] = field(repr=False)
    tags: dict[str, NDArray[np.uint8]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ShareRequest:
    """slots: int64 (rows,), own rows in secret order -> spine. seeds: dealt, one a peer.

    None without a dealer. step: 0, or 1 for the tables chosen after a selection; plan: those
    as JSON, "" in step 0.
    """

    run: str
    attempt: int
    step: int
    plan: str
    n_slots: int
    slots: NDArray[np.int64] = field(repr=False)
    seeds: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ShareReply:
    """sealed: for each peer, a masked matrix or an encrypted one; tables: local, noisy, int64.

    pooled: this party's part of its pool's tables, uint64, uniform alone (protocols/pools).
    """

    sealed: dict[str, bytes] = field(repr=False)
    tables: dict[str, NDArray[np.int64]] = field(repr=False)
    pooled: dict[str, NDArray[Any]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """sealed: what each peer gave for this party to open tables with (clients/crossing.py).

    hop: 1; homomorphic tables take a second, for the parties that offered. corrections: dealt,
    where this party is second; coin_seeds, coin_words: dealt for the shared coins, keyed
    "index in the plan". None of these without a dealer.
    """

    run: str
    attempt: int
    step: int
    hop: int
    sealed: dict[str, bytes] = field(repr=False)
    corrections: dict[str, NDArray[Any]] = field(repr=False)
    coin_seeds: dict[str, bytes] = field(repr=False)
    coin_words: dict[str, NDArray[Any]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class OpenReply:
    """shares: of the noisy cross tables, unsigned, uniform alone. sealed: answers to offers.

    dealt: sealed shares for the secure sums of the training, by receiver; none without it.
    """

    shares: dict[str, NDArray[Any]] = field(repr=False)
    sealed: dict[str, bytes] = field(repr=False)
    dealt: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One round of local training.

    plan: JSON of the TrainingPlan, the same in every round. weights: float32 (parameters,).
    one_way: noisy one-way tables by column. dealt: what each peer dealt, by sender.
    """

    run: str
    attempt: int
    round: int
    plan: str
    weights: NDArray[np.float32] = field(repr=False)
    one_way: dict[str, NDArray[np.float64]] = field(repr=False)
    dealt: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class TrainReply:
    """A protected update (secure_sum.Upload)."""

    words: NDArray[Any] = field(repr=False)
    sealed: dict[str, bytes] = field(repr=False)
    secrets: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RevealSumRequest:
    """Who is in the sum of a round (secure_sum.RevealRequest)."""

    run: str
    attempt: int
    round: int
    alive: dict[str, bool]
    words: NDArray[Any] = field(repr=False)
    sealed: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RevealSumReply:
    """secure_sum.Revealed."""

    words: NDArray[Any] = field(repr=False)
    secrets: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ErrorReply:
    """An AppError's class name and text, which name a rule and never a cell's value."""

    error: str
    message: str
