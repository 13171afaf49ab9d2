"""k-anonymity, l-diversity and t-closeness of a table over its quasi-identifiers: a description.

Rows that agree on all quasi-identifiers are a class. What is described is the table, not how it was
made: a copy of real rows may be 10-anonymous, and a synthetic row that nobody shares may be of
nobody. A guarantee is differential privacy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.generators.union import Rows
from twinweave.synthesis.suppress import classes_of
from twinweave.tables.column import Column, Role
from twinweave.tables.contingency import ABSENT
from twinweave.tables.schema import JointSchema

Codes = NDArray[np.integer[Any]]

JOINT = "joint"
"""How the table of all parties is called beside theirs."""

SENSITIVE = frozenset({Role.SENSITIVE, Role.LABEL, Role.CONVERSION})
"""Columns whose values within a class are looked at."""


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """A sensitive column within the classes.

    l: distinct values in the class with fewest (distinct l-diversity, Machanavajjhala et al.
    2007). entropy_l: exp of the least entropy within a class (their entropy l-diversity).
    t: the largest distance between a class's distribution and the whole table's (t-closeness,
    Li, Li & Venkatasubramanian 2007): earth mover's, between bins by rank, between levels alike.
    """

    column: str
    l: int  # noqa: E741 - its name in the field
    entropy_l: float
    t: float


@dataclass(frozen=True, kw_only=True)
class Anonymity:
    """k: rows of the smallest class. below: rows in classes smaller than `wanted`."""

    quasi_identifiers: tuple[str, ...]
    rows: int
    classes: int
    k: int
    wanted: int
    below: int
    diversity: tuple[Diversity, ...] = field(default=())


def anonymity(
    columns: Sequence[Column],
    codes: Codes,
    quasi_identifiers: Sequence[str],
    sensitive: Sequence[str] = (),
    *,
    wanted: int = 1,
) -> Anonymity:
    """Describe a table. codes: int (n, columns), ABSENT a value like others. wanted: a k to reach.

    A sensitive column that is a quasi-identifier too is left out. Raises ConfigError for a column
    that is not there, and where there is no quasi-identifier or no row.
    """
    places = _places(columns, quasi_identifiers)
    if not len(codes):
        raise ConfigError("audit.quasi_identifiers", "the table has no row", "Describe another.")
    classes = classes_of(codes[:, places])
    sizes = np.bincount(classes)
    others = [name for name in sensitive if name not in quasi_identifiers]
    return Anonymity(
        quasi_identifiers=tuple(quasi_identifiers),
        rows=len(codes),
        classes=len(sizes),
        k=int(sizes.min()),
        wanted=wanted,
        below=int(sizes[sizes < wanted].sum()),
        diversity=tuple(
            _diversity(columns[place], codes[:, place], classes, sizes)
            for place in _places(columns, others)
        ),
    )


def of_tables(
    schema: JointSchema, rows: Rows, quasi_identifiers: Sequence[str], wanted: int
) -> dict[str, Anonymity]:
    """Each party's synthetic table that has one of the quasi-identifiers, and the joint one.

    Over those that the table has; of its sensitive columns, outcomes and labels.
    """
    found = {}
    for party, present in zip(schema.parties, rows.presence.T, strict=True):
        columns = schema.schema(party).data_columns
        at = [schema.names.index(c.name) for c in columns]
        told = of_table(columns, rows.codes[present][:, at], quasi_identifiers, wanted)
        if told is not None:
            found[party] = told
    joint = of_table(schema.columns, rows.codes, quasi_identifiers, wanted)
    return found if joint is None else {**found, JOINT: joint}


def of_table(
    columns: Sequence[Column], codes: Codes, quasi_identifiers: Sequence[str], wanted: int
) -> Anonymity | None:
    """One table, over those of the quasi-identifiers that it has; None without one, or a row."""
    own = [c.name for c in columns if c.name in quasi_identifiers]
    if not own or not len(codes):
        return None
    sensitive = [c.name for c in columns if c.role in SENSITIVE]
    return anonymity(columns, codes, own, sensitive, wanted=wanted)


def _places(columns: Sequence[Column], names: Sequence[str]) -> list[int]:
    at: Mapping[str, int] = {c.name: i for i, c in enumerate(columns)}
    if unknown := [name for name in names if name not in at]:
        raise ConfigError(
            "audit.quasi_identifiers",
            f"there is no column {unknown[0]!r}",
            f"Name columns of: {', '.join(at)}.",
        )
    return [at[name] for name in names]


def _diversity(
    column: Column, codes: Codes, classes: NDArray[np.int64], sizes: NDArray[np.int64]
) -> Diversity:
    """Of one sensitive column. sizes: rows of each class."""
    width = column.size + 1
    values = codes.astype(np.int64) - ABSENT
    counts = np.bincount(classes * width + values, minlength=len(sizes) * width)
    shares = counts.reshape(len(sizes), width) / sizes[:, None]
    logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    entropy = -(shares * logs).sum(axis=1)
    whole = np.bincount(values, minlength=width) / len(values)
    return Diversity(
        column=column.name,
        l=int((shares > 0).sum(axis=1).min()),
        entropy_l=float(np.exp(entropy.min())),
        t=float(_distances(column, shares, whole).max()),
    )


def _distances(
    column: Column, shares: NDArray[np.float64], whole: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(classes,) earth mover's distance to the whole: at most 1.

    Between two levels 1 whichever they are, so half the sum of differences. Bins are in order: the
    mass that has to pass between neighbours, over the bins' number less one. Where a column has
    codes beside its bins (missing, special, absent), all its codes are as levels.
    """
    apart = shares - whole
    ordered = column.is_numeric and column.bin_count == column.size and not whole[0]
    if ordered and column.bin_count > 1:
        passing = np.abs(np.cumsum(apart[:, 1:], axis=1)[:, :-1])
        return np.asarray(passing.sum(axis=1) / (column.bin_count - 1))
    return np.asarray(np.abs(apart).sum(axis=1) / 2)
