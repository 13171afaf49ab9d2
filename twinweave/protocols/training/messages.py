"""The messages of a round of federated training: weights out, a protected update back.

The replies are the secure sum's own: `Upload`, and `Revealed` to a `RevealSumRequest`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinweave.protocols.secure_sum.interface import RevealRequest


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


@dataclass(frozen=True, kw_only=True, eq=False)
class RevealSumRequest(RevealRequest):
    """Who is in the sum of a round."""

    run: str
