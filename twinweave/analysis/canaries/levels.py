"""Whether tables tell which levels a column has: one that a single user holds, or nobody.

Levels are public, so a table has cells for all of them, with noise in each, whoever is there. A
table of what was found alone, or noise on cells with somebody in them alone, would give the rare
user away, whatever the noise: a discovery of categories without threshold. It hides in no total
variation of the cells that are there, so it has an instrument of its own (`bounds.rates`).
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np

from twinweave.analysis.audit.results import LowerBound
from twinweave.analysis.canaries import bounds, kinds
from twinweave.analysis.canaries.tables import CanaryRun
from twinweave.analysis.canaries.trial import CONFIDENCE, drawn
from twinweave.config import RunConf
from twinweave.privacy import accountant

PATH = "levels of a column"


def levels_bound(
    conf: RunConf, *, side: int, rng: np.random.Generator, confidence: float = CONFIDENCE
) -> LowerBound:
    """side: levels; each is held by one canary, or by nobody. Seen: any cell of it is not 0."""
    present = drawn(side, rng)
    included = np.zeros((side, side), dtype=np.bool_)
    included[:, 0] = present
    run = CanaryRun(kind=kinds.own_tables(), conf=conf, side=side, included=included.ravel())
    with tempfile.TemporaryDirectory() as folder:
        table = run.measure(Path(folder))[0].tables[0]
    seen = np.zeros(side, dtype=np.bool_)
    seen[: len(table)] = (table != 0).any(axis=1)
    events = run.spec.tables.events()
    claimed = accountant.epsilon(events, run.spec.delta)

    def proven(hits: int, false: int) -> float:
        trials = int(present.sum()), side - int(present.sum())
        return bounds.rates(
            (hits, trials[0]), (false, trials[1]), delta=run.spec.delta, confidence=confidence
        )

    absent = side - int(present.sum())
    return LowerBound(
        path=PATH,
        claimed=claimed,
        bound=proven(int(seen[present].sum()), int(seen[~present].sum())),
        ceiling=proven(int(present.sum()), round(absent * math.exp(-claimed))),
        confidence=confidence,
        detail=f"{side:,} levels, each with one user or none",
    )
