"""Cluster-randomised experiments whose true lift is known, and their noisy tables.

Clusters are assigned as wholes. Each has a share of users whom the other party holds, and among
those a rate of conversion, both from beta distributions: users of a cluster are alike in both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.results import LiftReport
from twinweave.tables.column import GROUPS, Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side

_KEY = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)
_ARM = Column(
    name="segment", kind=Kind.CATEGORICAL, role=Role.MEMBERSHIP, levels=("control", "test")
)
_HOUSEHOLD = Column(name="household", kind=Kind.CATEGORICAL, role=Role.CLUSTER)
_CONVERTED = Column(name="converted", kind=Kind.BOOLEAN, role=Role.CONVERSION)

SCHEMA = JointSchema(
    schemas=(
        Schema(party="a", columns=(_KEY, _ARM, _HOUSEHOLD)),
        Schema(party="b", columns=(_KEY, _CONVERTED)),
    )
)
CONF = LiftConf(
    membership="segment",
    test=("test",),
    control=("control",),
    conversions=("converted",),
    k=20,
    cluster="household",
)
IGNORANT = replace(CONF, cluster=None)
"""The broken variant: users are taken for independent."""

CROSS, GROUPED = (
    Query(
        sides=(Side(party="a", columns=own), Side(party="b", columns=("converted",))), priority=True
    )
    for own in (("segment",), ("segment", "household"))
)

HOUSEHOLDS = ((1, 0.35), (2, 0.33), (3, 0.15), (4, 0.12), (5, 0.05))
PAIRS = ((2, 1.0),)
STORES = ((40, 0.5), (80, 0.3), (160, 0.2))


@dataclass(frozen=True, kw_only=True)
class Design:
    """sizes: of clusters, each with its share. icc: correlation of two users of a cluster.

    held: share of users whom the other party holds. rates: in control and test, of those.
    """

    name: str
    clusters: int
    sizes: tuple[tuple[int, float], ...] = HOUSEHOLDS
    icc: float
    held: float = 0.8
    rates: tuple[float, float] = (0.1, 0.1)

    @property
    def lift(self) -> float:
        return self.held * (self.rates[1] - self.rates[0])


def users(design: Design, rng: Generator) -> NDArray[np.int64]:
    """Exact counts: (control and test, random group, held and not converted, converted, lacking).

    Half of the clusters are in each arm.
    """
    sizes, shares = zip(*design.sizes, strict=True)
    n = rng.choice(sizes, design.clusters, p=shares)
    arm = rng.permutation(design.clusters) % 2
    held = rng.binomial(n, _beta(np.full(len(n), design.held), design.icc, rng))
    converted = rng.binomial(held, _beta(np.array(design.rates)[arm], design.icc, rng))
    counts = np.zeros((2, GROUPS, 3), dtype=np.int64)
    group = rng.integers(0, GROUPS, design.clusters)
    for i, own in enumerate((held - converted, converted, n - held)):
        np.add.at(counts[..., i], (arm, group), own)
    return counts


def tables(counts: NDArray[np.int64], sigma: float, rng: Generator) -> list[Measurement]:
    """Arm by conversion, and the same by random group, with Gaussian noise in every cell."""
    found = []
    for query, exact in ((CROSS, counts.sum(axis=1)), (GROUPED, counts.reshape(-1, 3))):
        table = np.vstack([exact, [500, 60, 0]])  # last those whom the first party lacks
        values = table + sigma * rng.standard_normal(table.shape)
        values[-1, -1] = 0
        found.append(Measurement(query=query, values=values, variance=sigma**2))
    return found


def report(design: Design, sigma: float, rng: Generator, conf: LiftConf = CONF) -> LiftReport:
    return analyse(SCHEMA, tables(users(design, rng), sigma, rng), conf)


def _beta(mean: NDArray[np.float64], icc: float, rng: Generator) -> NDArray[np.float64]:
    if icc == 0:
        return mean
    if icc == 1:
        return (rng.random(len(mean)) < mean).astype(np.float64)
    total = 1 / icc - 1
    return rng.beta(mean * total, (1 - mean) * total)
