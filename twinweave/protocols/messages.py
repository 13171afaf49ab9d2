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
    """party is "" from a node that plays no party in this run (spare). hello: signed key."""

    party: str
    rows: int
    spec_hash: str
    hello: str


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
    """slots: int64 (rows,), own rows in secret order -> spine. seeds: dealt, one a peer."""

    run: str
    attempt: int
    n_slots: int
    slots: NDArray[np.int64] = field(repr=False)
    seeds: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ShareReply:
    """sealed: masked matrix for each peer; tables: local noisy tables, int64."""

    sealed: dict[str, bytes] = field(repr=False)
    tables: dict[str, NDArray[np.int64]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """sealed: each peer's masked matrix. corrections: dealt, where this party is second.

    coin_seeds, coin_words: dealt for the shared coins, keyed "index in the plan".
    """

    run: str
    attempt: int
    sealed: dict[str, bytes] = field(repr=False)
    corrections: dict[str, NDArray[Any]] = field(repr=False)
    coin_seeds: dict[str, bytes] = field(repr=False)
    coin_words: dict[str, NDArray[Any]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class OpenReply:
    """shares: of the noisy cross tables, unsigned, uniform alone."""

    shares: dict[str, NDArray[Any]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ErrorReply:
    """An AppError's class name and text, which name a rule and never a cell's value."""

    error: str
    message: str
