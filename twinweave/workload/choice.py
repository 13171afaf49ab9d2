"""What is worth measuring in full once features are scored: columns, pairs, three-way tables.

The rule is the project's own and is documented at `choose`. Post-processing of noisy tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import inf

from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import Analyses
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import cells_of, query_over
from twinweave.workload.selection import FeatureScore, SelectionConf, pinned, score


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A feature that keeps its one-way table only, and why."""

    column: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the measurement stage asks beside the priority tables and all one-way tables.

    pinned: columns kept without a score: targets, sensitive and value columns, breakdowns, and
        `selection.keep`. kept: features, strongest first.
    by_target: target -> kept features that are associated with it by themselves.
    pairs, three_way: columns of the tables to measure, best first. unmeasured: how many tables
        of kept columns did not fit into max_cells.
    """

    pinned: tuple[str, ...]
    kept: tuple[str, ...]
    by_target: Mapping[str, tuple[str, ...]]
    pairs: tuple[tuple[str, str], ...] = field(repr=False)
    three_way: tuple[tuple[str, str, str], ...] = field(repr=False)
    dropped: tuple[Dropped, ...]
    cells: int
    unmeasured: int


@dataclass(frozen=True, kw_only=True)
class Selected:
    """What a feature selection found: post-processing of its coarse tables."""

    scores: tuple[FeatureScore, ...]
    choice: Choice


def select(found: Sequence[Measurement], analyses: Analyses, conf: SelectionConf) -> Selected:
    """found: the tables of `selection.plan_selection`."""
    scores = score(found, analyses, conf)
    return Selected(scores=scores, choice=choose(scores, analyses, conf))


def choose(scores: Sequence[FeatureScore], analyses: Analyses, conf: SelectionConf) -> Choice:
    """What to measure in full. Deterministic; looks at scores and public facts alone.

    Features: the strongest with z at least conf.threshold, as far as conf.max_columns leaves
    room beside the pinned columns. Tables, while they fit into conf.max_cells: first every kept
    column by every target, then (membership, x, conversion) and (sensitive, x, label),
    then the remaining pairs of kept columns, by the product of their z; a pinned column
    counts as strong as the strongest feature.
    """
    fixed = pinned(analyses, conf)
    room = max(0, conf.max_columns - len(fixed))
    passing = [s for s in scores if s.associations and s.z >= conf.threshold and _seen(s)]
    best = passing[:room]
    kept = tuple(s.column for s in best)
    by_target = {
        t: tuple(s.column for s in best if _is_for(s, t, conf.threshold)) for t in analyses.targets
    }
    strength = {s.column: max(s.z, 0.0) for s in best}
    strength |= dict.fromkeys(fixed, max(strength.values(), default=1.0))
    wanted = list(_tables(analyses, strength))
    taken, cells = _fitting(analyses.schema, wanted, conf.max_cells)
    return Choice(
        pinned=fixed,
        kept=kept,
        by_target=by_target,
        pairs=tuple((t[0], t[1]) for t in taken if len(t) == 2),
        three_way=tuple((t[0], t[1], t[2]) for t in taken if len(t) == 3),
        dropped=tuple(_dropped(s, conf) for s in scores if s.column not in kept),
        cells=cells,
        unmeasured=len(wanted) - len(taken),
    )


def _seen(score: FeatureScore) -> bool:
    return any(a.df for a in score.associations)


def _is_for(score: FeatureScore, target: str, threshold: float) -> bool:
    found = score.with_target(target)
    return found is not None and found.df > 0 and found.z >= threshold


def _dropped(score: FeatureScore, conf: SelectionConf) -> Dropped:
    if not score.associations:
        reason = "no two parties hold it and a target"
    elif not _seen(score):
        reason = "lost in the noise: hardly any users share a level"
    elif score.z < conf.threshold:
        reason = f"no sign of an association: z below {conf.threshold:g}"
    else:
        reason = f"weaker than the {conf.max_columns} columns that are kept"
    return Dropped(column=score.column, reason=reason)


def _tables(analyses: Analyses, strength: Mapping[str, float]) -> Iterator[tuple[str, ...]]:
    """Every pair and three-way table worth asking for, in order of preference, each once."""
    order = {n: i for i, n in enumerate(analyses.schema.names)}
    aims = set(analyses.targets)
    names = sorted(strength, key=lambda n: (-strength[n], order[n]))
    pairs = [_in_order(pair, order) for pair in combinations(names, 2)]
    yield from (p for p in pairs if aims & set(p))
    seen: set[frozenset[str]] = set()
    for x in names:
        for a, b in analyses.contrasts:
            if x not in (a, b) and frozenset((a, x, b)) not in seen:
                seen.add(frozenset((a, x, b)))
                yield a, x, b
    rest = [p for p in pairs if not aims & set(p)]
    yield from sorted(rest, key=lambda p: -strength[p[0]] * strength[p[1]])


def _in_order(pair: tuple[str, str], order: Mapping[str, int]) -> tuple[str, str]:
    first, second = sorted(pair, key=order.__getitem__)
    return first, second


def _fitting(
    schema: JointSchema, wanted: Sequence[tuple[str, ...]], max_cells: int
) -> tuple[list[tuple[str, ...]], int]:
    """Those that fit into max_cells in their order, a too large one skipped; their cells."""
    taken, cells = [], 0
    for columns in wanted:
        query = query_over(schema, *columns)
        size = cells_of(schema, query).size if query is not None else inf
        if cells + size <= max_cells:
            taken.append(columns)
            cells += int(size)
    return taken, cells
