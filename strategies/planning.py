"""From a run's configuration to its specification: which tables, with how much noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from twinweave.config import RunConf
from twinweave.generators.plan import SgdPlan
from twinweave.privacy import selection, workload
from twinweave.privacy.allocation import SgdItem, WorkItem, calibrate
from twinweave.privacy.events import DiscreteGaussian, Event, PoissonSgd, SharedBinomial, Stage
from twinweave.privacy.measurement import Measurement
from twinweave.privacy.selection import Choice, FeatureScore
from twinweave.spec import VERSION, PlannedQuery, RunSpec, TrainingPlan, TrainingSpec
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.query import Query, n_cells
from twinweave.tables.schema import JointSchema

NOMINAL_RATE = 0.02
"""Sampling rate assumed before sizes are known; the final noise uses the true one."""


def plan(conf: RunConf, run: str) -> RunSpec:
    """Raises ConfigError or BudgetError when the configuration cannot be planned."""
    schema, data = conf.data.schema, conf.data
    selects = conf.selection.applies(
        schema, data.lift, data.fairness, conf.workload.max_pair_columns
    )
    if selects:
        queries = selection.plan_selection(schema, data.lift, data.fairness, conf.selection)
        stage = Stage.SELECTION
    else:
        queries, stage = _tables(conf, None), Stage.MEASUREMENT
    return RunSpec(
        version=VERSION,
        run=run,
        schema=schema,
        plan=_with_noise(conf, queries, stage),
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        alignment=conf.protocol.alignment,
        training=_training(conf),
        selects=selects,
    )


@dataclass(frozen=True, kw_only=True)
class Selected:
    """A selection's findings: post-processing of its coarse tables."""

    scores: tuple[FeatureScore, ...]
    choice: Choice
    measurements: tuple[Measurement, ...] = field(repr=False)


def select(
    conf: RunConf, spec: RunSpec, found: tuple[Measurement, ...]
) -> tuple[Selected, tuple[PlannedQuery, ...]]:
    """From the coarse tables to the second plan. Raises BudgetError."""
    data = conf.data
    terms = (spec.schema, data.lift, data.fairness, conf.selection)
    scores = selection.score(found, *terms)
    choice = selection.choose(scores, *terms)
    spent = [planned.event for planned in spec.plan]
    tables = _with_noise(conf, _tables(conf, choice), Stage.MEASUREMENT, spent)
    return Selected(scores=scores, choice=choice, measurements=found), tables


def _tables(conf: RunConf, choice: Choice | None) -> tuple[Query, ...]:
    return workload.build(
        conf.data.schema,
        lift=conf.data.lift,
        fairness=conf.data.fairness,
        choice=choice,
        **asdict(conf.workload),
    )


def _with_noise(
    conf: RunConf, queries: tuple[Query, ...], stage: Stage, spent: Sequence[Event] = ()
) -> tuple[PlannedQuery, ...]:
    """The queries with the noise that their stage's share of the budget gives them.

    Stages that are planned later are stood in for, so that their share stays reserved.
    """
    schema = conf.data.schema
    coins = conf.protocol.noise == "coins"
    later = stage is Stage.SELECTION
    noise = calibrate(
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        shares=conf.privacy.shares,
        priority_share=conf.privacy.priority_share,
        items=[
            *(_item(schema, query, coins, stage) for query in queries),
            *([_LATER] if later else []),
        ],
        sgd=_nominal_training(conf),
        fixed=spent,
        coin_limit=conf.protocol.coin_limit,
    )
    return tuple(
        _planned(query, stage, event.mechanism)
        for query, event in zip(queries, noise.tables, strict=False)
    )


_LATER = WorkItem(name="tables chosen later", cells=1, parties=("everyone",))


def _training(conf: RunConf) -> TrainingSpec | None:
    if conf.generator is None or not conf.generator.rounds:
        return None
    return TrainingSpec(
        generator=conf.generator,
        colluding=conf.protocol.colluding,
        secure_sum=conf.protocol.secure_sum,
    )


def plan_training(
    conf: RunConf, spec: RunSpec, rows: Mapping[str, int], spent: Sequence[Event]
) -> TrainingPlan:
    """Noise of the training, from all that the tables leave of epsilon.

    rows: public table sizes, known since setup. spent: the events of all tables. Raises BudgetError.
    """
    assert spec.training is not None
    generator = spec.training.generator
    rates = {p: SgdPlan.of(generator, rows=n, noise_multiplier=1.0) for p, n in rows.items()}
    noise = calibrate(
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        shares=conf.privacy.shares,
        priority_share=conf.privacy.priority_share,
        items=[],
        sgd=[
            SgdItem(party=p, sampling_rate=r.sampling_rate, steps=generator.steps)
            for p, r in rates.items()
        ],
        fixed=spent,
    )
    plans = {}
    for party, event in zip(rows, noise.training, strict=True):
        assert isinstance(event.mechanism, PoissonSgd)
        plans[party] = replace(rates[party], noise_multiplier=event.mechanism.noise_multiplier)
    return TrainingPlan(parties=plans)


def _nominal_training(conf: RunConf) -> list[SgdItem]:
    """Stand-in for the training while sizes are unknown: it reserves the training's share."""
    if conf.generator is None or not conf.generator.rounds:
        return []
    return [
        SgdItem(party=p.name, sampling_rate=NOMINAL_RATE, steps=conf.generator.steps)
        for p in conf.data.parties
    ]


def _item(schema: JointSchema, query: Query, coins: bool, stage: Stage) -> WorkItem:
    return WorkItem(
        name=query.name,
        cells=n_cells(schema, query),
        parties=query.parties,
        stage=stage,
        priority=query.priority,
        sensitivity=VALUE_UNITS if query.weight else 1,
        coins=coins and query.is_cross and query.weight is None,
    )


def _planned(query: Query, stage: Stage, mechanism: object) -> PlannedQuery:
    assert isinstance(mechanism, (DiscreteGaussian, SharedBinomial))
    return PlannedQuery(query=query, stage=stage, mechanism=mechanism)
