"""A union of two parties in an experiment with a true lift, and its noisy tables."""

from __future__ import annotations

import numpy as np

from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import FitConf, SynthesisConf
from twinweave.synthesis.population import row_cells
from twinweave.tables.contingency import ABSENT
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side

LAYOUT = UnionLayout(
    parties=("shop", "ads"),
    names=("region", "arm", "visit", "spend"),
    sizes=(3, 2, 2, 4),
    holders=((0, 1), (1,), (0,), (0,)),
)
PAIRS = (
    Query(sides=(Side(party="shop", columns=("region",)),)),
    Query(sides=(Side(party="shop", columns=("region", "visit")),)),
    Query(sides=(Side(party="shop", columns=("visit", "spend")),)),
    Query(sides=(Side(party="ads", columns=("region", "arm")),)),
    Query(sides=(Side(party="ads", columns=("arm",)), Side(party="shop", columns=("visit",)))),
    Query(
        sides=(Side(party="ads", columns=("region", "arm")), Side(party="shop", columns=("visit",)))
    ),
)
ONE_WAY = tuple(
    Query(sides=(Side(party=p, columns=(c,)),))
    for p, c in (("shop", "region"), ("shop", "visit"), ("shop", "spend"), ("ads", "arm"))
)
QUICK = SynthesisConf(fit=FitConf(latents=300, network_steps=0, free_steps=120))
LIFT = 0.2


def world(n: int, seed: int) -> Rows:
    """Users of an experiment: half of the union at both, arm raises the visit rate by LIFT."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    presence = np.stack([kind != 2, kind != 1], axis=1)
    region = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    arm = rng.random(n) < 0.5
    visit = rng.random(n) < 0.2 + LIFT * arm + 0.05 * region
    spend = np.where(visit, rng.integers(1, 4, n), 0)
    codes = np.stack([region, arm, visit, spend], axis=1).astype(np.int32)
    codes[~LAYOUT.visible(presence)] = ABSENT
    return Rows(codes=codes, presence=presence)


def measured(rows: Rows, queries: tuple[Query, ...], sigma: float, seed: int) -> list[Measurement]:
    rng = np.random.default_rng(seed)
    out = []
    for q in queries:
        sizes = [int(np.prod(_sizes(side))) + q.is_cross for side in q.sides]
        cells = row_cells(q, LAYOUT, rows)
        count = np.bincount(cells[cells >= 0], minlength=int(np.prod(sizes))).astype(float)
        values = (count + rng.normal(0, sigma, len(count))).reshape(sizes)
        if q.is_cross:
            values[-1, -1] = 0
        out.append(Measurement(query=q, values=values, variance=max(sigma**2, 1e-6)))
    return out


def _sizes(side: Side) -> list[int]:
    """Of the axes of a side: levels, or groups of them."""
    if side.groups:
        return [max(group) + 1 for group in side.groups]
    return [LAYOUT.sizes[LAYOUT.names.index(c)] for c in side.columns]


def sizes_of(rows: Rows) -> dict[str, int]:
    return dict(zip(LAYOUT.parties, rows.presence.sum(axis=0).tolist(), strict=True))


def lift_of(rows: Rows) -> float:
    both = rows.codes[rows.presence.all(axis=1)]
    return float(both[both[:, 1] == 1, 2].mean() - both[both[:, 1] == 0, 2].mean())
