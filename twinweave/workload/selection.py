"""Which columns deserve tables with others: feature selection inside the protocol.

A run over many columns measures twice with the same machinery. First, under the `selection`
budget, a coarse table of every candidate feature by every target (membership, conversions,
label), at one party or across two: so the secure product is features x a few target positions
however wide the tables are. Then `score` ranks the features, `choice.choose` says which pairs
and three-way tables are worth measuring in full, and the measurement stage asks for those alone.
All but the first step is post-processing: it looks at noisy tables only.

Coarse, because a feature's signal against noise is what counts: the users of 16 levels in 4
groups stand against a quarter of the noise's variance (scripts/studies/selection.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import Literal

import numpy as np

from twinweave.errors import ConfigError
from twinweave.parsing import Parsed, check_not_negative, check_positive
from twinweave.tables.column import Role
from twinweave.workload.analyses import Analyses
from twinweave.workload.association import Association, any_of, associate
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, coarse, query_over


@dataclass(frozen=True, kw_only=True)
class SelectionConf(Parsed):
    """How features are selected (conf/selection).

    when: auto selects where the union has more columns than workload.max_pair_columns.
    keep: pinned features: always kept, and not measured for it.
    groups: of neighbouring codes to which every column of a selection table is coarsened.
    threshold: least combined z of a kept feature; 2 lets 1 in 44 unrelated features through.
    max_columns: kept in all, at most, targets and pinned ones included (those stay in any case).
    max_cells: of all pairs and three-way tables chosen together; the best come first.
    """

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
            raise ConfigError(
                "selection.groups",
                "a coarse table needs two groups or more",
                "Common choice: 2 to 4.",
            )
        if not isfinite(self.threshold):
            raise ConfigError("selection.threshold", "is not finite", "Common choice: 2.")
        check_positive("selection", self, "max_columns")
        check_not_negative("selection", self, "max_cells")

    def applies(self, analyses: Analyses, max_pair_columns: int) -> bool:
        """Whether a run selects. Raises ConfigError for an unknown pinned column, and where
        selection is asked for but there is no target to select for."""
        names = analyses.schema.names
        if unknown := [c for c in self.keep if c not in names]:
            raise ConfigError(
                "selection.keep",
                f"no party has a column {unknown[0]!r}",
                "Pin columns of the schema.",
            )
        if self.when == "never":
            return False
        possible = bool(analyses.targets and candidates(analyses, self))
        if self.when == "always" and not possible:
            raise ConfigError(
                "selection.when",
                "no target or no feature to select",
                "Give the data a lift or fairness block, or `never`.",
            )
        return possible and (self.when == "always" or len(names) > max_pair_columns)


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

    @property
    def strongest(self) -> Association | None:
        """The association with the largest z, None where all are lost in the noise."""
        return max((a for a in self.associations if a.df), key=lambda a: a.z, default=None)

    def with_target(self, target: str) -> Association | None:
        return next((a for a in self.associations if a.target == target), None)


LEVEL = 0.9
"""Of the intervals of ranks: two-sided, for each pair of features by itself."""

_QUANTILE = 1.6448536269514722


def pinned(analyses: Analyses, conf: SelectionConf) -> tuple[str, ...]:
    """Columns that are kept without a score: every one that is not a plain feature, in order of
    the targets first, then the analysis's, then the user's."""
    lift, fairness = analyses.lift, analyses.fairness
    named = [*analyses.targets, *(lift.breakdowns if lift else ())]
    named += fairness.sensitive if fairness else ()
    named += [c.name for c in analyses.schema.columns if c.role is not Role.FEATURE]
    return tuple(dict.fromkeys((*named, *conf.keep)))


def candidates(analyses: Analyses, conf: SelectionConf) -> tuple[str, ...]:
    """Features that selection decides about, in schema order."""
    fixed = set(pinned(analyses, conf))
    return tuple(n for n in analyses.schema.names if n not in fixed)


def plan_selection(analyses: Analyses, conf: SelectionConf) -> tuple[Query, ...]:
    """The coarse tables of the selection stage: every candidate by every target.

    Local where one party holds both. Left out where no two parties hold them.
    """
    wanted = [
        query_over(analyses.schema, feature, target)
        for feature in candidates(analyses, conf)
        for target in analyses.targets
    ]
    return tuple(coarse(analyses.schema, q, conf.groups) for q in wanted if q is not None)


def score(
    measurements: Iterable[Measurement], analyses: Analyses, conf: SelectionConf
) -> tuple[FeatureScore, ...]:
    """Every candidate's score, strongest first. measurements: of `plan_selection`'s queries.

    Associations are among users that both parties know, so presence itself is no association.
    A candidate without a measurement comes last, with no associations.
    """
    schema, wanted = analyses.schema, analyses.targets
    names = candidates(analyses, conf)
    found: dict[str, list[Association]] = {n: [] for n in names}
    for m in measurements:
        feature, target = m.query.columns
        if feature not in found:
            feature, target = target, feature
        if feature in found and target in wanted:
            table = m.table(schema).project((feature,), (target,))
            found[feature].append(associate(target, table.values, m.variance))
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
