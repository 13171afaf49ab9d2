"""What each strength would cost: a model's decisions, moved by group as far as the strength says.

Candidate rows are scored once, by models that have not seen them; a strength moves those scores and
nothing else, so that the whole curve takes no row more and no model more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from twinweave.synthesis.fairness.conf import Rule
from twinweave.synthesis.fairness.groups import Groups
from twinweave.synthesis.fairness.offsets import Scored, differences, offsets

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)

MOST_ROWS = 10_000
"""That the curve is computed on: an even part of the candidates beyond."""


@dataclass(frozen=True, kw_only=True)
class TradePoint:
    """What a strength brings. labels: the largest difference of label rates between groups.

    accuracy, parity, odds: of the decisions of a model that learned the labels so moved, on
    candidates with their labels as measured. Of several groupings, the largest difference.
    """

    strength: float
    accuracy: float
    labels: float
    parity: float
    odds: float


def curve(rule: Rule, groupings: Sequence[Groups], rows: Scored) -> tuple[TradePoint, ...]:
    """One point a strength of STRENGTHS; none where there are no two groups to compare."""
    if not any(len(g) for g in groupings):
        return ()
    step = -(-len(rows.logits) // MOST_ROWS)
    few = Scored(
        logits=rows.logits[::step],
        positive=rows.positive[::step],
        weights=rows.weights[::step] / rows.weights[::step].sum(),
    )
    groupings = [replace(g, cell=g.cell[::step]) for g in groupings]
    return tuple(_point(rule, strength, groupings, few) for strength in STRENGTHS)


def _point(rule: Rule, strength: float, groupings: Sequence[Groups], rows: Scored) -> TradePoint:
    shift, _ = offsets(rule, strength, groupings, rows)
    found = [differences(g, rows, shift) for g in groupings]
    right = (rows.logits + shift > 0) == rows.positive
    inside = np.any([g.inside for g in groupings], axis=0)
    weights = rows.weights * inside
    return TradePoint(
        strength=strength,
        accuracy=float(weights @ right / max(weights.sum(), 1e-300)),
        labels=max(d.labels for d in found),
        parity=max(d.parity for d in found),
        odds=max(d.odds for d in found),
    )
