"""Copies: does a row that was used stand in the synthetic table more often than one that was not?

The simplest sign of memorising, and one that can be counted with noise: whether a row is hit
follows from that row and the synthetic rows alone. Rows of few columns recur by chance; those
that were set aside say how often.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NAME = "copies"

Codes = NDArray[np.integer[Any]]


def copied(rows: Codes, synthetic: Codes) -> NDArray[np.bool_]:
    """Which rows have all their codes in one synthetic row: (n,). Both of the same columns."""
    return np.isin(_keys(rows), _keys(synthetic))


def _keys(codes: Codes) -> NDArray[Any]:
    """(n,) one value a row, equal where rows are."""
    whole = np.ascontiguousarray(codes, dtype=np.int32)
    return whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1]))).ravel()
