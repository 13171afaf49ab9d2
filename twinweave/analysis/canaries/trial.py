"""What an observer saw of many canaries on one release path, and what that proves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.audit.results import LowerBound
from twinweave.analysis.canaries import bounds
from twinweave.privacy import accountant
from twinweave.privacy.events import Event, PoissonSgd

CONFIDENCE = 0.9999
"""Of a bound: a path whose guarantee holds is accused with a chance of 1 in 10,000 at most."""

ONE_RUN = 0.95
"""Confidence of what `one_run` proves, which stands beside: at CONFIDENCE, as delta counts for each
canary, it would prove nothing."""
SURE = 33
"""One canary in so many is guessed by `one_run`: about the most it proves of a Gaussian."""


def drawn(canaries: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which canaries are put in: a fair coin each, (canaries,)."""
    return rng.integers(0, 2, canaries).astype(np.bool_)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One path with its canaries.

    events: what the ledger says the path released of each canary's user. included: (canaries,),
    which were put in. scores: (canaries,), above 0 where the observer takes it for put in; or
    (observers, canaries) of several, of whom the best is believed, each at its part of the chance
    to be wrong.
    """

    path: str
    events: tuple[Event, ...]
    delta: float
    included: NDArray[np.bool_] = field(repr=False)
    scores: NDArray[np.float64] = field(repr=False)

    @property
    def canaries(self) -> int:
        return len(self.included)

    @property
    def observers(self) -> int:
        return len(np.atleast_2d(self.scores))

    @property
    def correct(self) -> int:
        """Right guesses of the best observer."""
        right = (np.atleast_2d(self.scores) > 0) == self.included
        return int(right.sum(axis=1).max())

    @cached_property
    def claimed(self) -> float:
        return accountant.epsilon(self.events, self.delta)

    @cached_property
    def ideal(self) -> int:
        """Right guesses of the best observer of a mechanism that spends exactly what is claimed:
        (1 + total variation) / 2 of the canaries."""
        variation = accountant.delta_of_mechanisms((e.mechanism for e in self.events), 0.0)
        return round(self.canaries * (1 + variation) / 2)

    def bound(self, confidence: float = CONFIDENCE) -> LowerBound:
        """By `bounds.sampled` for a training, by `bounds.gaussian` for tables."""
        right = self.correct / self.canaries
        return LowerBound(
            path=self.path,
            claimed=self.claimed,
            bound=self._proven(self.correct, confidence),
            ceiling=self._proven(self.ideal, confidence),
            confidence=confidence,
            detail=f"{self.canaries:,} canaries, {right:.2%} guessed right; by one_run at "
            f"confidence {ONE_RUN}: {self.one_run():.2f}",
        )

    def one_run(self, confidence: float = ONE_RUN) -> float:
        """By `bounds.one_run`: of the first observer, about the canaries it is surest of."""
        scores = np.atleast_2d(self.scores)[0]
        guesses = max(1, self.canaries // SURE)
        surest = np.argsort(-np.abs(scores), kind="stable")[:guesses]
        correct = int(((scores[surest] > 0) == self.included[surest]).sum())
        return bounds.one_run(
            correct, guesses, self.canaries, delta=self.delta, confidence=confidence
        )

    def _proven(self, correct: int, confidence: float) -> float:
        confidence = 1 - (1 - confidence) / self.observers
        terms = {"delta": self.delta, "confidence": confidence}
        if all(e.mechanism.IS_TABLE for e in self.events):
            noise = [e.mechanism for e in self.events]
            return bounds.gaussian(correct, self.canaries, claimed=noise, **terms)
        (event,) = self.events
        steps = cast("PoissonSgd", event.mechanism)
        return bounds.sampled(correct, self.canaries, steps, **terms)


def joined(trials: Sequence[Trial]) -> Trial:
    """Trials of the same path and plan as one: their canaries are independent."""
    return replace(
        trials[0],
        included=np.concatenate([t.included for t in trials]),
        scores=np.concatenate([t.scores for t in trials], axis=-1),
    )
