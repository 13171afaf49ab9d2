"""The audit of a finished simulation: from its synthetic table and the parties' own sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from twinweave.analysis.audit.party import audit
from twinweave.config import RunConf
from twinweave.errors import SourceError
from twinweave.generators.union import Rows
from twinweave.protocols.evaluation.interface import Evidence
from twinweave.spec import RunSpec
from twinweave.synthesis.decode import key_of, presence_columns
from twinweave.tables.cleaning import clean
from twinweave.tables.column import Column, Rule
from twinweave.tables.contingency import ABSENT
from twinweave.tables.encoding import encode
from twinweave.tables.holdout import divide, simulated_key
from twinweave.tables.loading import load_party
from twinweave.workload.audit import AuditPlan, Depth

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class PartyFindings:
    """What one party finds. lines: the same as text."""

    party: str
    lines: tuple[str, ...]
    report: Mapping[str, Any] = field(repr=False)
    withheld: bool


def findings_of(
    conf: RunConf, spec: RunSpec, joint: pd.DataFrame, depth: Depth | None = None
) -> Iterator[PartyFindings]:
    """Each party's findings, one after the other. joint: the run's synthetic table.

    depth: None for the run's own. Raises SourceError for a run without a holdout or whose tables
    are not here, and AppErrors that name the party whose table cannot be read.
    """
    plan = spec.audit
    if plan is None:
        raise SourceError(
            "the run set nobody aside, so that there is nothing to hold an attack against. Run "
            "with audit=quick or audit=full."
        )
    rows = coded(spec, joint)
    plan = replace(plan, mode=depth or plan.mode)
    for party in conf.data.parties:
        if party.source is None:
            raise SourceError(
                f"the table of {party.name!r} is not here: in a deployment each party has its own "
                "findings in its folder, as audit-RUN.json."
            )
        yield _of_party(conf, spec, plan, rows, party.name)


def _of_party(
    conf: RunConf, spec: RunSpec, plan: AuditPlan, joint: Rows, name: str
) -> PartyFindings:
    schema = spec.schema.schema(name)
    source = next(p.source for p in conf.data.parties if p.name == name)
    assert source is not None
    key = bytes.fromhex(simulated_key(conf.data.name))
    rows = divide(load_party(source, schema, name), key, plan.holdout)
    found = audit(Evidence.of(name, spec.schema, rows, joint, plan, conf.seed))
    lines = tuple(found.report["lines"])
    return PartyFindings(party=name, lines=lines, report=found.report, withheld=found.withheld)


def coded(spec: RunSpec, joint: pd.DataFrame) -> Rows:
    """The codes of a decoded joint table. Raises SchemaError or ColumnError where it is none."""
    schema = spec.schema
    key, flags = key_of(schema), presence_columns(schema)
    codes = np.full((len(joint), len(schema.names)), ABSENT, dtype=np.int32)
    presence = joint[list(flags.values())].to_numpy(dtype=bool)
    for i, own in enumerate(schema.schemas):
        at = np.flatnonzero(presence[:, i])
        if not len(at):
            continue
        table = joint.iloc[at][[key, *own.names]].rename(columns={key: own.key.name})
        columns = tuple(_decoded(c) for c in own.columns if c is own.key or c.name in own.names)
        typed = encode(clean(table, replace(own, columns=columns)))
        if len(typed) != len(at):
            raise SourceError("the synthetic table is not the run's any more. Bring it back.")
        columns_of_own = np.array([schema.names.index(n) for n in own.names])
        codes[at[:, None], columns_of_own] = typed.codes
    return Rows(codes=codes, presence=presence)


def _decoded(column: Column) -> Column:
    """As its decoded cells are read: the level MISSING is written as a cell that is missing."""
    return replace(column, missing=Rule.LEVEL) if column.has_missing_level else column
