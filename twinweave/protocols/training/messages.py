"""The messages of a round of federated training: weights out, a protected update back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One round of local training.

    plan: JSON of the TrainingPlan, the same in every round. weights: float32 (parameters,).
    one_way: noisy one-way tables by column. dealt: what each peer dealt, by sender.
    """

    run: str
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
    round: int
    alive: dict[str, bool]
    words: NDArray[Any] = field(repr=False)
    sealed: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RevealSumReply:
    """secure_sum.Revealed."""

    words: NDArray[Any] = field(repr=False)
    secrets: dict[str, bytes] = field(repr=False)
