"""The quality score of SDMetrics, which SDV's users know: at a party, on its own rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinweave.analysis.audit.results import UtilityFinding
from twinweave.tables.column import Column
from twinweave.tables.encoding import by_code, decode
from twinweave.tables.sdv_metadata import to_sdv_metadata

if TYPE_CHECKING:
    import pandas as pd


def quality(
    columns: Sequence[Column],
    used: NDArray[np.integer[Any]],
    synthetic: NDArray[np.integer[Any]],
    rng: np.random.Generator,
) -> UtilityFinding:
    """SDMetrics' overall quality score, 0 to 1: column shapes and pair trends, both decoded from
    codes by one rule. Weak: products of marginals score high."""
    from sdmetrics.reports import QualityReport

    report = QualityReport()
    real, made = ({"table": _frame(columns, rows, rng)} for rows in (used, synthetic))
    report.generate(real, made, to_sdv_metadata(columns, None), verbose=False)
    return UtilityFinding(
        name="SDMetrics quality", value=float(report.get_score()), n=len(used), weak=True
    )


def _frame(
    columns: Sequence[Column], codes: NDArray[np.integer[Any]], rng: np.random.Generator
) -> pd.DataFrame:
    return decode(columns, codes, rng, by_code(codes, columns))
