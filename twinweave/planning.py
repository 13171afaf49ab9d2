"""From a run's configuration to its specification: which tables, with how much noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from twinweave.config import RunConf
from twinweave.errors import ConfigError
from twinweave.generators.plan import SgdPlan
from twinweave.privacy.allocation import SgdItem, WorkItem, calibrate
from twinweave.privacy.events import Event, Stage
from twinweave.protocols.products import kinds
from twinweave.protocols.training.plan import TrainingPlan
from twinweave.spec import VERSION, RunSpec, TrainingSpec
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.schema import JointSchema
from twinweave.workload import selection
from twinweave.workload.choice import Choice, choose
from twinweave.workload.measurement import Measurement
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.priority import importance
from twinweave.workload.queries import Query, cells_of
from twinweave.workload.selection import FeatureScore
from twinweave.workload.tables import tables_to_measure

NOMINAL_RATE = 0.02
"""Sampling rate assumed before sizes are known; the final noise uses the true one."""


def plan(conf: RunConf, run: str) -> RunSpec:
    """Raises ConfigError or BudgetError when the configuration cannot be planned."""
    analyses = conf.data.analyses
    selects = _can_select(conf) and conf.selection.applies(analyses, conf.workload.max_pair_columns)
    if selects:
        queries = selection.plan_selection(analyses, conf.selection)
        stage = Stage.SELECTION
    else:
        queries, stage = _tables(conf, None), Stage.MEASUREMENT
    return RunSpec(
        version=VERSION,
        run=run,
        schema=analyses.schema,
        plan=_with_noise(conf, queries, stage),
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        alignment=conf.protocol.alignment,
        training=_training(conf),
        selects=selects,
        cross_tables=conf.protocol.cross_tables,
    )


def _can_select(conf: RunConf) -> bool:
    """Raises ConfigError where a product that cannot select features is told to."""
    able = kinds.can_select(conf.protocol.cross_tables)
    if not able and conf.selection.when == "always":
        raise ConfigError(
            "selection.when",
            "homomorphic tables are too few to select features by",
            "Use selection.when=never, or protocol.cross_tables=secret_sharing.",
        )
    return able


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
    analyses = conf.data.analyses
    scores = selection.score(found, analyses, conf.selection)
    choice = choose(scores, analyses, conf.selection)
    spent = spec.tables.events()
    tables = _with_noise(conf, _tables(conf, choice), Stage.MEASUREMENT, spent)
    return Selected(scores=scores, choice=choice, measurements=found), tables


def _tables(conf: RunConf, choice: Choice | None) -> tuple[Query, ...]:
    queries = tables_to_measure(conf.data.analyses, conf.workload, choice)
    return kinds.measurable(conf.protocol.cross_tables, queries)


def _with_noise(
    conf: RunConf, queries: tuple[Query, ...], stage: Stage, spent: Sequence[Event] = ()
) -> tuple[PlannedQuery, ...]:
    """The queries with the noise that their stage's share of the budget gives them.

    Stages that are planned later are stood in for, so that their share stays reserved.
    """
    schema = conf.data.schema
    coins = conf.protocol.noise == "coins" and conf.protocol.cross_tables != "homomorphic"
    later = stage is Stage.SELECTION
    noise = calibrate(
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        shares=conf.privacy.shares,
        priority_share=conf.privacy.priority_share,
        items=[
            *(_item(schema, query, stage, coins, conf.protocol.colluding) for query in queries),
            *([_LATER] if later else []),
        ],
        sgd=_nominal_training(conf),
        fixed=spent,
        coin_limit=conf.protocol.coin_limit,
    )
    return tuple(
        PlannedQuery(query=query, stage=stage, noise=own)
        for query, own in zip(queries, noise.noise, strict=False)
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

    rows: public table sizes, known since setup. spent: the events of all tables.
    Raises BudgetError.
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
        fixed=spent,
    )
    sigma = {p: s for unit, s in zip(spec.schema.units, noise.training, strict=True) for p in unit}
    plans = {p: replace(own, noise_multiplier=sigma[p]) for p, own in rates.items()}
    return TrainingPlan(parties=plans)


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


def _item(schema: JointSchema, query: Query, stage: Stage, coins: bool, colluding: int) -> WorkItem:
    """A reader of a pooled table who is one of its parties knows its own noise, so that one
    party's noise is not counted on even where nobody colludes."""
    return WorkItem(
        name=query.name,
        cells=cells_of(schema, query).size,
        parties=query.parties,
        stage=stage,
        priority=query.priority,
        sensitivity=VALUE_UNITS if query.weight else 1,
        importance=importance(schema, query),
        coins=query.weight is None and (query.is_pooled or (coins and query.is_cross)),
        unknown=max(1, len(query.parties) - max(1, colluding)) if query.is_pooled else 0,
    )
