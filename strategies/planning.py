"""From a run's configuration to its specification: which tables, with how much noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from twinweave.config import RunConf
from twinweave.generators.plan import SgdPlan
from twinweave.privacy import workload
from twinweave.privacy.allocation import SgdItem, WorkItem, calibrate
from twinweave.privacy.events import DiscreteGaussian, PoissonSgd, SharedBinomial, Stage
from twinweave.spec import VERSION, PlannedQuery, RunSpec, TrainingPlan, TrainingSpec
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.query import Query, n_cells
from twinweave.tables.schema import JointSchema

NOMINAL_RATE = 0.02
"""Sampling rate assumed before sizes are known; the final noise uses the true one."""


def plan(conf: RunConf, run: str) -> RunSpec:
    """Raises ConfigError or BudgetError when the configuration cannot be planned."""
    schema = conf.data.schema
    queries = workload.build(
        schema, lift=conf.data.lift, fairness=conf.data.fairness, **asdict(conf.workload)
    )
    coins = conf.protocol.noise == "coins"
    noise = calibrate(
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        shares=conf.privacy.shares,
        priority_share=conf.privacy.priority_share,
        items=[_item(schema, query, coins) for query in queries],
        sgd=_nominal_training(conf),
        coin_limit=conf.protocol.coin_limit,
    )
    return RunSpec(
        version=VERSION,
        run=run,
        schema=schema,
        plan=tuple(
            _planned(query, event.mechanism)
            for query, event in zip(queries, noise.tables, strict=True)
        ),
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        alignment=conf.protocol.alignment,
        training=(
            TrainingSpec(
                generator=conf.generator,
                colluding=conf.protocol.colluding,
                secure_sum=conf.protocol.secure_sum,
            )
            if conf.generator and conf.generator.rounds
            else None
        ),
    )


def plan_training(conf: RunConf, spec: RunSpec, rows: Mapping[str, int]) -> TrainingPlan:
    """Noise of the training, from all that the planned tables leave of epsilon.

    rows: public table sizes, known since setup. Raises BudgetError.
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
        fixed=[planned.event for planned in spec.plan],
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


def _item(schema: JointSchema, query: Query, coins: bool) -> WorkItem:
    return WorkItem(
        name=query.name,
        cells=n_cells(schema, query),
        parties=query.parties,
        priority=query.priority,
        sensitivity=VALUE_UNITS if query.weight else 1,
        coins=coins and query.is_cross and query.weight is None,
    )


def _planned(query: Query, mechanism: object) -> PlannedQuery:
    assert isinstance(mechanism, (DiscreteGaussian, SharedBinomial))
    return PlannedQuery(query=query, stage=Stage.MEASUREMENT, mechanism=mechanism)
