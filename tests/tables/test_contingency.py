"""Tables with named axes against brute force: one user at a time, one cell at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from twinweave.tables.contingency import Axis, Cells, Contingency

GONE = "absent"


@dataclass
class World:
    """A table's cells, and users as {column: code}, with the axes that they are present on."""

    cells: Cells
    users: list[tuple[dict[str, int], tuple[bool, ...]]]

    def slow(self, weights: NDArray[np.float64] | None = None) -> dict[tuple[Any, ...], float]:
        """{(what stands on each axis): users}: codes of an axis's columns, or GONE."""
        places = [
            [*product(*map(range, a.sizes)), *([GONE] if a.absent else [])] for a in self.cells.axes
        ]
        table = dict.fromkeys(product(*places), 0.0)
        for i, (row, held) in enumerate(self.users):
            pairs = zip(self.cells.axes, held, strict=True)
            at = tuple(tuple(row[n] for n in a.names) if here else GONE for a, here in pairs)
            table[at] += 1 if weights is None else weights[i]
        return table

    def places(self) -> NDArray[Any]:
        """What the code finds, given each axis's codes as arrays, and who is present."""
        found = []
        for i, axis in enumerate(self.cells.axes):
            codes = np.array([[row[n] for n in axis.names] for row, _ in self.users], dtype=int)
            held = np.array([held[i] for _, held in self.users], dtype=bool)
            codes = codes.reshape(len(self.users), len(axis.names))
            found.append(axis.positions(np.where(held[:, None], codes, -1), held))
        return self.cells.of(found)

    def table(self, variance: float | NDArray[np.float64]) -> Contingency:
        counts = self.cells.count(self.places()).astype(float)
        return Contingency(cells=self.cells, values=counts, variance=variance)


@st.composite
def worlds(draw: Callable[..., Any]) -> World:
    names = iter("uvwxyz")
    axes = []
    for _ in range(draw(st.integers(1, 2))):
        sizes = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
        absent = draw(st.sampled_from([None, GONE]))
        axes.append(Axis(names=tuple(next(names) for _ in sizes), sizes=sizes, absent=absent))
    cells = Cells(axes=tuple(axes))
    users = []
    for _ in range(draw(st.integers(0, 12))):
        row = {
            n: draw(st.integers(0, s - 1))
            for a in axes
            for n, s in zip(a.names, a.sizes, strict=True)
        }
        held = tuple(a.absent is None or draw(st.booleans()) for a in axes)
        if any(held) or len(axes) == 1:
            users.append((row, held))
    return World(cells, users)


def names_of(world: World) -> list[str]:
    return [name for axis in world.cells.axes for name in axis.names]


def nobody(world: World) -> bool:
    return len(world.cells.axes) == 2 and all(a.absent for a in world.cells.axes)


def variances(world: World) -> NDArray[Any]:
    """A different one in every cell."""
    return (np.arange(world.cells.size) + 1.0).reshape(world.cells.shape)


@given(worlds())
def test_rows_are_counted_where_brute_force_counts_them(world: World) -> None:
    weights = np.arange(len(world.users)) + 0.5
    counts = world.cells.count(world.places())
    assert counts.dtype == np.int64
    assert counts.shape == world.cells.shape
    assert counts.ravel().tolist() == list(world.slow().values())
    summed = world.cells.count(world.places(), weights)
    assert summed.ravel().tolist() == pytest.approx(list(world.slow(weights).values()))


@given(worlds())
def test_opened_cells_are_all_but_nobodys(world: World) -> None:
    cells, table = world.cells, variances(world)
    opened = cells.opened(table)
    assert cells.n_opened == len(opened) == cells.size - nobody(world)
    whole = cells.table(opened)
    assert whole.shape == cells.shape
    assert whole.ravel().tolist() == [*opened, *[0.0] * nobody(world)]
    assert cells.table(table.ravel()).tolist() == table.tolist()
    with pytest.raises(ValueError, match="cells for a table"):
        cells.table(np.zeros(cells.size + 1))


@given(worlds())
def test_positions_and_codes_undo_each_other(world: World) -> None:
    cells = world.cells
    places = cells.positions()
    assert cells.of(list(places.T)).tolist() == list(range(cells.n_opened))
    for axis in cells.axes:
        gone = [[-1] * len(axis.sizes)] if axis.absent else []
        assert axis.codes().tolist() == [*map(list, product(*map(range, axis.sizes))), *gone]
        held = np.arange(axis.size) < axis.present
        assert axis.positions(axis.codes(), held).tolist() == list(range(axis.size))


@given(worlds())
def test_labels_name_what_stands_in_each_cell(world: World) -> None:
    levels = {
        n: [f"{n}{i}" for i in range(s)]
        for a in world.cells.axes
        for n, s in zip(a.names, a.sizes, strict=True)
    }

    def said(axis: Axis, place: Any) -> str:
        if place == GONE:
            return GONE
        return ", ".join(f"{n}={n}{c}" for n, c in zip(axis.names, place, strict=True))

    expected = [
        ", ".join(t for a, p in zip(world.cells.axes, cell, strict=True) if (t := said(a, p)))
        for cell in world.slow()
    ]
    assert world.cells.labels(levels) == expected


@given(worlds(), st.data())
def test_projection_sums_who_has_the_columns_and_the_noise(world: World, data: Any) -> None:
    names = data.draw(st.permutations(names_of(world)))
    names = names[: data.draw(st.integers(0, len(names)))]
    cut = data.draw(st.integers(0, len(names)))
    axes = tuple(names[:cut]), tuple(names[cut:])
    values: dict[Any, float] = {}
    noise: dict[Any, float] = {}
    of_cell = variances(world).ravel()
    for i, (cell, count) in enumerate(world.slow().items()):
        row: dict[str, int] = {}
        for axis, place in zip(world.cells.axes, cell, strict=True):
            if place != GONE:
                row |= dict(zip(axis.names, place, strict=True))
        if set(names) <= set(row):
            at = tuple(row[n] for n in names)
            values[at] = values.get(at, 0.0) + count
            noise[at] = noise.get(at, 0.0) + of_cell[i] * (set(cell) != {GONE} or len(cell) == 1)
    found = world.table(variances(world)).project(*axes)
    assert [a.names for a in found.cells.axes] == list(axes)
    assert found.values.shape == found.cells.shape
    order = sorted(values)  # row-major over the columns in the order asked
    assert found.values.ravel().tolist() == [values[at] for at in order]
    assert found.variances.ravel().tolist() == [noise[at] for at in order]


@given(worlds())
def test_present_and_absent_share_out_the_table(world: World) -> None:
    """Of a table across two: everyone is at both, at the first alone, or at the second alone."""
    table = world.table(2.0)
    parts = [table.present()]
    axes = world.cells.axes
    parts += [table.absent(i) for i, a in enumerate(axes) if a.absent and len(axes) == 2]
    slow = world.slow()
    gone = [sum(n for cell, n in slow.items() if cell[i] == GONE) for i in range(len(axes))]
    assert parts[0].total[0] == sum(n for cell, n in slow.items() if GONE not in cell)
    assert [p.total[0] for p in parts[1:]] == [
        g for g, a in zip(gone, axes, strict=True) if a.absent and len(axes) == 2
    ]
    if len(axes) == 2:
        assert sum(p.total[1] for p in parts) == table.total[1] == 2.0 * world.cells.n_opened


@given(worlds(), st.integers(0, 1))
def test_users_on_one_axis_alone_are_those_absent_from_the_other(world: World, axis: int) -> None:
    axes = world.cells.axes
    if len(axes) == 2:
        counts = np.arange(axes[axis].present) + 1.0
        table = world.cells.alone(axis, counts)
        if axes[1 - axis].absent is None:
            assert not table.any()
        else:
            found = Contingency(cells=world.cells, values=table, variance=1.0).absent(1 - axis)
            assert found.values.tolist() == counts.tolist()
            assert table.sum() == counts.sum()


@given(worlds())
def test_projecting_twice_is_projecting_once(world: World) -> None:
    table = world.table(3.0)
    for some in combinations(names_of(world), 2):
        for axes in permutations(some):
            once = table.project(axes)
            twice = table.project(tuple(sorted(some))).project(axes)
            # Whoever has both columns is left in either way.
            assert once.values.tolist() == twice.values.tolist()
            assert once.variances.tolist() == twice.variances.tolist()


def test_what_does_not_fit_is_refused() -> None:
    cells = Cells(axes=(Axis(names=("x",), sizes=(3,)),))
    with pytest.raises(ValueError, match="for a table of"):
        Contingency(cells=cells, values=np.zeros((3, 1)), variance=1.0)
    with pytest.raises(ValueError, match="'y'"):
        Contingency(cells=cells, values=np.zeros(3), variance=1.0).project(("x", "y"))
    with pytest.raises(ValueError, match="absent"):
        cells.axes[0].positions(np.zeros((2, 1), dtype=int), np.array([True, False]))


@given(worlds(), st.data())
def test_a_table_over_some_columns_keeps_everyone(world: World, data: Any) -> None:
    names = data.draw(st.sets(st.sampled_from(names_of(world) or ["none"])))
    kept = [a for a in world.cells.axes if a.absent or names & set(a.names)]
    values: dict[Any, float] = {}
    noise: dict[Any, float] = {}
    of_cell = world.table(variances(world)).variances.ravel()
    for i, (cell, count) in enumerate(world.slow().items()):
        at = tuple(
            (1,)
            if place == GONE
            else (0, *(c for n, c in zip(a.names, place, strict=True) if n in names))
            for a, place in zip(world.cells.axes, cell, strict=True)
            if a in kept
        )
        values[at] = values.get(at, 0.0) + count
        noise[at] = noise.get(at, 0.0) + of_cell[i]
    found = world.table(variances(world)).over(sorted(names))
    assert [set(a.names) for a in found.cells.axes] == [names & set(a.names) for a in kept]
    order = sorted(values)  # row-major, absent last
    assert found.values.ravel().tolist() == [values[at] for at in order]
    assert found.variances.ravel().tolist() == [noise[at] for at in order]
