"""What a party's audit is given, and what it gives back: private to the party, both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows
from twinweave.tables.column import Column
from twinweave.tables.encoding import Codes, EncodedTable
from twinweave.tables.schema import JointSchema
from twinweave.workload.audit import AuditPlan


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A party's own rows beside the synthetic ones.

    used: rows that the run was about. aside: rows that no release ever saw. synthetic: of the
    synthetic people present at the party, its own columns. All int32 (rows, columns), of
    `columns` in their order. unsafe: they are of a generator that was trained without noise.
    """

    party: str
    schema: JointSchema
    used: Codes = field(repr=False)
    aside: Codes = field(repr=False)
    synthetic: Codes = field(repr=False)
    plan: AuditPlan
    seed: int
    unsafe: bool = False

    @classmethod
    def of(
        cls,
        party: str,
        schema: JointSchema,
        rows: tuple[EncodedTable, EncodedTable],
        joint: Rows,
        plan: AuditPlan,
        seed: int,
        *,
        unsafe: bool = False,
    ) -> Evidence:
        """rows: the party's, used and set aside. joint: all synthetic people, over the union's
        columns."""
        names = schema.schema(party).names
        own = [schema.names.index(name) for name in names]
        present = joint.presence[:, schema.parties.index(party)]
        # The groups of clusters, which no synthetic row has, stand behind the columns.
        used, aside = (table.codes[:, : len(names)] for table in rows)
        return cls(
            party=party,
            schema=schema,
            used=used,
            aside=aside,
            synthetic=np.asarray(joint.codes[present][:, own]),
            plan=plan,
            seed=seed,
            unsafe=unsafe,
        )

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of the party's rows, in schema order."""
        return self.schema.schema(self.party).data_columns

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes of each column."""
        return tuple(column.size for column in self.columns)


@dataclass(frozen=True, kw_only=True)
class Audited:
    """report: the party's own file, JSON-ready. withheld: its exact word on the tables.

    hits: by attack of COUNTED, the exact table of HIT_CELLS: int64. Each row counts once at most,
    and whether it is hit follows from it and the synthetic rows alone.
    """

    report: Mapping[str, Any] = field(repr=False)
    withheld: bool
    hits: Mapping[str, NDArray[np.int64]] = field(repr=False)


Audit = Callable[[Evidence], Audited]
