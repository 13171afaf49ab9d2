"""People of two parties: a group at one, an outcome at the other that the group bears on, also by
way of an occupation that follows the group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.generators.toys import conf as generator
from twinweave.generators.union import Rows, UnionLayout
from twinweave.synthesis.conf import FitConf, RakeConf, SynthesisConf
from twinweave.synthesis.fairness.conf import EnforceConf, Enforcement, enforcement
from twinweave.synthesis.population import row_counts
from twinweave.synthesis.synthesise import Task
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.analyses import FairnessConf
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import cells_of, query_over

KEY = Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY)


def column(name: str, *levels: str, role: Role = Role.FEATURE) -> Column:
    return Column(name=name, kind=Kind.CATEGORICAL, role=role, levels=levels)


SCHEMA = JointSchema(
    schemas=(
        Schema(
            party="school",
            columns=(
                KEY,
                column("sex", "f", "m", role=Role.SENSITIVE),
                column("town", "a", "b", "c", role=Role.SENSITIVE),
                column("work", "low", "middle", "high"),
            ),
        ),
        Schema(
            party="bank",
            columns=(
                KEY,
                column("saved", "0", "1"),
                column("credit", "no", "some", "yes", role=Role.LABEL),
            ),
        ),
    )
)
LAYOUT = UnionLayout.of(SCHEMA)
DECLARED = FairnessConf(sensitive=("sex", "town"), label="credit", positive="yes")
AT = {name: i for i, name in enumerate(LAYOUT.names)}
YES = 2
N = 6000


def people(rng: np.random.Generator, n: int = N) -> Rows:
    """Everyone at both parties. Town c is small: 1% of them."""
    sex, town = rng.integers(0, 2, n), rng.choice(3, n, p=(0.6, 0.39, 0.01))
    work = (rng.random((n, 2)) < 0.35 + 0.25 * sex[:, None]).sum(axis=1)
    saved = rng.integers(0, 2, n)
    chance = 1 / (1 + np.exp(2.6 - 0.8 * sex - 0.9 * work - 0.9 * saved - 0.4 * (town == 1)))
    credit = np.where(rng.random(n) < chance, YES, rng.integers(0, 2, n))
    by_name = {"sex": sex, "town": town, "work": work, "saved": saved, "credit": credit}
    codes = np.stack([by_name[name] for name in LAYOUT.names], axis=1).astype(np.int32)
    return Rows(codes=codes, presence=np.ones((n, 2), dtype=bool))


def measured(rows: Rows, rng: np.random.Generator, sigma: float = 8.0) -> list[Measurement]:
    """Every table of one or two columns, and the label by group and work."""
    names = LAYOUT.names
    asked: list[tuple[str, ...]] = [(a,) for a in names] + [
        (a, b) for i, a in enumerate(names) for b in names[i + 1 :]
    ]
    asked += [("sex", "work", "credit"), ("sex", "town", "credit")]
    out = []
    for columns in asked:
        query = query_over(SCHEMA, *columns, priority="sex" in columns and "credit" in columns)
        assert query is not None
        counts = row_counts(query, LAYOUT, rows)
        cells = cells_of(SCHEMA, query)
        told = cells.opened(counts + rng.normal(0, sigma, counts.shape))
        out.append(Measurement(query=query, values=cells.table(told), variance=sigma**2))
    return out


def wanted(conf: EnforceConf) -> Enforcement:
    kind = generator("llm" if conf.enforce == "decode" else "tvae")
    found = enforcement(SCHEMA, conf, DECLARED, kind)
    assert found is not None
    return found


def task(conf: EnforceConf | None, seed: int = 0) -> Task:
    """conf: None for labels as measured."""
    rng = np.random.default_rng(11)
    rows = people(rng)
    synthesis = SynthesisConf(
        fit=FitConf(latents=96, free_steps=60), rake=RakeConf(candidates=3, exchanges=60)
    )
    return Task(
        layout=LAYOUT,
        measurements=measured(rows, rng),
        sizes=dict.fromkeys(LAYOUT.parties, len(rows)),
        conf=synthesis,
        seed=seed,
        fairness=None if conf is None else wanted(conf),
    )


def rates(rows: Rows, *columns: str, among: NDArray[Any] | None = None) -> NDArray[Any]:
    """Rate of credit in every combination of codes of the columns that somebody has."""
    codes = whole(rows).codes if among is None else rows.codes[among]
    own = codes[:, [AT[c] for c in columns]]
    return np.array(
        [
            (codes[(own == g).all(axis=1), AT["credit"]] == YES).mean()
            for g in np.unique(own, axis=0)
        ]
    )


def whole(rows: Rows) -> Rows:
    """Those at both parties: the noisy overlap places a few at one alone."""
    return rows.take(np.flatnonzero(rows.presence.all(axis=1)))
