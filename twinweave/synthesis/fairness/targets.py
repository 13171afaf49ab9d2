"""What tables should say once labels are fair: of the measured ones, and of groups by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.fairness.groups import NO_CELL, Groups
from twinweave.synthesis.fairness.offsets import Scored
from twinweave.synthesis.population import NOWHERE, row_cells
from twinweave.synthesis.tilting import Constraint
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query

MOST_CELLS = 400
"""Of a constraint: its optimum takes time as their number cubed."""

MOST_SCORES = 10
"""Parts of equal weight that a cell's rows are divided into by their logits."""

Vector = NDArray[np.float64]
Index = NDArray[np.int64]
Bools = NDArray[np.bool_]


def scores(groups: Groups, rows: Scored) -> Index:
    """Which of a cell's parts by logit each row is in, as cell * parts + part; NO_CELL if none.

    A label rate that is met in every part is met by a model that sees all columns too, and not
    only on average over people whom it tells apart.
    """
    parts = int(np.clip(MOST_CELLS // max(2 * len(groups), 1), 1, MOST_SCORES))
    found = np.full(len(rows.logits), NO_CELL, dtype=np.int64)
    for cell in range(len(groups)):
        inside = np.flatnonzero(groups.cell == cell)
        inside = inside[np.argsort(rows.logits[inside], kind="stable")]
        share = np.cumsum(rows.weights[inside])
        part = (parts * share / share[-1]).astype(np.int64).clip(max=parts - 1)
        found[inside] = cell * parts + part
    return found


def reweighted(rows: Scored, wanted: Vector, groupings: Sequence[Index]) -> Vector:
    """Weights under which labels have the chances wanted, (rows,): sum 1, every part's as it was.

    wanted: chance of a positive label, given the row and its own label (`Scored.moved`).
    groupings: parts of each, met in turn (iterative proportional fitting) where there are several.
    """
    found = rows.weights
    for _ in range(ROUNDS if len(groupings) > 1 else 1):
        for parts in groupings:
            inside = parts != NO_CELL
            if not inside.any():
                continue
            place = np.where(inside, 2 * parts + rows.positive, 0)
            aim = _aim(rows, wanted, parts, int(parts.max(initial=-1)) + 1)
            now = np.bincount(place[inside], found[inside], len(aim))
            factor = np.divide(aim, now, out=np.ones_like(aim), where=now > 0)
            found = np.where(inside, found * factor[place], found)
    return np.asarray(found / found.sum())


ROUNDS = 20
"""Over several groupings."""


def _aim(rows: Scored, wanted: Vector, parts: Index, size: int) -> Vector:
    """Weight of negative and positive labels in every part: (2 * parts,)."""
    inside = parts != NO_CELL
    own = rows.weights[inside]
    positive = np.bincount(parts[inside], own * wanted[inside], size)
    negative = np.bincount(parts[inside], own, size) - positive
    return np.asarray(np.stack([negative, positive], axis=1).ravel(), dtype=np.float64)


def constraint(
    name: str, aim: tuple[Scored, Vector, Index], users: float, now: tuple[Index, Bools]
) -> Constraint:
    """Labels in every part as wanted, met to a person.

    aim: rows, chances wanted and parts, as for `reweighted`. now: part and label of the rows that
    are to be weighed, which may be others.
    """
    rows, wanted, parts = aim
    size = int(parts.max(initial=-1)) + 1
    place, positive = now
    cells = np.where(place == NO_CELL, NOWHERE, 2 * place + positive)
    return Constraint(
        name=name,
        cells=cells.astype(np.int32),
        target=_aim(rows, wanted, parts, size),
        variance=np.full(2 * size, 1 / users**2),
        priority=True,
    )


def fair_tables(
    measurements: Sequence[Measurement],
    label: str,
    layout: UnionLayout,
    users: float,
    before: tuple[Rows, Vector],
    after: tuple[Rows, Vector],
) -> list[Measurement]:
    """The measurements as they should be met: those with the label differ as the rows now do.

    before, after: weighted rows, with labels as measured and as they should be. Whatever else the
    noisy tables say of the label stays.
    """
    found = []
    for m in measurements:
        if label in m.query.columns and m.query.weight is None:
            shape = m.values.shape
            now, was = (weighted_counts(m.query, shape, layout, *rows) for rows in (after, before))
            m = replace(m, values=m.values + users * (now - was))
        found.append(m)
    return found


def weighted_counts(
    query: Query, shape: tuple[int, ...], layout: UnionLayout, rows: Rows, weights: Vector
) -> Vector:
    """What the rows weigh in each cell of the query's table, of its shape."""
    cells = row_cells(query, layout, rows)
    counted = cells != NOWHERE
    found = query.sides_alone(shape).count(cells[counted].astype(np.int64), weights[counted])
    return np.asarray(found.reshape(shape), dtype=np.float64)
