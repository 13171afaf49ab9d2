"""From a run's configuration to its specification: which tables, with how much noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from twinweave.config import RunConf
from twinweave.errors import ConfigError
from twinweave.generators.cost import Cost
from twinweave.generators.plan import SgdPlan
from twinweave.generators.union import UnionLayout
from twinweave.privacy import accountant
from twinweave.privacy.allocation import SgdItem, WorkItem, calibrate, calibrate_within
from twinweave.privacy.events import Event, Stage
from twinweave.privacy.noise import Noise, OwnGaussian
from twinweave.protocols.products import kinds
from twinweave.protocols.training.plan import TrainingPlan
from twinweave.spec import RESERVE_UNITS, VERSION, RunSpec, TrainingSpec
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.schema import JointSchema
from twinweave.workload import selection
from twinweave.workload.audit import COUNTED, HIT_CELLS, AuditPlan
from twinweave.workload.choice import Selected, select
from twinweave.workload.clip import choose_clips, clip_queries, clipped
from twinweave.workload.measurement import Measurement
from twinweave.workload.overlap import SHARE, OverlapCheck, counted
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.priority import importance
from twinweave.workload.queries import Query, cells_of
from twinweave.workload.tables import left_out, tables_to_measure

NOMINAL_RATE = 0.02
"""Sampling rate assumed before sizes are known; the final noise uses the true one."""


def plan(conf: RunConf, run: str) -> RunSpec:
    """Raises ConfigError or BudgetError when the configuration cannot be planned."""
    analyses = conf.data.analyses
    first = _first_pass(conf)
    overlap = _overlap(conf)
    counting = overlap.events(analyses.schema) if overlap else ()
    if first:
        noise = _with_noise(conf, first, Stage.SELECTION, counting)
    else:
        noise = _with_noise(conf, _tables(conf), Stage.MEASUREMENT, counting)
    return RunSpec(
        version=VERSION,
        run=run,
        schema=analyses.schema,
        plan=noise.tables,
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        alignment=conf.protocol.alignment,
        training=_training(conf),
        reserved=noise.reserved,
        cross_tables=conf.protocol.cross_tables,
        overlap=overlap,
        audit=_audit(conf, noise.evaluation),
    )


def _overlap(conf: RunConf) -> OverlapCheck | None:
    """The counts of users in common, for their small share of the budget; None for one pool."""
    counts = len(counted(conf.data.schema))
    if not counts:
        return None
    mu = accountant.gaussian_mu(conf.privacy.epsilon, conf.privacy.delta)
    return OverlapCheck(noise_multiplier=float(f"{math.sqrt(counts / SHARE) / mu:.9g}"))


def _first_pass(conf: RunConf) -> tuple[Query, ...]:
    """The tables in view of which all others are chosen; none where one pass is enough.

    For two reasons, in one run maybe both: features are selected, or clips of values.
    """
    analyses = conf.data.analyses
    coarse = selection.plan_selection(analyses, conf.selection) if _selects(conf) else ()
    return (*clip_queries(analyses), *coarse)


def _selects(conf: RunConf) -> bool:
    """Whether features are selected, which is for tables of theirs alone.

    Raises ConfigError where a product that cannot select features is told to.
    """
    able = kinds.can_select(conf.protocol.cross_tables)
    if not able and conf.selection.when == "always":
        raise ConfigError(
            "selection.when",
            "homomorphic tables are too few to select features by",
            "Use selection.when=never, or protocol.cross_tables=secret_sharing.",
        )
    workload = conf.settled_workload
    applies = conf.selection.applies(conf.data.analyses, workload.max_pair_columns)
    return able and applies and workload.scope == "all"


@dataclass(frozen=True, kw_only=True)
class FirstPass:
    """What a first pass found, and what follows from it: post-processing of its noisy tables.

    selected: the features, where they are selected. clips: {value column: clip chosen}.
    """

    measurements: tuple[Measurement, ...] = field(repr=False)
    selected: Selected | None
    clips: Mapping[str, float]

    @property
    def kept(self) -> tuple[Measurement, ...]:
        """Those that are measurements of the run like any other; coarse ones are not."""
        return tuple(m for m in self.measurements if not is_coarse(m.query))


def is_coarse(query: Query) -> bool:
    """Whether its table is to select features by, and no measurement of the run."""
    return any(side.groups for side in query.sides)


def plan_second(
    conf: RunConf,
    spec: RunSpec,
    found: tuple[Measurement, ...],
    training: Sequence[Event] = (),
) -> tuple[FirstPass, tuple[PlannedQuery, ...]]:
    """From a first pass to the second plan, within what the specification reserves for it.

    What the first pass has measured is not asked again. Noise is planned before clips are chosen:
    it is in units, of which a clip has always as many. training: what the planned training
    releases. Raises BudgetError.
    """
    analyses = conf.data.analyses
    coarse = [m for m in found if is_coarse(m.query)]
    selected = select(coarse, analyses, conf.selection) if coarse else None
    known = {m.query.name for m in found}
    queries = tuple(q for q in _tables(conf, selected) if q.name not in known)
    settled = (*spec.tables.events(), *spec.evaluation(), *training)
    assert spec.reserve is not None
    # What is composed is rounded, so that it is looked at in all as well.
    noise = calibrate_within(
        spec.reserve,
        priority_share=conf.privacy.priority_share,
        items=_items(conf, queries, Stage.MEASUREMENT),
        coin_limit=conf.protocol.coin_limit,
        delta=spec.delta,
        fits=lambda own: accountant.epsilon((*settled, *own), spec.delta) <= spec.epsilon,
    )
    tables = _planned(queries, Stage.MEASUREMENT, noise.noise)
    clips = choose_clips(found, tables, analyses)
    return FirstPass(measurements=found, selected=selected, clips=clips), clipped(tables, clips)


def _tables(conf: RunConf, selected: Selected | None = None) -> tuple[Query, ...]:
    choice = selected.choice if selected else None
    queries = tables_to_measure(conf.data.analyses, conf.settled_workload, choice)
    return kinds.measurable(conf.protocol.cross_tables, queries)


def too_large(conf: RunConf, first: FirstPass | None) -> tuple[str, ...]:
    """Names of the tables that a run leaves out for having more than workload.max_cells cells."""
    choice = first.selected.choice if first and first.selected else None
    return left_out(conf.data.analyses, conf.settled_workload, choice)


@dataclass(frozen=True, kw_only=True)
class _FirstNoise:
    """The first plan's tables; and noise multipliers: of a first pass, reserved for the tables of
    later; of the counts of an audit, where it makes any."""

    tables: tuple[PlannedQuery, ...]
    reserved: float | None
    evaluation: float | None


def _with_noise(
    conf: RunConf, queries: tuple[Query, ...], stage: Stage, counting: Sequence[Event]
) -> _FirstNoise:
    """The noise that each stage's share of the budget gives to what it releases.

    The training is stood in for, so that its share stays reserved too. counting: what the count
    of users in common costs.
    """
    later = [LATER] if stage is Stage.SELECTION else []
    counts = _counts(conf)
    noise = calibrate(
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        shares=conf.privacy.shares,
        priority_share=conf.privacy.priority_share,
        items=[*_items(conf, queries, stage), *later, *counts],
        sgd=_nominal_training(conf),
        fixed=counting,
        coin_limit=conf.protocol.coin_limit,
    ).noise
    own = cast("Sequence[OwnGaussian]", noise[len(queries) :])  # they ask for no coins
    return _FirstNoise(
        tables=_planned(queries, stage, noise),
        reserved=own[0].noise_multiplier if later else None,
        evaluation=own[-1].noise_multiplier if counts else None,
    )


def _planned(
    queries: tuple[Query, ...], stage: Stage, noise: Sequence[Noise]
) -> tuple[PlannedQuery, ...]:
    return tuple(
        PlannedQuery(query=query, stage=stage, noise=own)
        for query, own in zip(queries, noise, strict=False)
    )


LATER = WorkItem(
    name="tables chosen later", cells=1, parties=("everyone",), sensitivity=RESERVE_UNITS
)


def _counts(conf: RunConf) -> list[WorkItem]:
    """What the audit may tell the server, for the evaluation stage's share; [] without one."""
    if not conf.audits or not conf.privacy.shares.get(Stage.EVALUATION):
        return []
    return [
        WorkItem(
            name=f"audit at {party}: {name}",
            cells=HIT_CELLS,
            parties=(party,),
            stage=Stage.EVALUATION,
        )
        for party in conf.data.schema.parties
        for name in COUNTED
    ]


def _audit(conf: RunConf, noise: float | None) -> AuditPlan | None:
    if not conf.audits:
        return None
    return AuditPlan(
        mode=conf.audit.mode,
        holdout=conf.audit.holdout,
        threshold=conf.audit.threshold,
        counted=COUNTED if noise is not None else (),
        noise_multiplier=noise,
        verdict=conf.audit.gate == "parties",
        quasi_identifiers=conf.audit.quasi_identifiers,
        k=conf.audit.k,
    )


def _items(conf: RunConf, queries: Sequence[Query], stage: Stage) -> list[WorkItem]:
    schema, protocol = conf.data.schema, conf.protocol
    coins = protocol.noise == "coins" and protocol.cross_tables != "homomorphic"
    return [item_of(schema, query, stage, coins, protocol.colluding) for query in queries]


def _training(conf: RunConf) -> TrainingSpec | None:
    if conf.generator is None or not conf.generator.rounds:
        return None
    return TrainingSpec(
        generator=conf.generator.pinned(),
        colluding=conf.protocol.colluding,
        secure_sum=conf.protocol.secure_sum,
    )


def plan_training(conf: RunConf, spec: RunSpec, rows: Mapping[str, int]) -> TrainingPlan:
    """Noise of the training, from all that the tables leave of epsilon.

    Of the specification that the run begins with and of public table sizes, known since setup:
    so it is settled, or refused, before anything is released. Raises BudgetError.
    """
    generator = spec.trained.generator
    rates = {p: SgdPlan.of(generator, rows=n, noise_multiplier=1.0) for p, n in rows.items()}
    noise = calibrate(
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        shares=conf.privacy.shares,
        priority_share=conf.privacy.priority_share,
        items=[],
        sgd=[
            SgdItem(
                party=unit[0],
                sampling_rate=max(rates[p].sampling_rate for p in unit),
                steps=generator.steps,
                also=unit[1:],
            )
            for unit in spec.schema.units
        ],
        fixed=[*spec.tables.events(), *spec.later, *spec.evaluation()],
    )
    sigma = {p: s for unit, s in zip(spec.schema.units, noise.training, strict=True) for p in unit}
    plans = {p: replace(own, noise_multiplier=sigma[p]) for p, own in rates.items()}
    return TrainingPlan(parties=plans)


def generator_cost(conf: RunConf, rows: Mapping[str, int]) -> Cost | None:
    """What the run's generator costs on this machine; None where that is minutes at most.

    rows: of each party's table. Raises ConfigError for a checkpoint that may not be used.
    """
    if conf.generator is None:
        return None
    schema, asked = conf.data.schema, conf.synthesis
    people = max(sum(rows[party] for party in unit) for unit in schema.units)
    drawn = (1 - asked.mixture) * asked.rake.candidates * (asked.rows or people)
    return conf.generator.cost(UnionLayout.of(schema), drawn=drawn)


def _nominal_training(conf: RunConf) -> list[SgdItem]:
    """Stand-in for the training while sizes are unknown: it reserves the training's share."""
    if conf.generator is None or not conf.generator.rounds:
        return []
    return [
        SgdItem(
            party=unit[0], sampling_rate=NOMINAL_RATE, steps=conf.generator.steps, also=unit[1:]
        )
        for unit in conf.data.schema.units
    ]


def item_of(
    schema: JointSchema, query: Query, stage: Stage, coins: bool, colluding: int
) -> WorkItem:
    """What a table asks of the budget. coins: shared ones, where the table can have them.

    A reader of a pooled table who is one of its parties knows its own noise, so that one
    party's noise is not counted on even where nobody colludes. Sums over a pool have Gaussian
    noise of every party."""
    own = query.is_pooled and query.weight is None
    return WorkItem(
        name=query.name,
        cells=cells_of(schema, query).size,
        parties=query.parties,
        stage=stage,
        priority=query.priority,
        sensitivity=VALUE_UNITS if query.weight else 1,
        importance=importance(schema, query),
        coins=own if query.is_pooled else coins and query.is_cross,
        unknown=max(1, len(query.parties) - max(1, colluding)) if own else 0,
    )
