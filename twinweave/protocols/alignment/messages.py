"""The messages of the alignment: tags that travel from party to party, sealed, to the server."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class BlindRequest:
    """hellos: every party's signed key, by party. training: JSON of the TrainingPlan, which
    follows from the specification and the sizes in the hellos; "" without a training."""

    run: str
    hellos: dict[str, str]
    training: str = ""


@dataclass(frozen=True, kw_only=True)
class BlindReply:
    """sealed: for the party named, tags blinded once (ristretto) or the shared key (prf)."""

    sealed: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class MatchRequest:
    """hop h of k-1: what the previous party sealed for this one, by owner of the tags."""

    run: str
    hop: int
    sealed: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class MatchReply:
    """sealed: for the next hop; tags: owner -> uint8 (rows, 32) under every party's key.

    noise: the party's on the counts of users in common, int64 (counts,); none after the first hop.
    """

    sealed: dict[str, bytes] = field(repr=False)
    tags: dict[str, NDArray[np.uint8]] = field(repr=False)
    noise: NDArray[np.int64] = field(repr=False)
