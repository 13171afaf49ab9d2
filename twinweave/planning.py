"""From a run's configuration to its specification: which tables, with how much noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

from twinweave.config import RunConf
from twinweave.generators.cost import Cost
from twinweave.generators.plan import SgdPlan
from twinweave.generators.union import UnionLayout
from twinweave.passes import adapts, coins_of, least_share, selects, shares_of
from twinweave.privacy import accountant
from twinweave.privacy.allocation import SgdItem, WorkItem, calibrate, calibrate_within
from twinweave.privacy.events import Event, Stage
from twinweave.privacy.noise import Noise, OwnGaussian
from twinweave.protocols.products import kinds
from twinweave.protocols.training.plan import TrainingPlan
from twinweave.spec import RESERVE_UNITS, VERSION, RunSpec, TrainingSpec
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.schema import JointSchema
from twinweave.workload import adaptive, selection
from twinweave.workload.adaptive import Weights
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
    overlap = _overlap(conf)
    counting = overlap.events(analyses.schema) if overlap else ()
    first = _first_pass(conf)
    noise = _with_noise(conf, first or _evenly(conf, _tables(conf)), bool(first), counting)
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


def _first_pass(conf: RunConf) -> Weights:
    """The tables in view of which all others are chosen; none where one pass is enough.

    For up to two of three reasons: clips of values are chosen, and features are selected or every
    table is asked for as it is worth. A table has the importance of its reason.
    """
    analyses = conf.data.analyses
    clips = _evenly(conf, clip_queries(analyses))
    if selects(conf):
        coarse = selection.plan_selection(analyses, conf.selection)
        return {**clips, **_evenly(conf, coarse)}
    if not adapts(conf):
        return clips
    return _beside(conf, clips, adaptive.first_tables(analyses, conf.settled_workload))


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
        """Those that are measurements of the run like any other: all but those that features were
        selected by."""
        return tuple(m for m in self.measurements if not (self.selected and m.query.is_coarse))


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
    coarse = [m for m in found if m.query.is_coarse]
    adapted = adapts(conf)
    selected = select(coarse, analyses, conf.selection) if coarse and not adapted else None
    known = {m.query.name for m in found}
    if adapted:
        first = {q: own for q, own in _evenly(conf, _tables(conf)).items() if q.priority}
        worth = adaptive.second_tables(coarse, analyses, conf.settled_workload)
        tables = _beside(conf, first, worth)
    else:
        tables = _evenly(conf, _tables(conf, selected))
    tables = {q: own for q, own in tables.items() if q.name not in known}
    settled = spec.limit.bounded((*spec.tables.events(), *spec.evaluation(), *training))
    assert spec.reserve is not None
    # What is composed is rounded, so that it is looked at in all as well.
    noise = calibrate_within(
        spec.reserve,
        priority_share=least_share(conf, Stage.MEASUREMENT),
        items=_items(conf, tables, Stage.MEASUREMENT),
        coin_limit=coins_of(conf, Stage.MEASUREMENT),
        delta=spec.delta,
        fits=lambda own: accountant.epsilon((*settled, *own), spec.delta) <= spec.epsilon,
    )
    planned = _planned(tables, Stage.MEASUREMENT, noise.noise)
    clips = choose_clips(found, planned, analyses)
    return FirstPass(measurements=found, selected=selected, clips=clips), clipped(planned, clips)


def _beside(conf: RunConf, priority: Weights, shares: Weights) -> Weights:
    """Priority tables with their importance, then others with that which gives them these shares
    of what is left, as much in all as if they were of importance 1."""
    size = {q: float(cells_of(conf.data.schema, q).size ** (2 / 3)) for q in shares}
    scale = sum(size.values()) / sum(shares.values()) if shares else 0.0
    return {**priority, **{q: own * scale / size[q] for q, own in shares.items()}}


def _evenly(conf: RunConf, queries: Iterable[Query]) -> Weights:
    """The queries, each with the importance that it has by itself."""
    return {query: importance(conf.data.schema, query) for query in queries}


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
    conf: RunConf, tables: Weights, first: bool, counting: Sequence[Event]
) -> _FirstNoise:
    """The noise that each stage's share of the budget gives to what it releases.

    The training is stood in for, so that its share stays reserved too. counting: what the count
    of users in common costs.
    """
    stage = Stage.SELECTION if first else Stage.MEASUREMENT
    later, counts = [LATER] if first else [], _counts(conf)
    noise = calibrate(
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        shares=shares_of(conf),
        priority_share=least_share(conf, stage),
        items=[*_items(conf, tables, stage), *later, *counts],
        sgd=_nominal_training(conf),
        fixed=counting,
        coin_limit=coins_of(conf, stage),
    ).noise
    own = cast("Sequence[OwnGaussian]", noise[len(tables) :])  # they ask for no coins
    return _FirstNoise(
        tables=_planned(tables, stage, noise),
        reserved=own[0].noise_multiplier if later else None,
        evaluation=own[-1].noise_multiplier if counts else None,
    )


def _planned(
    queries: Iterable[Query], stage: Stage, noise: Sequence[Noise]
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


def _items(conf: RunConf, tables: Weights, stage: Stage) -> list[WorkItem]:
    schema, protocol = conf.data.schema, conf.protocol
    coins = protocol.noise == "coins" and protocol.cross_tables != "homomorphic"
    return [
        item_of(schema, query, stage, coins, protocol.colluding, own)
        for query, own in tables.items()
    ]


def _training(conf: RunConf) -> TrainingSpec | None:
    if conf.generator is None or not conf.trains:
        return None
    return TrainingSpec(
        generator=conf.generator.pinned().told(),
        colluding=conf.protocol.colluding,
        secure_sum=conf.protocol.secure_sum,
        unsafe=conf.privacy.unsafe,
    )


def plan_training(conf: RunConf, spec: RunSpec, rows: Mapping[str, int]) -> TrainingPlan:
    """Noise of the training, from all that the tables leave of epsilon; none in an unsafe run.

    Of the specification that the run begins with and of public table sizes, known since setup:
    so it is settled, or refused, before anything is released. Raises BudgetError.
    """
    generator = spec.trained.generator
    if spec.unsafe:
        bare = partial(SgdPlan.of, generator, noise_multiplier=0.0, unsafe=True)
        return TrainingPlan(parties={p: bare(rows=n) for p, n in rows.items()})
    rates = {p: SgdPlan.of(generator, rows=n, noise_multiplier=1.0) for p, n in rows.items()}
    noise = calibrate(
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        shares=conf.shares,
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
    drawn = (1 - (asked.mixture or 0)) * asked.rake.candidates * (asked.rows or people)
    most = conf.generator.most_candidates
    return conf.generator.cost(UnionLayout.of(schema), drawn=min(drawn, most or drawn))


def _nominal_training(conf: RunConf) -> list[SgdItem]:
    """Stand-in for the training while sizes are unknown: it reserves the training's share."""
    if conf.generator is None or not conf.shares[Stage.TRAINING]:
        return []
    return [
        SgdItem(
            party=unit[0], sampling_rate=NOMINAL_RATE, steps=conf.generator.steps, also=unit[1:]
        )
        for unit in conf.data.schema.units
    ]


def item_of(
    schema: JointSchema,
    query: Query,
    stage: Stage,
    coins: bool,
    colluding: int,
    weight: float | None = None,
) -> WorkItem:
    """What a table asks of the budget. coins: shared ones, where the table can have them.
    weight: its importance, None for that which it has by itself.

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
        importance=importance(schema, query) if weight is None else weight,
        coins=own if query.is_pooled else coins and query.is_cross,
        unknown=max(1, len(query.parties) - max(1, colluding)) if own else 0,
    )
