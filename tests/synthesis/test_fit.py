"""The fit against brute force: every measured cell, presence included, and the noise it leaves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from twinweave.errors import ConfigError
from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import FitConf
from twinweave.synthesis.fit import Latents, Misfit, Mixture, fit
from twinweave.synthesis.population import row_counts
from twinweave.tables.contingency import ABSENT
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side

LAYOUT = UnionLayout(
    parties=("a", "b", "c"),
    names=("s", "x", "y", "u", "v", "w"),
    sizes=(2, 3, 4, 2, 3, 2),
    holders=((0, 1), (0,), (0,), (1,), (1,), (2,)),
)


def side(party: str, *columns: str) -> Side:
    return Side(party=party, columns=columns)


def grouped(party: str, **groups: tuple[int, ...]) -> Side:
    return Side(party=party, columns=tuple(groups), groups=tuple(groups.values()))


QUERIES = (
    Query(sides=(side("a", "x"),)),
    Query(sides=(side("b", "s", "u"),)),
    Query(sides=(side("a", "s", "x", "y"),)),
    Query(sides=(side("a", "x"), side("b", "u"))),
    Query(sides=(side("a", "s", "x"), side("b", "v"))),
    Query(sides=(side("b", "u"), side("a", "s", "x"))),
    Query(sides=(side("a", "x", "y"), side("b", "u", "v"))),
    Query(sides=(side("b", "v"), side("c", "w"))),
)
COARSE = (
    Query(sides=(grouped("a", y=(0, 1, 1, 0)),)),
    Query(sides=(grouped("a", s=(0, 1), x=(1, 0, 0), y=(0, 0, 1, 2)),)),
    Query(sides=(grouped("a", y=(0, 0, 1, 1)), grouped("b", v=(0, 1, 0)))),
    Query(sides=(grouped("b", u=(0, 1), v=(0, 1, 1)), side("a", "s", "x"))),
)


def random_rows(n: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    presence = rng.random((n, 3)) < 0.6
    presence[~presence.any(axis=1), 0] = True
    codes = np.stack([rng.integers(0, s, n) for s in LAYOUT.sizes], axis=1).astype(np.int32)
    codes[:, 3] = (codes[:, 1] > 0) ^ (rng.random(n) < 0.1)  # x at a drives u at b
    codes[~LAYOUT.visible(presence)] = ABSENT
    return Rows(codes=codes, presence=presence)


def table_row_by_row(query: Query, rows: Rows) -> NDArray[Any]:
    """The slow oracle: one dictionary entry a cell, one row at a time."""
    size = dict(zip(LAYOUT.names, LAYOUT.sizes, strict=True))
    group = {c: np.arange(n) for c, n in size.items()}
    group |= {
        c: np.array(g) for s in query.sides for c, g in zip(s.columns, s.groups, strict=False)
    }
    size = {c: g.max() + 1 for c, g in group.items()}
    places = []
    for s in query.sides:
        cells = list(itertools.product(*(range(size[c]) for c in s.columns)))
        places.append([*cells, "absent"] if query.is_cross else cells)
    counts = dict.fromkeys(itertools.product(*places), 0.0)
    for codes, present in zip(rows.codes, rows.presence, strict=True):
        where = []
        for s in query.sides:
            row = tuple(int(group[c][codes[LAYOUT.names.index(c)]]) for c in s.columns)
            where.append(row if present[LAYOUT.parties.index(s.party)] else "absent")
        if set(where) != {"absent"}:
            counts[tuple(where)] += 1
    sizes = [len(p) for p in places]
    if not query.is_cross:
        sizes = [size[c] for c in query.sides[0].columns]
    return np.array(list(counts.values())).reshape(sizes)


def exact(
    rows: Rows, variance: float = 1.0, queries: tuple[Query, ...] = QUERIES
) -> list[Measurement]:
    return [
        Measurement(query=q, values=table_row_by_row(q, rows), variance=variance) for q in queries
    ]


def as_logits(rows: Rows) -> NDArray[Any]:
    """Each row as a latent that puts all its mass on the row; anything where it is absent."""
    shown = np.where(rows.codes == ABSENT, 1, rows.codes)
    blocks = [np.eye(size)[codes] for size, codes in zip(LAYOUT.sizes, shown.T, strict=True)]
    return (60 * np.concatenate(blocks, axis=1) - 30).astype(np.float32)


def one_each(presence: NDArray[Any]) -> Latents:
    return Latents(presence=presence, users=np.ones(len(presence)))


class Small(nn.Module):
    latent = 8

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(11, 32), nn.ReLU(), nn.Linear(32, LAYOUT.width))

    def shared_parameters(self) -> Iterator[Any]:
        return self.named_parameters()

    def logits(self, z: torch.Tensor, presence: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([z, presence], dim=1))


def misfit(tables: list[Measurement], logits: NDArray[Any], latents: Latents) -> float:
    found = Misfit(LAYOUT, tables, latents)
    return float(found(found.softmax(torch.from_numpy(logits))))


def test_expected_tables_of_hard_latents_are_their_counts() -> None:
    """Those of groups of levels too."""
    rows = random_rows(200, seed=1)
    tables = exact(rows, queries=(*QUERIES, *COARSE))
    assert misfit(tables, as_logits(rows), one_each(rows.presence)) < 1e-6


@pytest.mark.parametrize("query", [*QUERIES, *COARSE], ids=lambda q: q.name)
def test_the_cell_of_every_row_is_that_of_its_levels(query: Query) -> None:
    rows = random_rows(200, seed=1)
    assert (row_counts(query, LAYOUT, rows) == table_row_by_row(query, rows)).all()


@pytest.mark.parametrize("which", range(len(QUERIES) + len(COARSE)))
def test_one_wrong_cell_of_any_table_is_seen(which: int) -> None:
    rows = random_rows(200, seed=1)
    tables = exact(rows, queries=(*QUERIES, *COARSE))
    wrong = tables[which].values.copy()
    wrong.reshape(-1)[-2] += 10  # of a cross table: a cell of the absent row
    tables[which] = replace(tables[which], values=wrong)
    assert misfit(tables, as_logits(rows), one_each(rows.presence)) > 0.01


def test_a_latent_whose_party_is_absent_must_not_count_there() -> None:
    rows = random_rows(200, seed=1)
    everywhere = np.ones_like(rows.presence)
    assert misfit(exact(rows), as_logits(rows), one_each(everywhere)) > 1


def test_sums_of_values_are_left_aside() -> None:
    rows = random_rows(50, seed=2)
    query = Query(sides=(side("a", "x"), Side(party="b", weight="v")))
    extra = Measurement(query=query, values=np.full((3, 4), 1e9), variance=1.0)
    assert misfit([*exact(rows), extra], as_logits(rows), one_each(rows.presence)) < 1e-6


def test_fit_removes_noise_and_keeps_the_pair_across_parties() -> None:
    """Misfit a cell is chi-square over its cells: 1 when only noise is left."""
    rows = random_rows(4000, seed=3)
    rng = np.random.default_rng(4)
    noisy = [
        replace(m, values=m.values + rng.normal(0, 20, m.values.shape), variance=400.0)
        for m in exact(rows)
        if len(m.query.columns) < 4
    ]
    torch.manual_seed(0)
    presence = rows.presence[np.lexsort(rows.presence.T)][::16]  # the patterns in proportion
    latents = Latents(presence=presence, users=np.full(250, 16.0))
    conf = FitConf(latents=250, network_steps=50, free_steps=100)
    found = fit(cast(Any, Small()), LAYOUT, noisy, latents, conf, seed=5)
    assert found.trace[0] > 10 * found.trace[-1]
    assert found.trace[-1] < 1.2
    clear = [replace(m, variance=400.0) for m in exact(rows) if len(m.query.columns) < 4]
    assert misfit(clear, found.logits, latents) < 0.8  # noise itself: 1
    drawn = found.sample(20_000, np.random.default_rng(6))
    both = drawn.presence[:, :2].all(axis=1)
    agree = (drawn.codes[both, 1] > 0) == drawn.codes[both, 3]
    assert 0.85 < agree.mean() < 0.95


def test_same_seed_same_mixture() -> None:
    rows = random_rows(300, seed=7)
    conf = FitConf(latents=64, network_steps=3, free_steps=3)

    def run(seed: int) -> Mixture:
        torch.manual_seed(0)
        return fit(
            cast(Any, Small()), LAYOUT, exact(rows), one_each(rows.presence[:64]), conf, seed
        )

    assert np.array_equal(run(1).logits, run(1).logits)
    assert not np.array_equal(run(1).logits, run(2).logits)


def test_samples_follow_the_latents_and_hide_what_nobody_holds() -> None:
    rows = random_rows(8, seed=8)
    logits = np.random.default_rng(9).normal(size=(8, LAYOUT.width)).astype(np.float32)
    latents = Latents(presence=rows.presence, users=np.arange(1.0, 9.0))
    mixture = Mixture(layout=LAYOUT, latents=latents, logits=logits)
    drawn = mixture.sample(36_000, np.random.default_rng(10))
    visible = LAYOUT.visible(rows.presence)
    assert np.array_equal(drawn.codes == ABSENT, ~LAYOUT.visible(drawn.presence))
    for j, size in enumerate(LAYOUT.sizes):
        share = latents.users[:, None] / 36 * mixture.probabilities(j) * visible[:, j : j + 1]
        found = np.bincount(drawn.codes[:, j] + 1, minlength=size + 1)[1:] / 36_000
        # Stratified: far closer than the 0.0026 of independent draws.
        assert np.abs(found - share.sum(axis=0)).max() < 5e-4


@pytest.mark.parametrize("wrong", [{"latents": 0}, {"network_steps": -1}, {"free_lr": 0.0}])
def test_configuration_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FitConf(**wrong)
