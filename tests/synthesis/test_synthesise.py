"""Synthesis as a whole, and the trap that cross tables avoid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.generators.toys import conf
from tests.synthesis.experiment import (
    LAYOUT,
    LIFT,
    ONE_WAY,
    PAIRS,
    QUICK,
    lift_of,
    measured,
    sizes_of,
    world,
)
from twinweave.errors import DivergedError
from twinweave.generators import registry
from twinweave.generators.union import Rows
from twinweave.synthesis.conf import FitConf, RakeConf, SynthesisConf
from twinweave.synthesis.synthesise import (
    Task,
    first_weights,
    more_rows,
    synthesise,
    synthetic_rows,
)
from twinweave.tables.contingency import ABSENT
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side


def task(
    tables: Sequence[Measurement], sizes: Mapping[str, int], conf: SynthesisConf, seed: int = 1
) -> Task:
    return Task(layout=LAYOUT, measurements=tables, sizes=sizes, conf=conf, seed=seed)


def test_synthetic_rows_keep_the_lift_that_one_way_tables_lose() -> None:
    rows = world(6000, seed=8)
    sizes = sizes_of(rows)
    kept = synthesise(None, task(measured(rows, PAIRS, 10, 9), sizes, QUICK))
    assert abs(len(kept.rows) - len(rows)) < 100
    assert sizes_of(kept.rows) == sizes  # the public ones, to a person
    assert lift_of(kept.rows) == pytest.approx(lift_of(rows), abs=0.03)
    assert max(kept.misfit.values()) < 2
    assert kept.effective > len(rows)
    collapsed = synthesise(None, task(measured(rows, ONE_WAY, 10, 9), sizes, QUICK))
    assert abs(lift_of(collapsed.rows)) < 0.04


def test_coarse_tables_are_raked_where_the_levels_pairs_do_not_tell_them() -> None:
    def grouped(*columns: str) -> Query:
        groups = {"visit": (0, 1), "spend": (0, 1, 1, 1), "region": (0, 1, 1)}
        side = Side(party="shop", columns=columns, groups=tuple(groups[c] for c in columns))
        return Query(sides=(side,))

    told, alone = grouped("visit", "spend"), grouped("region", "spend")
    three = grouped("region", "visit", "spend")
    rows = world(300, seed=1)
    found = [
        Measurement(query=q, values=np.zeros(shape), variance=1.0)
        for q, shape in ((told, (2, 2)), (alone, (2, 2)), (three, (2, 2, 2)))
    ]
    asked = task([*measured(rows, PAIRS, 10, 9), *found], sizes_of(rows), QUICK)
    assert [m.query for m in asked.raked if m.query.is_coarse] == [alone, three]


def test_same_seed_same_rows() -> None:
    tables = measured(world(2000, seed=10), PAIRS, 10, 11)
    sizes = {"shop": 1600, "ads": 1400}
    conf = replace(QUICK, fit=FitConf(latents=50, network_steps=0, free_steps=10), rows=300)
    runs = [synthesise(None, task(tables, sizes, conf, s)).rows.codes for s in (1, 1, 2)]
    assert len(runs[0]) == 300
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


class Uniform:
    """A network with samples only, as the llm."""

    soft = None
    most_candidates: int | None = None

    def sample(self, presence: NDArray[np.bool_], generator: torch.Generator) -> Rows:
        codes = (
            torch.stack(
                [torch.randint(s, (len(presence),), generator=generator) for s in LAYOUT.sizes],
                dim=1,
            )
            .numpy()
            .astype(np.int32)
        )
        codes[~LAYOUT.visible(presence)] = ABSENT
        return Rows(codes=codes, presence=presence)


@pytest.mark.parametrize("mixture", [0.0, 0.5])
def test_a_network_with_samples_only_is_raked(mixture: float) -> None:
    rows = world(4000, seed=12)
    conf = replace(QUICK, rake=RakeConf(strength=0.01, steps=150), mixture=mixture)
    tables = measured(rows, PAIRS, 10, 13)
    found = synthesise(cast(Any, Uniform()), task(tables, sizes_of(rows), conf))
    assert lift_of(found.rows) == pytest.approx(lift_of(rows), abs=0.04)
    assert bool(found.trace) == (mixture > 0)


def test_a_network_that_writes_few_rows_is_asked_for_few_and_gives_as_many_as_wanted() -> None:
    """Also for more rows of those with a level, of which few of the few have it. A mixture makes
    up for the others, unless none is wanted."""
    asked: list[int] = []

    class Few(Uniform):
        most_candidates = 600

        def sample(self, presence: NDArray[np.bool_], generator: torch.Generator) -> Rows:
            asked.append(len(presence))
            return super().sample(presence, generator)

    rows = world(4000, seed=12)
    conf = replace(QUICK, rake=RakeConf(strength=0.01, steps=150), mixture=0.0)
    its = task(measured(rows, PAIRS, 10, 13), sizes_of(rows), conf)
    found = synthesise(cast(Any, Few()), its)
    assert not found.trace
    assert len(found.rows) == found.population.size > 3000
    assert lift_of(found.rows) == pytest.approx(lift_of(rows), abs=0.04)
    level = {0: np.array([0], dtype=np.int32)}
    assert len(more_rows(found.source, its, 500, level).rows) == 500
    for part in (0.8, None):
        mixed = synthesise(cast(Any, Few()), replace(its, conf=replace(conf, mixture=part)))
        assert mixed.trace
        assert len(mixed.rows) == len(found.rows)
        assert mixed.effective > found.effective
    assert set(asked) == {600}


def test_a_generator_that_was_never_trained_starts_from_the_tables() -> None:
    rows = world(1500, seed=30)
    quick = replace(QUICK, fit=FitConf(latents=50, network_steps=5, free_steps=10), rows=200)
    given = task(measured(rows, PAIRS, 10, 31), sizes_of(rows), quick)
    c = conf("tvae")
    first = first_weights(c, given)
    untrained, trained = (synthetic_rows(c, given, weights).rows.codes for weights in (None, first))
    assert np.array_equal(untrained, trained)
    assert not np.array_equal(trained, synthetic_rows(c, given, -first).rows.codes)


def test_the_format_stage_learns_what_the_tables_say(caplog: pytest.LogCaptureFixture) -> None:
    rows = world(1500, seed=32)
    quick = replace(QUICK, fit=FitConf(latents=50, network_steps=0, free_steps=10))
    given = task(measured(rows, PAIRS, 10, 33), sizes_of(rows), quick)
    c = conf("llm", format_steps=60, format_learning_rate=2e-2, format_batch=64)
    with caplog.at_level("DEBUG", "twinweave.run"):
        weights = first_weights(c, given)
    written = registry.load(c, LAYOUT, weights).sample(
        np.ones((4000, 2), bool), torch.Generator().manual_seed(2)
    )
    share = np.bincount(written.codes[:, 0], minlength=3) / 4000
    np.testing.assert_allclose(share, [0.5, 0.3, 0.2], atol=0.07)  # at first a third each
    assert "format stage: learn the format 100%" in caplog.text


def test_a_format_stage_without_end_is_named() -> None:
    rows = world(500, seed=32)
    quick = replace(QUICK, fit=FitConf(latents=50, network_steps=0, free_steps=10))
    c = conf("llm", format_steps=3, format_learning_rate=1e30)
    with pytest.raises(DivergedError, match="format_learning_rate"):
        first_weights(c, task(measured(rows, PAIRS, 10, 33), sizes_of(rows), quick))


def test_the_format_stage_learns_from_two_passes_of_tables() -> None:
    """A coarse table across of the first pass, levels of the second: what only the coarse one
    says is learned, and no level is taken for a group."""
    rows = world(4000, seed=34)
    coarse = Query(
        sides=(
            Side(party="ads", columns=("arm",), groups=((0, 1),)),
            Side(party="shop", columns=("spend",), groups=((0, 1, 1, 1),)),
        )
    )
    quick = replace(QUICK, fit=FitConf(latents=200, network_steps=0, free_steps=100))
    c = conf("llm", format_steps=200, format_learning_rate=2e-2, format_batch=128)

    def written(*passes: tuple[Query, ...]) -> Rows:
        tables = [m for i, queries in enumerate(passes) for m in measured(rows, queries, 10, i)]
        weights = first_weights(c, task(tables, sizes_of(rows), quick))
        everyone = np.ones((4000, 2), bool)
        return registry.load(c, LAYOUT, weights).sample(everyone, torch.Generator().manual_seed(2))

    def told(found: Rows) -> float:
        """How much likelier somebody spends in one arm than in the other."""
        arm, spent = found.codes[:, 1], found.codes[:, 3] > 0
        return float(spent[arm == 1].mean() - spent[arm == 0].mean())

    both = written((coarse,), ONE_WAY)
    assert told(both) == pytest.approx(LIFT, abs=0.08)
    assert abs(told(written(ONE_WAY))) < 0.08
    levels = np.bincount(both.codes[:, 3], minlength=4) / 4000
    whole = rows.codes[rows.presence[:, 0], 3]
    np.testing.assert_allclose(levels, np.bincount(whole, minlength=4) / len(whole), atol=0.07)
