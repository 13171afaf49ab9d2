"""Which tables a run measures: the priority ones, and one-way tables, pairs, three-way tables.

Post-processing needs every query to be one linear query on the union; see workload/queries.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from twinweave.errors import ConfigError
from twinweave.parsing import Parsed, check_not_negative
from twinweave.tables.column import Role
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import Analyses
from twinweave.workload.choice import Choice
from twinweave.workload.priority import priority_tables
from twinweave.workload.queries import Query, cells_of, check, query_over, side_of


@dataclass(frozen=True, kw_only=True)
class WorkloadConf(Parsed):
    """Which tables are measured beside the priority ones (conf/workload).

    scope: `priority` asks for the tables of the analyses alone, `all` for the others too. `auto`:
        whichever the run has a use for (`settled`).
    one_way: every column by itself, where others are asked for.
    pairs: pairs of columns, likewise.
    three_way: tables of three columns, likewise.
    adaptive: in two passes, the second as the first shows their worth (workload/adaptive.py).
        `auto`: where rows are learnt from the tables and a choice among all pairs can be made.
    max_pair_columns: all pairs of columns up to so many columns; beyond, only pairs with a
        membership, conversion, label or sensitive column.
    max_cells: tables larger than this are left out, and named in the log and the summary.
    """

    scope: Literal["auto", "priority", "all"]
    one_way: bool
    pairs: bool
    three_way: bool
    max_pair_columns: int
    max_cells: int
    adaptive: Literal["auto", "always", "never"] = "auto"

    def __post_init__(self) -> None:
        check_not_negative("workload", self, "max_pair_columns", "max_cells")

    def settled(self, analyses: Analyses, *, generates: bool, selects: bool) -> WorkloadConf:
        """The same with `auto` decided: all tables where they have a use, or are all there is.

        generates: rows are to be made, which are learnt from tables of every column. selects:
        features are to be selected in any case, which is for the sake of tables of features.
        Raises ConfigError where only priority tables are asked for, and more is needed or none is
        there.
        """
        some = bool(priority_tables(analyses))
        if self.scope == "auto":
            more = generates or selects or self.adaptive == "always" or not some
            return replace(self, scope="all" if more else "priority")
        if self.scope == "priority":
            if self.adaptive == "always":
                rule = "asks for the tables of the analyses alone, but workload.adaptive=always"
                raise ConfigError("workload.scope", rule, "Use workload=all, or adaptive=auto.")
            _check_enough(some=some, generates=generates, selects=selects)
        return self


def _check_enough(*, some: bool, generates: bool, selects: bool) -> None:
    """Raise ConfigError where priority tables alone do not do. some: there are any."""
    if not some:
        rule = "asks for the tables of the analyses alone, and the data declare no analysis"
        raise ConfigError("workload.scope", rule, "Use workload=all, or declare data.lift.")
    if generates:
        rule = "asks for the tables of the analyses alone, but rows are learnt from all columns'"
        raise ConfigError("workload.scope", rule, "Use workload=all, or generator=none.")
    if selects:
        rule = "asks for the tables of the analyses alone, but selection.when=always for others"
        raise ConfigError("workload.scope", rule, "Use workload=all, or selection=none.")


def tables_to_measure(
    analyses: Analyses, conf: WorkloadConf, choice: Choice | None = None
) -> tuple[Query, ...]:
    """Distinct queries in a deterministic order, priority first; no other above `max_cells`.

    choice: of a feature selection: its pairs and three-way tables in place of the usual ones.
    """
    wanted = _wanted(analyses, conf, choice)
    return tuple(q for q in wanted if not _too_large(analyses.schema, conf, q))


def left_out(
    analyses: Analyses, conf: WorkloadConf, choice: Choice | None = None
) -> tuple[str, ...]:
    """Names of the tables that are not measured for being larger than `max_cells`."""
    wanted = _wanted(analyses, conf, choice)
    return tuple(q.name for q in wanted if _too_large(analyses.schema, conf, q))


def _too_large(schema: JointSchema, conf: WorkloadConf, query: Query) -> bool:
    return not query.priority and cells_of(schema, query).size > conf.max_cells


def _wanted(analyses: Analyses, conf: WorkloadConf, choice: Choice | None) -> tuple[Query, ...]:
    """Every table that is worth asking for, each once, of whatever size."""
    schema = analyses.schema
    wanted = priority_tables(analyses)
    everything = conf.scope != "priority"
    if everything and conf.one_way:
        wanted += _one_way(schema)
    if everything and conf.pairs:
        wanted += _over(schema, choice.pairs if choice else _pairs(schema, conf.max_pair_columns))
    if everything and conf.three_way:
        wanted += _over(schema, choice.three_way if choice else _three_way(analyses))
    kept: dict[str, Query] = {}
    for query in wanted:
        check(schema, query)
        kept.setdefault(_key(query), query)
    return tuple(kept.values())


def _key(query: Query) -> str:
    """The same for queries that ask the same table, whatever the order of sides and columns."""
    return repr(
        (sorted((s.party, sorted(s.columns)) for s in query.sides), query.weight, query.clip)
    )


def _over(schema: JointSchema, tables: Iterable[tuple[str, ...]]) -> list[Query]:
    """A query over each tuple of columns that two parties hold between them."""
    found = (query_over(schema, *columns) for columns in tables)
    return [q for q in found if q is not None]


def _one_way(schema: JointSchema) -> list[Query]:
    held = ((unit, name) for unit in schema.units for name in schema.schema(unit[0]).names)
    return [Query(sides=(side_of(unit, (name,)),)) for unit, name in held]


def _pairs(schema: JointSchema, max_columns: int) -> Iterator[tuple[str, str]]:
    hubs = {
        c.name
        for role in (Role.MEMBERSHIP, Role.CONVERSION, Role.LABEL, Role.SENSITIVE)
        for c in schema.with_role(role)
    }
    every = len(schema.names) <= max_columns
    return (p for p in combinations(schema.names, 2) if every or hubs & set(p))


def _three_way(analyses: Analyses) -> Iterator[tuple[str, str, str]]:
    """Of the audit: how the label's relation to a sensitive column differs by any other."""
    if (fairness := analyses.fairness) is None:
        return
    for sensitive in fairness.sensitive:
        for x in analyses.schema.names:
            if x not in (sensitive, fairness.label):
                yield sensitive, x, fairness.label
