"""Which tables are worth their noise, asked in two passes.

The first pass has a share of the tables' budget: every one-way table, every pair of columns in a
few groups of neighbouring levels, and the label by every two columns in fewer groups, which shows
what no pair does (an exclusive or has no marginal effect). The second asks each pair in
proportion to (cells x dependence)^(2/3), the shares of least total error where a table's error
counts as much as the table departs from what is known without it (after PrivSyn: Zhang et al.
2021, section 4.2), and the few three-way tables that the pairs miss. Nothing is wasted: coarse
tables are measurements like any other. The choice is post-processing of noisy tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from twinweave.tables.column import Role
from twinweave.workload.analyses import Analyses
from twinweave.workload.dependence import Dependence, between_two, beyond_pairs
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, cells_of, coarse, query_over
from twinweave.workload.tables import WorkloadConf, tables_to_measure

FEWEST = 5
"""Columns from which on there is something to choose among."""

FIRST = 0.35
"""Of what priority tables leave of the tables' budget, to the first pass."""

ONE_WAY, PAIRS, THREE_WAY = 5.0, 12.0, 13.0
"""How the first pass divides it: in proportion."""

PAIR_GROUPS, THREE_GROUPS = 5, 4

LEAST_Z = 3.0
"""Of an interaction that a three-way table is asked for: one in 740 without any passes."""

MOST_THREE = 12

FLOOR = 0.02
"""Dependence that any pair is taken to have: groups may hide some."""

Weights = Mapping[Query, float]
"""Tables to measure, and the share of the budget that each gets, in proportion."""


def first_tables(analyses: Analyses, conf: WorkloadConf) -> Weights:
    """The tables of the first pass, in order; their weights add up to 1 at most.

    What the analyses ask for themselves is left to the second pass, which is more precise.
    """
    schema = analyses.schema
    asked = [q for q in tables_to_measure(analyses, conf) if not q.priority]
    one_way = [q for q in asked if len(q.columns) == 1]
    pairs = [coarse(schema, q, PAIR_GROUPS) for q in asked if len(q.columns) == 2]
    three = _over(analyses, triples(analyses)) if conf.three_way else []
    three = [coarse(schema, q, THREE_GROUPS) for q in three]
    parts = ((one_way, ONE_WAY), (pairs, PAIRS), (three, THREE_WAY))
    whole = sum(part for found, part in parts if found)
    weights: dict[Query, float] = {}
    for found, part in parts:
        sizes = [cells_of(schema, q).size ** (2 / 3) for q in found]
        weights |= {q: part / whole * s / sum(sizes) for q, s in zip(found, sizes, strict=True)}
    return weights


def triples(analyses: Analyses) -> Iterator[tuple[str, str, str]]:
    """Whose interaction matters, each once: of every label with any two columns, of every
    membership and conversion with any third."""
    names, seen = analyses.schema.names, set[frozenset[str]]()
    hubs = [(label, other) for label in _labels(analyses) for other in names]
    for first, second in (*hubs, *analyses.contrasts):
        for third in names:
            found = frozenset((first, second, third))
            if len(found) == 3 and found not in seen:
                seen.add(found)
                yield first, second, third


def _labels(analyses: Analyses) -> tuple[str, ...]:
    """Those of the audit and by role."""
    named = [c.name for c in analyses.schema.with_role(Role.LABEL)]
    audited = [analyses.fairness.label] if analyses.fairness else []
    return tuple(dict.fromkeys((*audited, *named)))


def second_tables(found: Sequence[Measurement], analyses: Analyses, conf: WorkloadConf) -> Weights:
    """What to ask beside the priority tables and what the first pass has measured. found: its
    tables. Deterministic."""
    schema = analyses.schema
    seen = dependences(found, analyses)
    every = tables_to_measure(analyses, conf)
    known = {frozenset(q.columns) for q in every if q.priority}
    chosen = [q for q in every if not q.priority and _is_kept(q, analyses)]
    three = [
        q
        for q in (_over(analyses, triples(analyses)) if conf.three_way else [])
        if _of(seen, q).z >= LEAST_Z
        and cells_of(schema, q).size <= conf.max_cells
        and frozenset(q.columns) not in known
    ]
    chosen += sorted(three, key=lambda q: -_of(seen, q).z)[:MOST_THREE]
    tables = {frozenset(q.columns): q for q in chosen}
    return {
        q: (cells_of(schema, q).size * max(_of(seen, q).phi, FLOOR)) ** (2 / 3)
        for q in tables.values()
    }


def _is_kept(query: Query, analyses: Analyses) -> bool:
    """Pairs, and what shows the audit how the label differs by two sensitive columns together."""
    audit = analyses.fairness
    audited = {*audit.sensitive, audit.label} if audit else set[str]()
    return len(query.columns) == 2 or (len(query.columns) == 3 and audited >= {*query.columns})


def dependences(
    found: Sequence[Measurement], analyses: Analyses
) -> dict[frozenset[str], Dependence]:
    """Of the columns of every coarse table, among users whose cells are all known."""
    out = {}
    for m in found:
        columns = m.query.columns
        if m.query.weight is None and len(set(columns)) == len(columns) and len(columns) > 1:
            table = m.table(analyses.schema).project(*((c,) for c in columns))
            judge = between_two if len(columns) == 2 else beyond_pairs
            out[frozenset(columns)] = judge(table.values, m.variance)
    return out


def _of(seen: Mapping[frozenset[str], Dependence], query: Query) -> Dependence:
    return seen.get(frozenset(query.columns), Dependence(phi=0.0, z=0.0))


def _over(analyses: Analyses, tables: Iterator[tuple[str, ...]]) -> list[Query]:
    """A query over each tuple of columns that two parties hold between them."""
    found = (query_over(analyses.schema, *columns) for columns in tables)
    return [q for q in found if q is not None]
