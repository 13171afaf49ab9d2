"""k-anonymity of synthetic rows by suppression: rows that too few others are like go.

Rows that agree on all quasi-identifiers are a class (Samarati & Sweeney 1998). Post-processing: no
privacy cost, and no guarantee beyond the run's (epsilon, delta), which holds without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.generators.union import Rows
from twinweave.tables.contingency import ABSENT

Codes = NDArray[np.integer[Any]]


def suppressed(rows: Rows, names: Sequence[str], quasi_identifiers: Sequence[str], k: int) -> Rows:
    """The rows that share presence and quasi-identifiers with k - 1 others or more.

    names: of the rows' columns. By presence too, so that every party's own table is k-anonymous
    over those that it has, and the joint table over all.
    """
    own = rows.codes[:, [names.index(name) for name in quasi_identifiers]]
    classes = classes_of(np.concatenate([own, rows.presence], axis=1))
    sizes = np.bincount(classes, minlength=1)
    return rows.take(np.flatnonzero(sizes[classes] >= k))


def classes_of(codes: Codes) -> NDArray[np.int64]:
    """(n,) number of every row's class, 0, 1, ...: rows with equal codes are one class.

    codes: int (n, columns), ABSENT or more.
    """
    found = np.zeros(len(codes), dtype=np.int64)
    for column in codes.T:
        own = column.astype(np.int64) - ABSENT
        # Made dense after each column, so that the product of sizes never overflows.
        together = found * (own.max(initial=0) + 1) + own
        found = np.unique(together, return_inverse=True)[1].reshape(-1)
    return found
