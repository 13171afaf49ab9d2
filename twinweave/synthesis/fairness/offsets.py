"""Offsets of the label's logits by group, so that rates, or a model's errors, are alike.

Group thresholds after training: Hardt, Price and Srebro (2016), "Equality of opportunity in
supervised learning", section 4. Differs: what is moved are the logits that the labels of
generated rows are drawn from, so that whoever trains on the rows learns the moved rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from twinweave.synthesis.fairness.conf import Rule
from twinweave.synthesis.fairness.groups import Groups

MOST_OFFSET = 16.0
HALVINGS = 40
SWEEPS = 12
"""Over several groupings, each given the offsets of the others."""

Vector = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Rows as the offsets see them. logits: of the positive label. weights: sum 1."""

    logits: Vector = field(repr=False)
    positive: Bools = field(repr=False)
    weights: Vector = field(repr=False)

    def moved(self, shift: Vector) -> Vector:
        """Chance that a row's label is positive after the shift of its logit: (rows,).

        A label stays unless the shift speaks against it: from chance p to q > p, a negative one
        turns with (q - p) / (1 - p); to q < p, a positive one with (p - q) / p. The labels
        then have chance q wherever they had p.
        """
        p, q = chance(self.logits), chance(self.logits + shift)
        up = ((q - p) / (1 - p)).clip(0, 1)
        down = ((p - q) / p).clip(0, 1)
        return np.asarray(np.where(self.positive, 1 - down, up), dtype=np.float64)


def chance(logits: Vector) -> Vector:
    """The logistic function."""
    return np.asarray(1 / (1 + np.exp(-logits)))


def offsets(
    rule: Rule, strength: float, groupings: Sequence[Groups], rows: Scored
) -> tuple[Vector, tuple[tuple[float, float, float], ...]]:
    """Each row's shift, (rows,), and of each grouping the difference before, aimed at, reached.

    The differences: of label rates; of `equalized_odds`, the larger one of true and false
    positive rates of the decision "logit above 0", by the labels as they were.
    """
    own = [np.zeros(len(g)) for g in groupings]
    before = [_difference(rule, g, rows, np.zeros(len(rows.logits))) for g in groupings]
    aims = [_aims(rule, strength, g, rows) for g in groupings]
    for _ in range(SWEEPS if len(groupings) > 1 else 1):
        for i, g in enumerate(groupings):
            others = _shift(groupings, own) - _at(g, own[i])
            solve = _alike_in_errors if rule == "equalized_odds" else _alike_in_rates
            own[i] = solve(g, rows, others, aims[i])
    shift = _shift(groupings, own)
    after = [_difference(rule, g, rows, shift) for g in groupings]
    return shift, tuple((b, (1 - strength) * b, a) for b, a in zip(before, after, strict=True))


def _shift(groupings: Sequence[Groups], own: Sequence[Vector]) -> Vector:
    each = [_at(g, o) for g, o in zip(groupings, own, strict=True)]
    return np.asarray(np.sum(each, axis=0), dtype=np.float64)


def _at(groups: Groups, offset: Vector) -> Vector:
    """The offset of each row's cell, 0 where it has none: (rows,)."""
    return np.asarray(np.append(offset, 0.0)[groups.cell], dtype=np.float64)  # NO_CELL is the last


def _errors(groups: Groups, rows: Scored, decided: Bools) -> Vector:
    """True and false positive rate of a decision in each cell: (2, cells), NaN where of nobody."""
    found = []
    for kind in (rows.positive, ~rows.positive):
        weights = rows.weights * kind
        rates = groups.rates(decided.astype(np.float64), weights)
        found.append(np.where(groups.sums(weights) > 0, rates, np.nan))
    return np.stack(found)


@dataclass(frozen=True, kw_only=True)
class Differences:
    """The largest between two groups: of label rates; of the rates of the decision "logit above 0",
    parity; of its true or false positive rates by the labels as they were, odds."""

    labels: float
    parity: float
    odds: float


def differences(groups: Groups, rows: Scored, shift: Vector) -> Differences:
    """Of the labels that the shift brings, and of decisions by the shifted logits."""
    decided = rows.logits + shift > 0
    return Differences(
        labels=groups.gap(groups.rates(rows.moved(shift), rows.weights)),
        parity=groups.gap(groups.rates(decided.astype(np.float64), rows.weights)),
        odds=max(groups.gap(e) for e in _errors(groups, rows, decided)),
    )


def _difference(rule: Rule, groups: Groups, rows: Scored, shift: Vector) -> float:
    found = differences(groups, rows, shift)
    return found.odds if rule == "equalized_odds" else found.labels


def _aims(rule: Rule, strength: float, groups: Groups, rows: Scored) -> Vector:
    """Label rates, (cells,), or both rates of the decision, (2, cells), to be brought about.

    A part `strength` of the way from the cell's own to that of its whole stratum.
    """
    if rule != "equalized_odds":
        sums, size = groups.sums(rows.positive * rows.weights), groups.sums(rows.weights)
        return _between(groups, sums, size, strength)
    kinds = []
    for kind in (rows.positive, ~rows.positive):
        weights = rows.weights * kind
        sums = groups.sums((rows.logits > 0) * weights)
        kinds.append(_between(groups, sums, groups.sums(weights), strength))
    return np.stack(kinds)


def _between(groups: Groups, sums: Vector, size: Vector, strength: float) -> Vector:
    own = sums / np.maximum(size, 1e-300)
    all_of_it = groups.over_strata(sums) / np.maximum(groups.over_strata(size), 1e-300)
    found: Vector = (1 - strength) * own + strength * all_of_it
    return found


def _alike_in_rates(groups: Groups, rows: Scored, others: Vector, aim: Vector) -> Vector:
    """Offsets by bisection, all cells at once: rates rise with them."""
    low, high = np.full(len(groups), -MOST_OFFSET), np.full(len(groups), MOST_OFFSET)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = groups.rates(rows.moved(others + _at(groups, middle)), rows.weights)
        low, high = np.where(found < aim, middle, low), np.where(found < aim, high, middle)
    own: Vector = (low + high) / 2
    return own


def _alike_in_errors(groups: Groups, rows: Scored, others: Vector, aim: Vector) -> Vector:
    """Offsets that bring both rates of a cell's decisions closest to the aim, the worse of them.

    One threshold a group cannot meet both; every threshold between two rows is tried. None where
    no other is better than that at 0. A kind of person that a cell has none of is not asked for.
    """
    found = np.zeros(len(groups))
    for cell in range(len(groups)):
        inside = np.flatnonzero(groups.cell == cell)
        inside = inside[np.argsort(-(rows.logits + others)[inside], kind="stable")]
        logits = (rows.logits + others)[inside]
        worst = np.zeros(len(inside) + 1)
        for kind, wanted in ((rows.positive, aim[0]), (~rows.positive, aim[1])):
            weight = rows.weights[inside] * kind[inside]
            if weight.any():
                rate = np.concatenate([[0.0], np.cumsum(weight)]) / weight.sum()
                worst = np.maximum(worst, np.abs(rate - wanted[cell]))
        above, below = np.append(np.inf, logits), np.append(logits, -np.inf)
        worst[above == below] = np.inf  # between equal rows there is no threshold
        best = int(worst.argmin())
        asis = int((logits > 0).sum())
        if worst[asis] > worst[best] + 1e-12:
            high, low = min(above[best], logits[0] + 2), max(below[best], logits[-1] - 2)
            found[cell] = -(high + low) / 2
    return found
