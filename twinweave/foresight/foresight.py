"""The plan of a run before it begins: its tables, their noise, and what can be found with them.

Plans are those that the run will make (`planning`), so that the noise is the run's own. Nothing is
read of a table but how many rows it has, and nothing is spent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from twinweave.analysis.lift.design import Assumed, Foreseen, foresee
from twinweave.config import RunConf
from twinweave.foresight.assumptions import PlanConf, assumed_of, rows_of
from twinweave.foresight.search import Outlook, outlook
from twinweave.generators.cost import Cost
from twinweave.generators.earning import TrainingShare
from twinweave.passes import adapts
from twinweave.planning import generator_cost, plan, plan_second, plan_training
from twinweave.privacy.ledger import Ledger, finite
from twinweave.protocols.training.plan import TrainingPlan
from twinweave.spec import RunSpec
from twinweave.tables.column import value_unit
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import cells_of


@dataclass(frozen=True, kw_only=True)
class PlannedTable:
    """A table that the budget buys. noise_sd: in a cell, in users, or in the value's own unit.

    noise: the kind of its mechanism, as in ledger.json.
    """

    name: str
    stage: str
    priority: bool
    cells: int
    noise_sd: float
    noise: str


@dataclass(frozen=True, kw_only=True)
class Foresight:
    """A run as it is planned.

    assumed: sentences. outlooks: each outcome over all users; by_level: in short, by breakdowns.
    training: noise multiplier at each party, {} without one. training_share: what it gets, and
    why; None without a generator. spent: epsilon in all, and alone by stage, None
    for infinity. cost: of the
    generator, where it is worth saying.
    """

    data: str
    epsilon: float
    delta: float
    rows: Mapping[str, int]
    assumed: tuple[str, ...]
    outlooks: tuple[Outlook, ...]
    by_level: tuple[Foreseen, ...]
    tables: tuple[PlannedTable, ...]
    training: Mapping[str, float]
    training_share: TrainingShare | None
    spent: float | None
    spent_by_stage: Mapping[str, float | None]
    cost: Cost | None = None


def foresight(conf: RunConf, asked: PlanConf) -> Foresight:
    """Raises ConfigError, BudgetError, or SourceError where a table cannot be counted."""
    schema, used = conf.data.schema, 1 - conf.holdout
    lift = conf.data.lift.of_part(used) if conf.data.lift else None
    asked.check(schema, lift)
    tables = rows_of(conf, asked)
    rows = {party: round(n * used) for party, n in tables.items()}
    spec, later = _passes(conf, rows)
    training = plan_training(conf, spec, rows) if spec.training is not None else None
    ledger = _ledger(spec, later, training)
    said = [", ".join(_size(party, n, asked) for party, n in tables.items())]
    if conf.holdout:
        said.append(f"{conf.holdout:.0%} of the users set aside for the audit (audit=off: nobody)")
    if any(planned.query.is_coarse for planned in spec.plan):
        said.append(
            "no pair of columns shows more than another in the first pass"
            if adapts(conf)
            else "a selection keeps as many columns as it may"
        )
    if lift is not None and lift.chosen_clips:
        said.append(f"{', '.join(lift.chosen_clips)} clipped at the upper bound, not yet lower")
    outlooks: tuple[Outlook, ...] = ()
    by_level: tuple[Foreseen, ...] = ()
    if lift is not None:
        assumed, more = assumed_of(conf, lift, asked, rows)
        said += more
        outlooks, by_level = _outlooks(conf, lift, asked, rows, assumed)
    return Foresight(
        data=conf.data.name,
        epsilon=conf.privacy.epsilon,
        delta=conf.privacy.delta,
        rows=rows,
        assumed=tuple(said),
        outlooks=outlooks,
        by_level=by_level,
        tables=(*_counts(spec), *(_table(schema, planned) for planned in (*spec.plan, *later))),
        training={p: s.noise_multiplier for p, s in training.parties.items()} if training else {},
        training_share=conf.training,
        spent=finite(ledger.epsilon(conf.privacy.delta)),
        spent_by_stage={s: finite(e) for s, e in ledger.by_stage(conf.privacy.delta).items()},
        cost=generator_cost(conf, rows),
    )


def _outlooks(
    conf: RunConf, lift: LiftConf, asked: PlanConf, rows: Mapping[str, int], assumed: Assumed
) -> tuple[tuple[Outlook, ...], tuple[Foreseen, ...]]:
    """Over all users, with what would find more; and by breakdowns."""
    schema = conf.data.schema

    @cache
    def at(epsilon: float) -> tuple[Foreseen, ...]:
        other = replace(conf, privacy=replace(conf.privacy, epsilon=epsilon))
        spec, later = _passes(other, rows)
        kept = (planned for planned in spec.plan if not planned.query.is_coarse)
        return foresee(schema, lift, (*kept, *later), assumed)

    here = sum(rows[p] for p in schema.unit(schema.holders(lift.membership)[0]))
    budget = conf.privacy.epsilon, conf.privacy.delta
    found = at(conf.privacy.epsilon)
    overall = tuple(
        outlook(i, f, at, lift=asked.lifts.get(f.outcome), rows=here, budget=budget)
        for i, f in enumerate(found)
        if f.column is None
    )
    return overall, tuple(f for f in found if f.column is not None)


def _passes(conf: RunConf, rows: Mapping[str, int]) -> tuple[RunSpec, tuple[PlannedQuery, ...]]:
    """The specification, and the tables of its second pass; () without one.

    What a first pass will choose is not known. Taken is what leaves the lift the least: a selection
    keeps every column that it may, and amounts are clipped at their upper bound.
    """
    spec = plan(conf, "0" * 32)
    if not spec.two_passes:
        return spec, ()
    keen = replace(conf, selection=replace(conf.selection, threshold=-1e9))
    told = tuple(_untold(spec.schema, planned, max(rows.values())) for planned in spec.plan)
    return spec, plan_second(keen, spec, told)[1]


def _untold(schema: JointSchema, planned: PlannedQuery, users: int) -> Measurement:
    """A first pass's table that says nothing: the same number of users in every cell of a coarse
    one, nobody in one that a clip is chosen from."""
    cells = cells_of(schema, planned.query)
    each = users / cells.size if planned.query.is_coarse else 0.0
    values = np.full(cells.shape, each)
    return Measurement(query=planned.query, values=values, variance=planned.variance)


def _ledger(
    spec: RunSpec, later: tuple[PlannedQuery, ...], training: TrainingPlan | None
) -> Ledger:
    """What the run will release."""
    events = [*spec.tables.events(), *(planned.event for planned in later), *spec.evaluation()]
    if training is not None:
        events += training.events(spec.schema.units, spec.trained.generator.rounds)
    return Ledger(events=tuple(events))


def _counts(spec: RunSpec) -> tuple[PlannedTable, ...]:
    """The counts of users in common: every party adds noise of its own."""
    if spec.overlap is None:
        return ()
    noise_sd = spec.overlap.noise_multiplier * len(spec.parties) ** 0.5
    return tuple(
        PlannedTable(
            name=event.label,
            stage=event.stage.value,
            priority=False,
            cells=1,
            noise_sd=noise_sd,
            noise=type(event.mechanism).__name__,
        )
        for event in spec.tables.counting
    )


def _table(schema: JointSchema, planned: PlannedQuery) -> PlannedTable:
    query, unit = planned.query, 1.0
    if query.weight is not None:
        unit = value_unit(schema.column(query.weight), query.clip)
    return PlannedTable(
        name=planned.query.name,
        stage=planned.stage.value,
        priority=planned.query.priority,
        cells=cells_of(schema, planned.query).size,
        noise_sd=unit * planned.variance**0.5,
        noise=type(planned.event.mechanism).__name__,
    )


def _size(party: str, rows: int, asked: PlanConf) -> str:
    return f"{party} {rows:,} rows ({'stated' if party in asked.rows else 'counted'})"
