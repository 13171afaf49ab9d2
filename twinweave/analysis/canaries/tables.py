"""Canaries in measured tables: users each of whom is alone in a cell of every table.

A canary run measures tables of one kind, with the noise that the run's own planning gives them
for all of the run's (epsilon, delta). Canaries are independent of each other, and what stands
between an observer and a canary is what stands between an observer and any user.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.canaries import kinds
from twinweave.analysis.canaries.kinds import TableKind
from twinweave.analysis.canaries.parties import Parties
from twinweave.analysis.canaries.trial import Trial, drawn, joined
from twinweave.config import RunConf
from twinweave.planning import LATER, item_of
from twinweave.privacy import accountant
from twinweave.privacy.allocation import WorkItem, calibrate, calibrate_within
from twinweave.privacy.events import Event, Stage
from twinweave.privacy.noise import Noise, OwnGaussian
from twinweave.spec import VERSION, RunSpec
from twinweave.tables.column import VALUE_UNITS
from twinweave.tables.schema import JointSchema
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query, Side

if TYPE_CHECKING:
    import pandas as pd


def table_trial(kind: TableKind, conf: RunConf, *, side: int, rng: np.random.Generator) -> Trial:
    """Canary runs of one kind of tables, each with side ** 2 canaries."""
    trials = []
    for _ in range(kind.runs):
        run = CanaryRun(kind=kind, conf=conf, side=side, included=drawn(side * side, rng))
        with tempfile.TemporaryDirectory() as folder:
            trials.append(run.trial(Path(folder)))
    return joined(trials)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """spec: with the tables of the pass. tables: as the reader sees them, in their order."""

    spec: RunSpec
    tables: list[NDArray[np.float64]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class CanaryRun:
    """included: (side ** 2,), who was put in."""

    kind: TableKind
    conf: RunConf
    side: int
    included: NDArray[np.bool_] = field(repr=False)

    def trial(self, folder: Path) -> Trial:
        """Measure, and say what was seen. folder: private, for the parties' files."""
        passes = self.measure(folder)
        return Trial(
            path=self.kind.name,
            events=tuple(e for done in passes for e in done.spec.tables.events()),
            delta=self.spec.delta,
            included=self.included,
            scores=np.sum([self._scores(d.spec.plan, d.tables) for d in passes], axis=0),
        )

    def measure(self, folder: Path) -> list[Pass]:
        """One pass through the protocols, or two."""
        spec = self.spec
        parties = Parties.of(spec, self._tables(), folder, self.kind.reader)
        slots = {p: np.flatnonzero(self._at(p)[self.included]) for p in spec.parties}
        members = parties.join(slots)
        passes = [Pass(spec=spec, tables=parties.measured(spec, members, slots))]
        if spec.two_passes:
            second = replace(spec, plan=self._second(spec))
            found = parties.measured(second, members, slots, step=1)
            passes.append(Pass(spec=second, tables=found))
        return passes

    @cached_property
    def spec(self) -> RunSpec:
        """Of the first pass, planned as `planning.plan` does for a run of these tables alone."""
        privacy, kind = self.conf.privacy, self.kind
        stage = Stage.SELECTION if kind.first else Stage.MEASUREMENT
        queries = kind.first or kind.queries
        found = calibrate(
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            shares=self.conf.shares if kind.first else {stage: 1.0},
            priority_share=privacy.priority_share,
            items=[*self._items(queries, stage), *([LATER] if kind.first else [])],
            coin_limit=self.conf.protocol.coin_limit,
        ).noise
        last = cast("OwnGaussian", found[-1])  # of a first pass: what is reserved asks for no coins
        reserved = last.noise_multiplier if kind.first else None
        return RunSpec(
            version=VERSION,
            run="canaries",
            schema=self._schema,
            plan=_planned(queries, stage, found),
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            alignment=self.conf.protocol.alignment,
            reserved=reserved,
            cross_tables=self.conf.protocol.cross_tables,
        )

    def _second(self, spec: RunSpec) -> tuple[PlannedQuery, ...]:
        """The tables of a second pass, within what the first reserved."""
        assert spec.reserve is not None
        settled = spec.tables.events()
        found = calibrate_within(
            spec.reserve,
            priority_share=self.conf.privacy.priority_share,
            items=self._items(self.kind.queries, Stage.MEASUREMENT),
            coin_limit=self.conf.protocol.coin_limit,
            delta=spec.delta,
            fits=lambda own: _fits((*settled, *own), spec),
        )
        return _planned(self.kind.queries, Stage.MEASUREMENT, found.noise)

    @cached_property
    def _schema(self) -> JointSchema:
        return kinds.schema_of(self.kind, self.side)

    def _items(self, queries: Sequence[Query], stage: Stage) -> list[WorkItem]:
        coins, protocol = self.kind.coins, self.conf.protocol
        return [item_of(self._schema, q, stage, coins, protocol.colluding) for q in queries]

    def _digits(self) -> dict[str, NDArray[np.int64]]:
        """Of every canary, by column."""
        number = np.arange(len(self.included))
        high, low = number // self.side, number % self.side
        return {kinds.HIGH: high, kinds.LOW: low, kinds.COARSE: 2 * high}

    def _at(self, party: str) -> NDArray[np.bool_]:
        """Canaries that the party holds, if they are put in; of a pool, every member some."""
        pool = self.kind.pool
        number = np.arange(len(self.included))
        return number % len(pool) == pool.index(party) if party in pool else number >= 0

    def _tables(self) -> dict[str, pd.DataFrame]:
        """Every party's table: the canaries that were put in."""
        import pandas as pd

        tables = {}
        for party in self.kind.parties:
            here = np.flatnonzero(self._at(party) & self.included)
            amounts = np.full(len(here), VALUE_UNITS)
            values = {name: digits[here] for name, digits in self._digits().items()}
            columns = {kinds.name_at(self.kind, party, n): v for n, v in values.items()}
            columns[kinds.name_at(self.kind, party, kinds.AMOUNT)] = amounts
            tables[party] = pd.DataFrame({kinds.KEY: [f"canary {i}" for i in here], **columns})
        return tables

    def _scores(
        self, plan: Sequence[PlannedQuery], tables: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Log-likelihood ratio of every canary, were the charged noise Gaussian: (canaries,)."""
        scores = np.zeros(len(self.included))
        for planned, table in zip(plan, tables, strict=True):
            cell = tuple(p for side in planned.query.sides for p in self._places(side).T)
            units = VALUE_UNITS if planned.query.weight else 1
            readers = 1 if self.kind.reader else len(planned.query.parties)
            variance = planned.noise.variance(readers)
            scores += units * (table[cell] - units / 2) / variance
        return scores

    def _places(self, side: Side) -> NDArray[np.int32]:
        """Every canary's place along each of the side's columns: (canaries, columns)."""
        digits = self._digits()
        codes = [digits[column.rpartition("_")[2]] for column in side.columns]
        return side.places(np.stack(codes, axis=1).astype(np.int32))


def _planned(
    queries: Sequence[Query], stage: Stage, noise: Sequence[Noise]
) -> tuple[PlannedQuery, ...]:
    pairs = zip(queries, noise, strict=False)  # what is reserved for later has no query
    return tuple(PlannedQuery(query=q, stage=stage, noise=own) for q, own in pairs)


def _fits(events: Sequence[Event], spec: RunSpec) -> bool:
    return accountant.epsilon(events, spec.delta) <= spec.epsilon
