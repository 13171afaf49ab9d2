"""Design effect of clusters (households, stores) on an arm's rate, from noisy random groups.

Users of one cluster are alike, and share an arm where clusters were randomised: an arm's total
then varies more than that of independent users, by the design effect (Kish 1965, Survey Sampling,
section 8.2; Donner & Klar 2000, Design and Analysis of Cluster Randomization Trials, ch. 1). The
method of random groups (Mahalanobis 1946; Wolter 2007, Introduction to Variance Estimation, ch. 2)
estimates it from totals alone: a hash puts whole clusters into G groups, and an arm's G totals
spread as clusters do, whatever their number and sizes. One user is in one cell, as in any table.
`random_groups.py` has the estimate; here is what it is asked for, of each arm's noisy table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from twinweave.analysis.lift.arms import POSITIVE
from twinweave.analysis.lift.intervals import Rate
from twinweave.analysis.lift.random_groups import (
    INDEPENDENT,
    Effect,
    Spread,
    spread,
)
from twinweave.analysis.lift.reconcile import Floats
from twinweave.analysis.lift.results import Clustering, ClusterSize, DesignEffect
from twinweave.errors import ConfigError
from twinweave.tables.column import GROUPS
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement


@dataclass(frozen=True, kw_only=True)
class ArmRates:
    """One arm: its levels of the membership, users by conversion and by who holds them.

    conversions: by column. held: by the first party of each unit.
    """

    levels: tuple[str, ...]
    size: float
    conversions: Mapping[str, Rate] = field(default_factory=dict)
    held: Mapping[str, Rate] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Effects:
    """Design effects by outcome.

    of_sizes: of the arms' sizes, and of every outcome that no table tells of. spreads: by
    conversion, and by `held_by` for the share that a party holds.
    """

    of_sizes: Effect = INDEPENDENT
    spreads: Mapping[str, Spread] = field(default_factory=dict)

    def of(self, outcome: str) -> Effect:
        return replace(self.of_sizes, own=self.spreads.get(outcome))


NO_EFFECTS = Effects()


def held_by(party: str) -> str:
    """The outcome that is to be one of a party's users; no column is called so."""
    return f"held by {party}"


def clustering(
    schema: JointSchema,
    conf: LiftConf,
    measurements: Sequence[Measurement],
    arms: Sequence[ArmRates],
) -> tuple[Effects, Clustering | None]:
    """What to reckon with, and what to report of it; None for independent users.

    arms: those that are large enough to show. Raises ConfigError where clusters are named and no
    table counts a conversion by arm and random group.
    """
    if conf.design_effect is not None:
        declared = Effects(of_sizes=Effect(declared=conf.design_effect))
        return declared, _declared(conf, conf.design_effect)
    if conf.cluster is None or not arms:
        return NO_EFFECTS, None
    tables = [_GroupTable.of(schema, conf, m, arms) for m in measurements if _grouped(conf, m)]
    if not tables:
        raise ConfigError(
            "workload",
            f"no table counts {conf.membership!r} by random groups of {conf.cluster!r}",
            "Ask for it among the priority queries.",
        )
    values, variances = _averaged(t.total for t in tables)
    sizes = spread(values, variances, np.array([a.size for a in arms]))
    clusters = np.array([a.size for a in arms]) / max(sizes.value, 1.0)
    spreads = {
        t.conversion: _share_spread(
            t.total, t.inside, [a.conversions[t.conversion] for a in arms], clusters
        )
        for t in tables
    }
    for party in {t.party: None for t in tables if t.party}:
        own = [t for t in tables if t.party == party]
        total, inside = _averaged(t.total for t in own), _averaged(t.present for t in own)
        rates = [a.held[party] for a in arms]
        spreads[held_by(party)] = _share_spread(total, inside, rates, clusters)
    found = Effects(of_sizes=Effect(size=sizes), spreads=spreads)
    names = (*conf.conversions, *conf.values, *(n for n in spreads if n not in conf.conversions))
    told = Clustering(
        column=conf.cluster,
        groups=GROUPS,
        size=ClusterSize(
            value=sizes.value,
            standard_error=sizes.standard_error,
            used=found.of_sizes.at(conf.level),
        ),
        effects=tuple(_told(found, name, conf.level) for name in names),
    )
    return found, told


def _declared(conf: LiftConf, effect: float) -> Clustering:
    effects = (
        DesignEffect(
            outcome=name, estimate=None, standard_error=None, used=effect, basis="declared"
        )
        for name in (*conf.conversions, *conf.values)
    )
    return Clustering(column=None, groups=None, size=None, effects=tuple(effects))


def _told(effects: Effects, outcome: str, level: float) -> DesignEffect:
    effect = effects.of(outcome)
    return DesignEffect(
        outcome=outcome,
        estimate=None if effect.own is None else effect.own.value,
        standard_error=None if effect.own is None else effect.own.standard_error,
        used=effect.at(level),
        basis="estimate" if effect.is_estimated(level) else "bound",
    )


Noisy = tuple[Floats, Floats]
"""Counts (arms, groups), and the variance of the noise in each of them, of the same shape."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _GroupTable:
    """One table of arm, random group and conversion: users in all, converted, and held.

    party: first of the unit that holds the conversion, "" where the membership's does.
    """

    conversion: str
    party: str
    total: Noisy
    inside: Noisy
    present: Noisy

    @classmethod
    def of(
        cls, schema: JointSchema, conf: LiftConf, m: Measurement, arms: Sequence[ArmRates]
    ) -> _GroupTable:
        assert conf.cluster is not None
        name = next(c for c in conf.conversions if c in m.query.columns)
        table, labels = m.table(schema), schema.column(conf.membership).labels
        picked = [[labels.index(level) for level in arm.levels] for arm in arms]
        own = ((conf.membership,), (conf.cluster,))

        def by_arm(counts: Floats, noise: Floats) -> Noisy:
            values, variances = (
                np.stack([x[levels].sum(axis=0) for levels in picked]) for x in (counts, noise)
            )
            return values, variances

        everyone, told = table.project(*own), table.project(*own, (name,))
        home = schema.holders(conf.membership)[0]
        others = [side.party for side in m.query.sides if home not in side.members]
        return cls(
            conversion=name,
            party=others[0] if others else "",
            total=by_arm(everyone.values, everyone.variances),
            inside=by_arm(told.values[..., POSITIVE], told.variances[..., POSITIVE]),
            present=by_arm(told.values.sum(axis=-1), told.variances.sum(axis=-1)),
        )


def _grouped(conf: LiftConf, m: Measurement) -> bool:
    return conf.cluster in m.query.columns and any(c in m.query.columns for c in conf.conversions)


def _averaged(found: Iterable[Noisy]) -> Noisy:
    """Several noisy tellings of the same counts, by precision."""
    values, variances = map(np.stack, zip(*found, strict=True))
    precision = (1 / variances).sum(axis=0)
    return (values / variances).sum(axis=0) / precision, 1 / precision


def _share_spread(total: Noisy, inside: Noisy, rates: Sequence[Rate], clusters: Floats) -> Spread:
    """Of the groups' residuals, inside - share * total, over what independent users would have."""
    p = np.array([min(max(r.total, 0.0), r.n) + 1 for r in rates]) / ([r.n + 2 for r in rates])
    share = p[:, None]
    (users, of_users), (counted, of_counted) = total, inside
    residuals = (1 - share) * counted - share * (users - counted)
    noise = (1 - share) ** 2 * of_counted + share**2 * (of_users - of_counted)
    independent = np.array([r.n for r in rates]) * p * (1 - p)
    return spread(residuals, noise, independent, clusters)
