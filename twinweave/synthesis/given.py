"""What rows are asked for, in the words of a schema: "arm is test" as codes of columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from twinweave.errors import ConfigError
from twinweave.synthesis.draw import Codes
from twinweave.tables.column import Column, Kind
from twinweave.tables.schema import JointSchema

Level = str | int | float | bool
Given = Mapping[str, Level | Sequence[Level]]
"""By column, the level that a row must have, or several of which it must have one."""


def given_codes(schema: JointSchema, given: Given) -> Codes:
    """Raises ConfigError for a column or a level that there is not."""
    found = {}
    for name, levels in given.items():
        if name not in schema.names:
            raise ConfigError(
                f"given.{name}", "no such column", f"Columns: {', '.join(schema.names)}."
            )
        if isinstance(levels, str) or not isinstance(levels, Iterable):
            levels = [levels]  # a number of any kind, or none
        codes = [_code(schema.column(name), level) for level in levels]
        found[schema.names.index(name)] = np.array(codes, dtype=np.int32)
    return found


def _code(column: Column, level: Level) -> int:
    """Of a level by its label; true and false of a boolean column by themselves."""
    if column.kind is Kind.BOOLEAN and isinstance(level, bool):
        return int(level)
    if str(level) not in column.labels:
        raise ConfigError(
            f"given.{column.name}", "no such level", f"Its levels: {', '.join(column.labels)}."
        )
    return column.labels.index(str(level))
