"""From measured tables to blocks of cells for each arm, the levels of an arm summed up.

Arms never share a cell, so their noise is independent; an arm of several levels has that many
times the variance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from twinweave.analysis.lift.reconcile import EVERYONE, Attribute, Block, Floats
from twinweave.errors import ConfigError
from twinweave.tables.contingency import Contingency
from twinweave.tables.schema import JointSchema
from twinweave.workload.analyses import LiftConf
from twinweave.workload.measurement import Measurement

POSITIVE = 1
"""Code of a boolean column's second level: the user has converted."""


def home(schema: JointSchema, conf: LiftConf) -> str:
    """First party of the unit that holds the membership."""
    return schema.unit(schema.holders(conf.membership)[0])[0]


def scales(conf: LiftConf) -> Floats:
    """How many levels each arm sums up: the factor on the variances of its blocks."""
    return np.array([len(levels) for levels in conf.all_arms.values()], dtype=np.float64)


def blocks_of(schema: JointSchema, conf: LiftConf, measurement: Measurement) -> list[Block]:
    """One table's cells by arm; none where it lacks the membership at its holder's side.

    A table across two parties that counts users has two: whom the other side holds, and lacks.
    Raises ConfigError for a table whose noise has no variance.
    """
    if not measurement.variance > 0:
        raise ConfigError(
            "measurements",
            f"table {measurement.query.name!r} has no noise variance",
            "Give the variance of the noise that was added.",
        )
    return list(_blocks(schema, conf, measurement))


def _blocks(schema: JointSchema, conf: LiftConf, m: Measurement) -> Iterator[Block]:
    sides = {side.party: side for side in m.query.sides}
    own = sides.pop(home(schema, conf), None)
    if own is None or conf.membership not in own.columns:
        return
    table = m.table(schema)
    here = [(own.party, c) for c in own.columns if c != conf.membership]
    there = [(s.party, c) for s in sides.values() for c in s.columns if c not in own.columns]
    across = next((s for s in sides.values() if s.absent is not None), None)
    if across is None:
        yield _block(schema, conf, m, table, {EVERYONE: 1}, [*here, *there])
        return
    held, lacking = table.present(), table.absent(m.query.sides.index(across))
    yield _block(schema, conf, m, held, {across.party: 1}, [*here, *there])
    yield _block(schema, conf, m, lacking, {EVERYONE: 1, across.party: -1}, here)


def _block(
    schema: JointSchema,
    conf: LiftConf,
    m: Measurement,
    table: Contingency,
    counts: Mapping[str, int],
    attributes: Sequence[Attribute],
) -> Block:
    labels = schema.column(conf.membership).labels
    by_level = table.project((conf.membership,), *((column,) for _, column in attributes)).values
    arms = [[labels.index(level) for level in levels] for levels in conf.all_arms.values()]
    return Block(
        counts=counts,
        attributes=tuple(attributes),
        values=np.stack([by_level[arm].sum(axis=0) for arm in arms]),
        variance=m.variance,
    )
