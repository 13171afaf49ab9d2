"""Weighed candidate rows to weighed candidate rows whose labels are fair, in one of three ways.

In all three: how a model would score the rows, offsets of its logits by group, and from them what
every table with the label should say. Then `rake` weighs the candidates anew, `decode` draws their
labels anew, `fit` fits the mixture to those tables and draws others. Deterministic under the seed;
sees rows that were generated and nothing else, so that no event is added to the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows
from twinweave.synthesis.conf import FitConf
from twinweave.synthesis.draw import Basis, Offer, possible
from twinweave.synthesis.fairness.conf import Enforcement, Rule, Way
from twinweave.synthesis.fairness.curve import TradePoint, curve
from twinweave.synthesis.fairness.groups import Groups, concerned, groups, located
from twinweave.synthesis.fairness.offsets import Scored, offsets
from twinweave.synthesis.fairness.proxy import cross_fitted
from twinweave.synthesis.fairness.targets import (
    constraint,
    fair_tables,
    reweighted,
    scores,
    weighted_counts,
)
from twinweave.synthesis.fit import refit
from twinweave.synthesis.rake import constraints, rake, sizes
from twinweave.workload.measurement import Measurement

PENALTY_NOISE = 25.0
"""Variance, in people, that the penalty on groups by label has in the fit: next to none."""

LLM_CHANCE = (1e-3, 1 - 1e-3)
"""Of a label, at the least and at the most: what is rarer was hardly learned."""

Vector = NDArray[np.float64]
Index = NDArray[np.int64]
Difference = tuple[float, float, float]
"""Before, aimed at, reached."""


@dataclass(frozen=True, kw_only=True)
class GroupDifference:
    """The largest difference between groups: before, aimed at, and reached.

    Of label rates; of true or false positive rates for `equalized_odds`. missed: how far any
    group's label rate is from the one that was aimed at. pooled: groups put together, being
    small; left_out: groups about which nothing was enforced.
    """

    columns: tuple[str, ...]
    before: float
    aimed: float
    reached: float
    missed: float
    pooled: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Enforced:
    """What was enforced. changed: share of labels that are others now.

    met: whether every difference, and every group's rate, is as aimed at, up to `tolerance`.
    curve: what other strengths would bring.
    """

    constraint: Rule
    way: Way
    strength: float
    label: str
    positive: str
    admissible: tuple[str, ...]
    tolerance: float
    changed: float
    differences: tuple[GroupDifference, ...]
    met: bool
    curve: tuple[TradePoint, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Fair:
    """offer: candidates whose labels are fair. tables: the measurements as they should be met."""

    offer: Offer
    tables: Sequence[Measurement] = field(repr=False)
    enforced: Enforced


@dataclass(frozen=True, kw_only=True, eq=False)
class _Aim:
    """The candidates as they were, and what is wanted of their labels.

    wanted: chance of a positive label, (rows,); shift: of its logit. parts: of each grouping.
    """

    of: Enforcement
    basis: Basis
    was: Offer
    users: float
    groupings: tuple[Groups, ...]
    rows: Scored = field(repr=False)
    wanted: Vector = field(repr=False)
    parts: tuple[Index, ...] = field(repr=False)

    @property
    def label(self) -> int:
        return self.basis.layout.names.index(self.of.label)

    def positive(self, rows: Rows) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = rows.codes[:, self.label] == self.of.positive
        return found

    def tables(self, rows: Rows, weights: Vector) -> list[Measurement]:
        """The measurements as they should be met: as these rows differ from what they were."""
        before, basis = (self.was.rows, self.was.raked.weights), self.basis
        return fair_tables(
            basis.measurements, self.of.label, basis.layout, self.users, before, (rows, weights)
        )


def enforce(
    wanted: Enforcement, basis: Basis, was: Offer, fitting: FitConf, rng: np.random.Generator
) -> Fair:
    """Candidates whose labels are as `wanted` says, from candidates weighed as measured."""
    aim, differences = _aimed(wanted, basis, was, rng)
    weights = reweighted(aim.rows, aim.wanted, aim.parts)
    if wanted.way == "decode":
        rows = _redrawn(aim, rng)
        tables = aim.tables(rows, was.raked.weights)
        offer = _weighed(aim, rows, was.raked.weights, tables, aim.parts, aim.parts)
    elif wanted.way == "fit":
        tables = aim.tables(was.rows, weights)
        rows = _refitted(aim, weights, tables, fitting, rng)
        there = [located(g, wanted, basis.layout, rows) for g in aim.groupings]
        offer = _weighed(aim, rows, None, tables, [g.cell for g in aim.groupings], there)
    else:
        tables = aim.tables(was.rows, weights)
        offer = _weighed(aim, was.rows, weights, tables, aim.parts, aim.parts)
    return Fair(offer=offer, tables=tables, enforced=_found(aim, offer, differences))


def _aimed(
    wanted: Enforcement, basis: Basis, was: Offer, rng: np.random.Generator
) -> tuple[_Aim, tuple[Difference, ...]]:
    layout, weights = basis.layout, was.raked.weights
    users = float(basis.people.users.sum())
    found = tuple(
        groups(wanted, columns, layout, was.rows, users * weights) for columns in wanted.groupings
    )
    label = layout.names.index(wanted.label)
    positive = was.rows.codes[:, label] == wanted.positive
    inside = np.flatnonzero(concerned(wanted, layout, was.rows))
    logits = np.zeros(len(was.rows))
    logits[inside] = _logits(wanted, basis, was, inside, positive, rng)
    rows = Scored(logits=logits, positive=positive, weights=weights)
    shift, differences = offsets(wanted.constraint, wanted.strength, found, rows)
    aim = _Aim(
        of=wanted,
        basis=basis,
        was=was,
        users=users,
        groupings=found,
        rows=rows,
        wanted=rows.moved(shift),
        parts=tuple(scores(g, rows) for g in found),
    )
    return aim, differences


def _logits(
    wanted: Enforcement,
    basis: Basis,
    was: Offer,
    inside: Index,
    positive: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Vector:
    """Of the positive label: the llm's own for `decode`, else a cross-fitted model's."""
    label = basis.layout.names.index(wanted.label)
    if wanted.way == "decode":
        network = basis.source.network
        shares = None if network is None else network.shares(was.rows.take(inside), label)
        assert shares is not None  # refused by `enforcement`
        own = shares[:, wanted.positive].clip(*LLM_CHANCE)
        return np.asarray(np.log(own / (1 - own)), dtype=np.float64)
    features = np.delete(was.rows.codes[inside], label, axis=1)
    return cross_fitted(features, positive[inside], was.raked.weights[inside], rng)


def _weighed(
    aim: _Aim,
    rows: Rows,
    base: Vector | None,
    tables: Sequence[Measurement],
    parts: Sequence[Index],
    now: Sequence[Index],
) -> Offer:
    """The rows, weighed from `base` on to meet the fair tables and the constraint itself.

    parts: of the candidates as they were; now: the same of these rows; one a grouping.
    """
    basis = aim.basis
    wanted = constraints(tables, basis.layout, rows, aim.users)
    wanted += sizes(basis.people, basis.layout, rows)
    positive = aim.positive(rows)
    for g, part, place in zip(aim.groupings, parts, now, strict=True):
        if len(g):
            name = f"fairness of {aim.of.label} by {' x '.join(g.columns)}"
            sought = (aim.rows, aim.wanted, part)
            wanted.append(constraint(name, sought, aim.users, (place, positive)))
    raked = rake(wanted, len(rows), aim.users, basis.conf, base)
    return Offer(rows=rows, tables=wanted, raked=raked)


def _redrawn(aim: _Aim, rng: np.random.Generator) -> Rows:
    """The candidates with their labels drawn anew.

    A label that turns negative becomes one of the others as often as they occur in its cell.
    """
    rows, label = aim.was.rows, aim.label
    positive = rng.random(len(rows)) < aim.wanted
    codes = rows.codes.copy()
    codes[positive & ~aim.rows.positive, label] = aim.of.positive
    turned = np.flatnonzero(~positive & aim.rows.positive)
    for cell in np.unique(aim.groupings[0].cell[turned]):
        inside = aim.groupings[0].cell == cell
        weight = np.where(inside & ~aim.rows.positive, aim.rows.weights, 0.0)
        weight[rows.codes[:, label] < 0] = 0.0
        here = turned[inside[turned]]
        if weight.sum() > 0:
            like = rng.choice(len(rows), len(here), p=weight / weight.sum())
            codes[here, label] = rows.codes[like, label]
    return replace(rows, codes=codes)


def _refitted(
    aim: _Aim,
    weights: Vector,
    tables: Sequence[Measurement],
    fitting: FitConf,
    rng: np.random.Generator,
) -> Rows:
    """Candidates of the mixture fitted on, with a penalty on its own groups by label."""
    basis, mixture = aim.basis, aim.basis.source.mixture
    assert mixture is not None
    penalties = []
    for query in aim.of.queries:
        assert query is not None  # refused by `enforcement`
        shape = query.cells(basis.layout.size).shape
        values = aim.users * weighted_counts(query, shape, basis.layout, aim.was.rows, weights)
        penalties.append(Measurement(query=query, values=values, variance=PENALTY_NOISE))
    fitted = refit(mixture, [*tables, *penalties], fitting)
    fair = replace(basis, source=replace(basis.source, mixture=fitted))
    return possible(fair, len(aim.was.rows), rng)


def _found(aim: _Aim, offer: Offer, differences: Sequence[Difference]) -> Enforced:
    """What was reached, by the weighed candidates."""
    layout, wanted = aim.basis.layout, aim.of
    positive = aim.positive(offer.rows).astype(np.float64)
    told = []
    for g, (before, aimed, decided) in zip(aim.groupings, differences, strict=True):
        there = replace(g, cell=located(g, wanted, layout, offer.rows))
        rates = there.rates(positive, offer.raked.weights)
        sought = g.rates(aim.wanted, aim.rows.weights)
        told.append(
            GroupDifference(
                columns=g.columns,
                before=before,
                aimed=aimed,
                reached=decided if wanted.constraint == "equalized_odds" else g.gap(rates),
                missed=float(np.abs(rates - sought).max(initial=0.0)),
                pooled=g.pooled,
                left_out=g.left_out,
            )
        )
    return Enforced(
        constraint=wanted.constraint,
        way=wanted.way,
        strength=wanted.strength,
        label=wanted.label,
        positive=wanted.levels[wanted.label][wanted.positive],
        admissible=wanted.admissible,
        tolerance=wanted.tolerance,
        changed=float(aim.rows.weights @ np.abs(aim.wanted - aim.rows.positive)),
        differences=tuple(told),
        met=all(
            len(g) > 1 and d.reached <= d.aimed + wanted.tolerance and d.missed <= wanted.tolerance
            for g, d in zip(aim.groupings, told, strict=True)
        ),
        curve=curve(wanted.constraint, aim.groupings, aim.rows),
    )
