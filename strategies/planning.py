"""From a run's configuration to its specification: which tables, with how much noise."""

from __future__ import annotations

from dataclasses import asdict

from twinweave.config import RunConf
from twinweave.privacy import workload
from twinweave.privacy.allocation import WorkItem, calibrate
from twinweave.privacy.events import DiscreteGaussian, SharedBinomial, Stage
from twinweave.spec import VERSION, PlannedQuery, RunSpec
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.query import Query, n_cells
from twinweave.tables.schema import JointSchema


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
    )


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
