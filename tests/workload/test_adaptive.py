"""What is asked in two passes: the budget's division, and that structure is found where it is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.statistics import p_normal
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.adaptive import (
    FLOOR,
    MOST_THREE,
    ONE_WAY,
    PAIRS,
    THREE_WAY,
    first_tables,
    second_tables,
)
from twinweave.workload.analyses import Analyses, FairnessConf
from twinweave.workload.dependence import between_two, beyond_pairs
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, cells_of
from twinweave.workload.tables import WorkloadConf

CONF = WorkloadConf(
    scope="all", one_way=True, pairs=True, three_way=True, max_pair_columns=30, max_cells=20_000
)
N = 6000


def _column(name: str, size: int, role: Role = Role.FEATURE, **more: Any) -> Column:
    levels = tuple(str(i) for i in range(size))
    return Column(name=name, kind=Kind.CATEGORICAL, role=role, levels=levels, **more)


KEY = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
SEX = _column("sex", 2, Role.SENSITIVE, shared=True)
SCHEMA = JointSchema(
    schemas=(
        Schema(
            party="a",
            columns=(KEY, SEX, *(_column(f"a{i}", 10) for i in range(4))),
        ),
        Schema(
            party="b",
            columns=(
                KEY,
                SEX,
                *(_column(f"b{i}", 10) for i in range(4)),
                _column("label", 2, Role.LABEL),
            ),
        ),
    )
)
AUDIT = FairnessConf(sensitive=("sex",), label="label", positive="1")
ANALYSES = Analyses(schema=SCHEMA, lift=None, fairness=AUDIT)


def people(rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """a1 goes with a0; the label is the exclusive or of a2 high and b2 high; the rest is free."""
    codes = {c.name: rng.integers(0, c.size, N) for c in SCHEMA.columns}
    codes["a1"] = np.where(rng.random(N) < 0.5, codes["a0"], codes["a1"])
    codes["label"] = ((codes["a2"] > 4) ^ (codes["b2"] > 4) ^ (rng.random(N) < 0.05)).astype(int)
    return codes


def measured(
    codes: dict[str, NDArray[np.int64]], queries: Sequence[Query], sd: float, seed: int
) -> list[Measurement]:
    """Tables of people whom both parties hold."""
    rng = np.random.default_rng(seed)
    out = []
    for query in queries:
        cells = cells_of(SCHEMA, query)
        sides = [
            side.places(np.stack([codes[c] for c in side.columns], axis=1)) for side in query.sides
        ]
        axes = sides if query.is_cross else [sides[0][:, [i]] for i in range(sides[0].shape[1])]
        at = cells.of([axis.positions(own) for axis, own in zip(cells.axes, axes, strict=True)])
        exact = cells.count(at)
        noisy = cells.table(cells.opened(exact + rng.normal(0, sd, exact.shape)))
        out.append(Measurement(query=query, values=noisy, variance=sd**2))
    return out


def test_the_first_pass_divides_its_budget_and_sees_every_pair_and_label_coarsely() -> None:
    shares = first_tables(ANALYSES, CONF)
    by_ways = {
        ways: sum(s for q, s in shares.items() if len(q.columns) == ways) for ways in (1, 2, 3)
    }
    whole = ONE_WAY + PAIRS + THREE_WAY
    assert by_ways == pytest.approx(
        {1: ONE_WAY / whole, 2: PAIRS / whole, 3: THREE_WAY / whole}, rel=1e-9
    )
    pairs = {frozenset(q.columns) for q in shares if len(q.columns) == 2}
    wanted = {frozenset(p) for p in combinations(SCHEMA.names, 2)}
    assert pairs == wanted - {frozenset(("sex", "label"))}  # the audit's own comes later, in full
    three = {frozenset(q.columns) for q in shares if len(q.columns) == 3}
    others = [n for n in SCHEMA.names if n != "label"]
    assert three == {frozenset((*p, "label")) for p in combinations(others, 2)}
    assert all(q.is_coarse == (len(q.columns) > 1) for q in shares)


def asked(sd: float, seed: int) -> dict[frozenset[str], float]:
    rng = np.random.default_rng(seed)
    found = measured(people(rng), list(first_tables(ANALYSES, CONF)), sd, seed)
    second = second_tables(found, ANALYSES, CONF)
    assert not any(q.is_coarse for q in second)
    return {frozenset(q.columns): share for q, share in second.items()}


def test_an_exclusive_or_across_the_parties_is_asked_for_though_no_pair_shows_it() -> None:
    second = asked(40.0, 1)
    xor = frozenset(("label", "a2", "b2"))
    assert xor in second
    assert sum(len(t) == 3 for t in second) <= MOST_THREE
    # Every pair is asked, a dependent one for more than one that is not.
    pairs = {t: s for t, s in second.items() if len(t) == 2}
    assert len(pairs) == 45 - 1
    alike = [s for t, s in pairs.items() if {*t} <= {"a0", "a2", "a3"}]
    assert second[frozenset(("a0", "a1"))] > 4 * max(alike)
    # Without the label's coarse tables nothing points at it.
    blind = second_tables(
        measured(people(np.random.default_rng(1)), list(first_tables(ANALYSES, CONF)), 40.0, 1)[
            :54
        ],
        ANALYSES,
        CONF,
    )
    assert xor not in {frozenset(q.columns) for q in blind}


def test_noise_alone_points_at_no_table() -> None:
    """Tables that say nothing: all pairs of one size alike, and hardly a three-way table."""
    rng = np.random.default_rng(2)
    nothing = {c.name: rng.integers(0, c.size, N) for c in SCHEMA.columns}
    second = second_tables(
        measured(nothing, list(first_tables(ANALYSES, CONF)), 60.0, 3), ANALYSES, CONF
    )
    assert sum(len(q.columns) == 3 for q in second) <= 1  # 36 at one in 740 each
    same = [s for q, s in second.items() if {*q.columns} <= {"a0", "a1", "a2", "a3"}]
    assert max(same) <= 8 * min(same)
    assert min(same) == pytest.approx((100 * FLOOR) ** (2 / 3))


@pytest.mark.parametrize("pair_effect", [0.0, 0.8])
def test_an_interaction_has_its_claimed_size_whatever_the_pairs_are(pair_effect: float) -> None:
    """False alarms: z of 200 tables without interaction is standard normal (p above 1e-4, both
    ways, which noise left out of the variance fails); with one its phi is found on average."""
    rng = np.random.default_rng(5)
    zs: list[float] = []
    blind: list[float] = []
    phis: list[float] = []
    for _ in range(200):
        a = rng.integers(0, 4, N)
        b = np.where(rng.random(N) < pair_effect, a, rng.integers(0, 4, N))
        free = (rng.random(N) < 0.3 + 0.1 * (a > 1)).astype(int)
        linked = np.where(rng.random(N) < 0.4, (a > 1) ^ (b > 1), free)
        for label, out in ((free, zs), (linked, phis)):
            table = np.zeros((2, 4, 4))
            np.add.at(table, (label, a, b), 1)
            table += rng.normal(0, 20, table.shape)
            found = beyond_pairs(table, 400.0)
            out.append(found.z if out is zs else found.phi)
            if out is zs:
                blind.append(beyond_pairs(table, 1.0).z)
    assert p_normal(zs) > 1e-4
    assert p_normal(blind) < 1e-6
    assert pair_effect or 0.3 < np.mean(phis) < 0.5


def test_a_pairs_phi_is_not_inflated_by_noise() -> None:
    rng = np.random.default_rng(6)
    tables = [1000 / 25 + rng.normal(0, 30, (5, 5)) for _ in range(300)]
    assert np.mean([between_two(t, 900.0).phi == 0 for t in tables]) > 0.3
