"""Synthetic rows as the tables their users want: one a party, one joint, SDV metadata beside.

Each union row is decoded once, so a person has the same id and the same values in every table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows
from twinweave.tables.encoding import ByCode, by_code, decode, plain_dtype
from twinweave.tables.schema import JointSchema
from twinweave.tables.sdv_metadata import to_sdv_metadata

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticTables:
    """The union rows, decoded.

    joint: one row a person: id, union columns in their own types (NaN, NA, None or NaT where no
        holder is present), one boolean a party. key: name of its id column.
    present: {party: name of its boolean column}.
    """

    schema: JointSchema
    joint: pd.DataFrame = field(repr=False)
    key: str
    present: Mapping[str, str]

    def of(self, party: str) -> pd.DataFrame:
        """The party's table: its own people and columns, in its schema's order, key first."""
        import pandas as pd

        schema = self.schema.schema(party)
        rows = self.joint[self.joint[self.present[party]]]
        table = rows[[self.key, *schema.names]].rename(columns={self.key: schema.key.name})
        whole = {name: plain_dtype(cells) for name, cells in table.items()}
        return pd.DataFrame(whole).reset_index(drop=True)

    def metadata_of(self, party: str) -> dict[str, Any]:
        """SDV metadata of the party's table."""
        schema = self.schema.schema(party)
        return to_sdv_metadata(schema.data_columns, schema.key.name)

    @property
    def joint_metadata(self) -> dict[str, Any]:
        """SDV metadata of the joint table."""
        metadata = to_sdv_metadata(self.schema.columns, self.key)
        columns = metadata["tables"]["table"]["columns"]
        columns.update((name, {"sdtype": "boolean"}) for name in self.present.values())
        return metadata


def decode_rows(
    schema: JointSchema, rows: Rows, seed: int, users: ByCode | None = None
) -> SyntheticTables:
    """Decode union rows; numbers and dates are drawn within their bins, seeded.

    users: by code of every column, which the density within a bin follows from; None: the rows'
    own. Ids count the rows: "synthetic-0000042". Raises SchemaError when rows do not fit.
    """
    import pandas as pd

    key = key_of(schema)
    rng = np.random.default_rng([seed, 4])
    known = by_code(rows.codes, schema.columns) if users is None else users
    values = decode(schema.columns, rows.codes, rng, known)
    ids = pd.DataFrame({key: _ids(len(rows))})
    present = presence_columns(schema)
    flags = pd.DataFrame(rows.presence, columns=list(present.values()))
    joint = pd.concat([ids, values, flags], axis=1)
    return SyntheticTables(schema=schema, joint=joint, key=key, present=present)


def key_of(schema: JointSchema) -> str:
    """Name of the joint table's id column."""
    keys = {s.key.name for s in schema.schemas}
    return keys.pop() if len(keys) == 1 else _unused("synthetic_id", schema.names)


def presence_columns(schema: JointSchema) -> dict[str, str]:
    """Name of each party's column of the joint table, by party."""
    present: dict[str, str] = {}
    for party in schema.parties:
        taken = (key_of(schema), *schema.names, *present.values())
        present[party] = _unused(f"present_{party}", taken)
    return present


def _ids(n: int) -> NDArray[np.object_]:
    return np.char.mod("synthetic-%07d", np.arange(n)).astype(object)


def _unused(name: str, taken: Iterable[str]) -> str:
    """The name, with underscores behind it until no other column has it."""
    others = set(taken)
    while name in others:
        name += "_"
    return name
