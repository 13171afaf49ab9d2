"""Plans of tables for whole runs: single tables with a noise of choice, or with next to none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from twinweave.privacy.events import Stage
from twinweave.privacy.noise import Noise, OwnGaussian
from twinweave.tables.column import VALUE_UNITS
from twinweave.workload.plan import PlannedQuery
from twinweave.workload.queries import Query, Side

Plan = tuple[PlannedQuery, ...]


def table(*sides: Side, noise: Noise) -> PlannedQuery:
    return PlannedQuery(query=Query(sides=sides), stage=Stage.MEASUREMENT, noise=noise)


def silent(plan: Iterable[PlannedQuery]) -> Plan:
    """The same tables with next to no noise: every cell comes out exact."""
    return tuple(replace(p, noise=_next_to_none(bool(p.query.weight))) for p in plan)


def _next_to_none(weighted: bool) -> OwnGaussian:
    """Noise of sd 1/100 in a table's own units, counts or value units."""
    units = VALUE_UNITS if weighted else 1
    return OwnGaussian(noise_multiplier=1e-2 / units, sensitivity=units)
