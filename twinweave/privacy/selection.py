"""Which columns deserve tables with others: feature selection inside the protocol (DESIGN 4, 10).

A run over many columns measures twice with the same machinery. First, under the `selection`
budget, a coarse table of every candidate feature by every target (membership, conversions,
label), at one party or across two: so the secure product is features x a few target positions
however wide the tables are. Then `score` ranks the features, `choose` says which pairs and
threes are worth measuring in full, and the measurement stage asks for those alone. All but the
first step is post-processing: it looks at noisy tables only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import inf, isfinite, sqrt
from typing import Literal

import numpy as np

from twinweave.errors import ConfigError
from twinweave.parsing import STRICT
from twinweave.privacy.association import Association, any_of, associate
from twinweave.privacy.measurement import Measurement
from twinweave.privacy.workload import table
from twinweave.tables.column import Role
from twinweave.tables.query import Query, n_cells
from twinweave.tables.roles import FairnessConf, LiftConf
from twinweave.tables.schema import JointSchema


@dataclass(frozen=True, kw_only=True)
class SelectionConf:
    """How features are selected (conf/selection).

    when: auto selects where the union has more columns than workload.max_pair_columns.
    keep: pinned features: always kept, and not measured for it.
    groups: of neighbouring codes to which every column of a selection table is coarsened.
    threshold: least combined z of a kept feature; 2 lets 1 in 44 unrelated features through.
    max_columns: kept in all, at most, targets and pinned ones included (those stay in any case).
    max_cells: of all pairs and threes chosen together; the best come first.
    """

    __pydantic_config__ = STRICT

    when: Literal["auto", "always", "never"]
    keep: tuple[str, ...]
    groups: int
    threshold: float
    max_columns: int
    max_cells: int

    def __post_init__(self) -> None:
        if len(set(self.keep)) != len(self.keep):
            raise ConfigError("selection.keep", "columns repeat", "Name each column once.")
        if self.groups < 2:
            raise ConfigError("selection.groups", "a coarse table needs two groups or more",
                              "Common choice: 2 to 4.")  # fmt: skip
        if not isfinite(self.threshold):
            raise ConfigError("selection.threshold", "is not finite", "Common choice: 2.")
        if self.max_columns < 1 or self.max_cells < 0:
            raise ConfigError("selection", "max_columns and max_cells leave nothing",
                              "See conf/selection/default.yaml.")  # fmt: skip

    def applies(
        self,
        schema: JointSchema,
        lift: LiftConf | None,
        fairness: FairnessConf | None,
        max_pair_columns: int,
    ) -> bool:
        """Whether a run selects. Raises ConfigError for an unknown pinned column, and where
        selection is asked for but there is no target to select for."""
        if unknown := [c for c in self.keep if c not in schema.names]:
            raise ConfigError("selection.keep", f"no party has a column {unknown[0]!r}",
                              "Pin columns of the schema.")  # fmt: skip
        if self.when == "never":
            return False
        possible = bool(
            targets(schema, lift, fairness) and candidates(schema, lift, fairness, self)
        )
        if self.when == "always" and not possible:
            raise ConfigError("selection.when", "no target or no feature to select",
                              "Give the data a lift or fairness block, or `never`.")  # fmt: skip
        return possible and (self.when == "always" or len(schema.names) > max_pair_columns)


@dataclass(frozen=True, kw_only=True)
class FeatureScore:
    """One candidate's evidence. z, p_value: against "no association with any target"; z is
    standard normal without one, and its own standard error is about 1 with one.

    rank, ranks: among all candidates, 1 the strongest, and its interval (`LEVEL`): a feature
    whose z differs by less than the noise of a difference may as well come before or after.
    """

    column: str
    parties: tuple[str, ...]
    associations: tuple[Association, ...]
    z: float
    p_value: float
    rank: int
    ranks: tuple[int, int]

    def with_target(self, target: str) -> Association | None:
        return next((a for a in self.associations if a.target == target), None)


LEVEL = 0.9
"""Of the intervals of ranks: two-sided, for each pair of features by itself."""

_QUANTILE = 1.6448536269514722


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A feature that keeps its one-way table only, and why."""

    column: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the measurement stage asks beside the priority tables and all one-way tables.

    pinned: columns kept without a score: targets, sensitive and value columns, breakdowns, and
        `selection.keep`. kept: features, strongest first.
    by_target: target -> kept features that are associated with it by themselves.
    pairs, threes: columns of the tables to measure, best first. unmeasured: how many pairs and
        threes of kept columns did not fit into max_cells.
    """

    pinned: tuple[str, ...]
    kept: tuple[str, ...]
    by_target: Mapping[str, tuple[str, ...]]
    pairs: tuple[tuple[str, str], ...] = field(repr=False)
    threes: tuple[tuple[str, str, str], ...] = field(repr=False)
    dropped: tuple[Dropped, ...]
    cells: int
    unmeasured: int


def targets(
    schema: JointSchema, lift: LiftConf | None, fairness: FairnessConf | None
) -> tuple[str, ...]:
    """What features are selected for: membership, conversions, label; by role without either."""
    named: list[str] = []
    if lift is not None:
        named += [lift.membership, *lift.conversions]
    if fairness is not None:
        named.append(fairness.label)
    if lift is None and fairness is None:
        for role in (Role.MEMBERSHIP, Role.CONVERSION, Role.LABEL):
            named += [c.name for c in schema.with_role(role)]
    return tuple(dict.fromkeys(named))


def pinned(
    schema: JointSchema,
    lift: LiftConf | None,
    fairness: FairnessConf | None,
    conf: SelectionConf,
) -> tuple[str, ...]:
    """Columns that are kept without a score: every one that is not a plain feature, in order of
    the targets first, then the analysis's, then the user's."""
    named = [*targets(schema, lift, fairness), *(lift.breakdowns if lift else ())]
    named += fairness.sensitive if fairness else ()
    named += [c.name for c in schema.columns if c.role is not Role.FEATURE]
    return tuple(dict.fromkeys((*named, *conf.keep)))


def candidates(
    schema: JointSchema,
    lift: LiftConf | None,
    fairness: FairnessConf | None,
    conf: SelectionConf,
) -> tuple[str, ...]:
    """Features that selection decides about, in schema order."""
    fixed = set(pinned(schema, lift, fairness, conf))
    return tuple(n for n in schema.names if n not in fixed)


def plan_selection(
    schema: JointSchema,
    lift: LiftConf | None,
    fairness: FairnessConf | None,
    conf: SelectionConf,
) -> tuple[Query, ...]:
    """The coarse tables of the selection stage: every candidate by every target.

    Local where one party holds both. Left out where no two parties hold them.
    """
    wanted = [
        table(schema, feature, target)
        for feature in candidates(schema, lift, fairness, conf)
        for target in targets(schema, lift, fairness)
    ]
    return tuple(
        replace(q, sides=tuple(replace(s, groups=conf.groups) for s in q.sides))
        for q in wanted
        if q is not None
    )


def score(
    measurements: Iterable[Measurement],
    schema: JointSchema,
    lift: LiftConf | None,
    fairness: FairnessConf | None,
    conf: SelectionConf,
) -> tuple[FeatureScore, ...]:
    """Every candidate's score, strongest first. measurements: of `plan_selection`'s queries.

    Associations are among users that both parties know, so presence itself is no association.
    A candidate without a measurement comes last, with no associations.
    """
    wanted = targets(schema, lift, fairness)
    names = candidates(schema, lift, fairness, conf)
    found: dict[str, list[Association]] = {n: [] for n in names}
    for m in measurements:
        feature, target = m.query.columns
        values = m.values[:-1, :-1] if m.query.is_cross else m.values
        if feature not in found:
            feature, target, values = target, feature, values.T
        if feature in found and target in wanted:
            found[feature].append(associate(target, values, m.variance))
    return _ranked([(n, schema.holders(n), tuple(a), *_combined(a)) for n, a in found.items()])


def _combined(associations: Sequence[Association]) -> tuple[float, float]:
    seen = [a.z for a in associations if a.df]
    return any_of(seen) if seen else (-inf, 1.0)


def _ranked(
    scored: Sequence[tuple[str, tuple[str, ...], tuple[Association, ...], float, float]],
) -> tuple[FeatureScore, ...]:
    """Order by z, ties by schema order; see FeatureScore.ranks.

    The square root of a chi-square statistic far from zero has a standard error of 1 whatever
    its degrees of freedom, and z follows it: a difference of two has one of sqrt(2).
    """
    ordered = sorted(scored, key=lambda s: -s[3])
    z = np.array([s[3] for s in ordered])
    margin = _QUANTILE * sqrt(2)
    return tuple(
        FeatureScore(
            column=column,
            parties=parties,
            associations=associations,
            z=own if isfinite(own) else 0.0,
            p_value=p,
            rank=rank,
            ranks=(1 + int((z > own + margin).sum()), int((z >= own - margin).sum())),
        )
        for rank, (column, parties, associations, own, p) in enumerate(ordered, 1)
    )


def choose(
    scores: Sequence[FeatureScore],
    schema: JointSchema,
    lift: LiftConf | None,
    fairness: FairnessConf | None,
    conf: SelectionConf,
) -> Choice:
    """What to measure in full. Deterministic; looks at scores and public facts alone.

    Features: the strongest with z at least conf.threshold, as far as conf.max_columns leaves
    room beside the pinned columns. Tables, while they fit into conf.max_cells: first every kept
    column by every target, then the threes (membership, x, conversion) and (sensitive, x,
    label), then the remaining pairs of kept columns, by the product of their z; a pinned column
    counts as strong as the strongest feature.
    """
    fixed = pinned(schema, lift, fairness, conf)
    room = max(0, conf.max_columns - len(fixed))
    passing = [s for s in scores if s.associations and s.z >= conf.threshold and _seen(s)]
    kept = tuple(s.column for s in passing[:room])
    aims = targets(schema, lift, fairness)
    by_target = {
        t: tuple(s.column for s in passing[:room] if _is_for(s, t, conf.threshold)) for t in aims
    }
    strength = {s.column: max(s.z, 0.0) for s in passing[:room]}
    strength |= dict.fromkeys(fixed, max(strength.values(), default=1.0))
    wanted = list(_tables(schema, lift, fairness, aims, strength))
    taken, cells = _fitting(schema, wanted, conf.max_cells)
    return Choice(
        pinned=fixed,
        kept=kept,
        by_target=by_target,
        pairs=tuple((t[0], t[1]) for t in taken if len(t) == 2),
        threes=tuple((t[0], t[1], t[2]) for t in taken if len(t) == 3),
        dropped=tuple(_dropped(s, conf) for s in scores if s.column not in kept),
        cells=cells,
        unmeasured=len(wanted) - len(taken),
    )


def _seen(score: FeatureScore) -> bool:
    return any(a.df for a in score.associations)


def _is_for(score: FeatureScore, target: str, threshold: float) -> bool:
    found = score.with_target(target)
    return found is not None and found.df > 0 and found.z >= threshold


def _dropped(score: FeatureScore, conf: SelectionConf) -> Dropped:
    if not score.associations:
        reason = "no two parties hold it and a target"
    elif not _seen(score):
        reason = "lost in the noise: hardly any users share a level"
    elif score.z < conf.threshold:
        reason = f"no sign of an association: z below {conf.threshold:g}"
    else:
        reason = f"weaker than the {conf.max_columns} columns that are kept"
    return Dropped(column=score.column, reason=reason)


def _tables(
    schema: JointSchema,
    lift: LiftConf | None,
    fairness: FairnessConf | None,
    aims: Sequence[str],
    strength: Mapping[str, float],
) -> Iterator[tuple[str, ...]]:
    """Every pair and three worth asking for, in order of preference, each once."""
    order = {n: i for i, n in enumerate(schema.names)}
    names = sorted(strength, key=lambda n: (-strength[n], order[n]))
    pairs = [_in_order(pair, order) for pair in combinations(names, 2)]
    yield from (p for p in pairs if set(p) & set(aims))
    seen: set[frozenset[str]] = set()
    for x in names:
        for a, b in _contexts(lift, fairness):
            if x not in (a, b) and frozenset((a, x, b)) not in seen:
                seen.add(frozenset((a, x, b)))
                yield a, x, b
    rest = [p for p in pairs if not set(p) & set(aims)]
    yield from sorted(rest, key=lambda p: -strength[p[0]] * strength[p[1]])


def _in_order(pair: tuple[str, str], order: Mapping[str, int]) -> tuple[str, str]:
    first, second = sorted(pair, key=order.__getitem__)
    return first, second


def _contexts(lift: LiftConf | None, fairness: FairnessConf | None) -> Iterator[tuple[str, str]]:
    """The pairs of columns that a kept feature is crossed with in a three."""
    if lift is not None:
        yield from ((lift.membership, c) for c in lift.conversions)
    if fairness is not None:
        yield from ((s, fairness.label) for s in fairness.sensitive)


def _fitting(
    schema: JointSchema, wanted: Sequence[tuple[str, ...]], max_cells: int
) -> tuple[list[tuple[str, ...]], int]:
    """Those that fit into max_cells in their order, a too large one skipped; their cells."""
    taken, cells = [], 0
    for columns in wanted:
        query = table(schema, *columns)
        size = n_cells(schema, query) if query is not None else inf
        if cells + size <= max_cells:
            taken.append(columns)
            cells += int(size)
    return taken, cells
