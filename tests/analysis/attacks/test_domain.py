"""A value that one person has is in the output whether or not that person was in the rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from tests.analysis.attacks.leaking import COLUMNS, exposed, safe
from tests.analysis.synthetic_world import rows, schema
from twinweave.analysis.attacks.domain import FEWEST, rare_values
from twinweave.analysis.attacks.rows import Codes, Exposed
from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import FitConf, RakeConf, SynthesisConf
from twinweave.synthesis.decode import SyntheticTables, decode_rows
from twinweave.synthesis.population import row_counts
from twinweave.synthesis.synthesise import Task, synthesise
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import cells_of, query_over

LEVEL = 0.95


def test_rare_values_by_brute_force() -> None:
    """Whatever one person alone has in three columns or fewer, and whether it was made."""
    found = exposed(safe, 1, n=120, control=80)
    everyone = np.concatenate([found.members, found.control])
    contrast, sizes = rare_values(found, LEVEL, np.random.default_rng(0))
    scores: list[list[float]] = [[], []]
    places = [at for r in (1, 2, 3) for at in combinations(range(len(COLUMNS)), r)]
    for person, row in enumerate(everyone):
        shown = []
        for at in places:
            own = row[list(at)]
            if (everyone[:, at] == own).all(axis=1).sum() == 1:
                shown.append((found.synthetic[:, at] == own).all(axis=1).any())
        if shown:
            scores[person >= 120].append(float(np.mean(shown)))
    assert contrast is not None
    assert sizes == (len(scores[0]), len(scores[1]))
    assert contrast.success == pytest.approx(np.mean(scores[0]))
    assert contrast.control == pytest.approx(np.mean(scores[1]))


def test_a_domain_taken_from_the_rows_is_seen() -> None:
    """One column of many levels of which most are one person's: nobody's of those set aside."""
    town = replace(COLUMNS[1], levels=tuple(f"t{i}" for i in range(2000)))
    rng = np.random.default_rng(5)
    real = rng.integers(0, 2000, (1500, 1)).astype(np.int32)
    members, control = real[:1000], real[1000:]

    def seen(synthetic: Codes) -> tuple[float, float]:
        rows = Exposed(columns=(town,), members=members, control=control, synthetic=synthetic)
        contrast, sizes = rare_values(rows, LEVEL, rng)
        assert contrast is not None
        assert min(sizes) >= FEWEST
        return contrast.interval

    public = rng.integers(0, 2000, (3000, 1)).astype(np.int32)
    low, high = seen(public)
    assert low < 0 < high
    held = np.unique(members)
    assert seen(rng.choice(held, (3000, 1)).astype(np.int32))[0] > 0.5


def measured_and_made(real: Rows) -> SyntheticTables:
    """What a run does with these people: noisy tables under one seed, rows that meet them."""
    joint = schema()
    layout, rng = UnionLayout.of(joint), np.random.default_rng(11)
    tables = []
    for columns in (("region",), ("arm",), ("bought",), ("age", "arm"), ("region", "bought")):
        query = query_over(joint, *columns)
        assert query is not None
        counts = row_counts(query, layout, real)
        cells = cells_of(joint, query)
        told = cells.opened(counts + rng.normal(0, 10, counts.shape))
        tables.append(Measurement(query=query, values=cells.table(told), variance=100.0))
    conf = SynthesisConf(fit=FitConf(latents=16, free_steps=20), rake=RakeConf(steps=10))
    sizes = dict(zip(layout.parties, real.presence.sum(axis=0).tolist(), strict=True))
    task = Task(layout=layout, measurements=tables, sizes=sizes, conf=conf, seed=1)
    return decode_rows(joint, synthesise(None, task).rows, seed=1)


def test_what_tables_may_hold_is_a_function_of_the_public_schema() -> None:
    """One person more or less has a level that nobody else has: the same columns, types, metadata
    and levels come out, for noise of one seed, and that level in as many rows, up to a few."""
    joint = schema()
    with_one = rows(joint, 800)
    region = joint.names.index("region")
    level = joint.column("region").levels.index("w")
    rare = with_one.codes[:, region] == level
    with_one.codes[rare, region] = 0
    without = Rows(codes=with_one.codes.copy(), presence=with_one.presence)
    with_one.codes[np.flatnonzero(rare)[0], region] = level
    a, b = measured_and_made(with_one), measured_and_made(without)
    assert a.joint_metadata == b.joint_metadata
    assert a.joint.dtypes.equals(b.joint.dtypes)
    held = [set(t.joint["region"].dropna().astype(str)) for t in (a, b)]
    assert held[0] == held[1]
    counts = [(t.joint["region"] == "w").sum() for t in (a, b)]
    assert abs(int(counts[0]) - int(counts[1])) <= 10
