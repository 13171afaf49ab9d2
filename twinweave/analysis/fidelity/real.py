"""How far synthetic rows are from a party's own: tables of one, two and three columns.

Codes alone are compared, as the run saw them. Beside each distance stands what sampling alone
makes: two draws of such sizes from one population differ by so much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.audit.results import UtilityFinding
from twinweave.tables.contingency import Axis

MOST_TABLES = 200
"""Of one number of columns; more are sampled."""

_CHUNK = 1 << 15  # rows that are one-hot at once

Codes = NDArray[np.integer[Any]]


def distances(
    used: Codes, aside: Codes, synthetic: Codes, sizes: Sequence[int], rng: np.random.Generator
) -> list[UtilityFinding]:
    """Mean total variation distance of synthetic rows to the rows used, by columns in a table.

    All: (n, columns) of the same columns, sizes: their codes. `against` is the distance of the
    rows set aside to those used, brought to the size of the synthetic table: a distance falls
    with sqrt(1 / n + 1 / m).
    """
    found = []
    for ways in range(1, min(3, len(sizes)) + 1):
        tables = list(_tables(len(sizes), ways, rng))
        value = np.mean([tvd(used, synthetic, t, sizes) for t in tables])
        against = None
        if len(aside):
            apart = np.mean([tvd(used, aside, t, sizes) for t in tables])
            against = float(apart) * _spread(used, synthetic) / _spread(used, aside)
        found.append(
            UtilityFinding(
                name=f"distance, tables of {ways}",
                value=float(value),
                against=against,
                n=len(used),
                detail=f"total variation, mean of {len(tables)} tables; against: sampling alone",
            )
        )
    return found


def similarities(used: Codes, synthetic: Codes, sizes: Sequence[int]) -> list[UtilityFinding]:
    """Mean squared error and cosine similarity of all pair tables, as shares, and of the
    correlation matrices of indicators. Weak: sparse tables are alike whatever is in them."""
    real, made = _gram(used, sizes), _gram(synthetic, sizes)
    pairs = _pair_cells(sizes)
    tables = "pair tables", real[pairs], made[pairs]
    matrices = "correlation matrices", _correlations(real)[pairs], _correlations(made)[pairs]
    found = []
    for name, one, other in (tables, matrices):
        size = float(np.linalg.norm(one) * np.linalg.norm(other))
        values = {
            "MSE": float(((one - other) ** 2).mean()),
            "cosine similarity": float(one @ other) / size if size else 0.0,
        }
        found += [
            UtilityFinding(name=f"{what}, {name}", value=value, n=len(used), weak=True)
            for what, value in values.items()
        ]
    return found


def tvd(one: Codes, other: Codes, columns: Sequence[int], sizes: Sequence[int]) -> float:
    """Total variation distance of two tables of these columns, each as shares of its rows."""
    shares = [_shares(codes, columns, sizes) for codes in (one, other)]
    return float(np.abs(shares[0] - shares[1]).sum()) / 2


def _shares(codes: Codes, columns: Sequence[int], sizes: Sequence[int]) -> NDArray[np.float64]:
    axis = Axis(sizes=tuple(sizes[c] for c in columns))
    counts = np.bincount(axis.positions(codes[:, list(columns)]), minlength=axis.size)
    shares: NDArray[np.float64] = counts / max(len(codes), 1)
    return shares


def _spread(one: Codes, other: Codes) -> float:
    return sqrt(1 / len(one) + 1 / len(other))


def _tables(columns: int, ways: int, rng: np.random.Generator) -> Iterator[tuple[int, ...]]:
    every = list(combinations(range(columns), ways)) if comb(columns, ways) <= 20_000 else None
    if every is None:
        for _ in range(MOST_TABLES):
            yield tuple(sorted(rng.choice(columns, ways, replace=False)))
    elif len(every) <= MOST_TABLES:
        yield from every
    else:
        yield from (every[i] for i in rng.choice(len(every), MOST_TABLES, replace=False))


def _gram(codes: Codes, sizes: Sequence[int]) -> NDArray[np.float64]:
    """All pair tables at once, as shares: (width, width)."""
    offsets = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    width = int(np.sum(sizes))
    total = np.zeros((width, width))
    for start in range(0, len(codes), _CHUNK):
        own = codes[start : start + _CHUNK] + offsets
        hot = np.zeros((len(own), width), dtype=np.float32)
        np.put_along_axis(hot, own, 1.0, axis=1)
        total += hot.T @ hot
    return total / max(len(codes), 1)


def _pair_cells(sizes: Sequence[int]) -> NDArray[np.bool_]:
    """Which cells of a gram matrix are of two columns, once each: (width, width)."""
    column = np.repeat(np.arange(len(sizes)), sizes)
    return np.less.outer(column, column)


def _correlations(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    share = np.diag(gram)
    spread = np.sqrt(np.maximum(share * (1 - share), 1e-12))
    apart = gram - np.outer(share, share)
    return np.asarray(apart / np.outer(spread, spread))
