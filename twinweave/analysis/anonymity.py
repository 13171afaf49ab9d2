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
from twinweave.tables.column import Column
from twinweave.tables.contingency import ABSENT

Codes = NDArray[np.integer[Any]]


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


def kept(codes: Codes, k: int) -> NDArray[np.bool_]:
    """Which rows share all their codes with k - 1 others or more: (n,). The rest is suppressed.

    codes: int (n, quasi-identifiers).
    """
    classes = classes_of(codes)
    return np.asarray(np.bincount(classes, minlength=1)[classes] >= k)


def classes_of(codes: Codes) -> NDArray[np.int64]:
    """(n,) number of every row's class, 0, 1, ...: rows with equal codes are one class."""
    found = np.zeros(len(codes), dtype=np.int64)
    for column in codes.T:
        own = column.astype(np.int64) - ABSENT
        # Made dense after each column, so that the product of sizes never overflows.
        together = found * (own.max(initial=0) + 1) + own
        found = np.unique(together, return_inverse=True)[1].reshape(-1)
    return found


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
