"""A conversion's lift level by level, with correction for looking at many of them.

Intervals hold for all shown levels at once (Bonferroni), p-values carry Holm's correction
(Holm 1979, Scandinavian Journal of Statistics 6), and one test of interaction asks whether
the levels differ at all (Cochran's Q, 1954, Biometrics 10).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from twinweave.analysis.lift.compare import compare, verdict
from twinweave.analysis.lift.estimate import CONTROL, TEST, Counts
from twinweave.analysis.lift.results import Breakdown, Cell, Comparison, Interaction, Verdict
from twinweave.tables.column import Column
from twinweave.workload.analyses import LiftConf

RATES = (0.0, 1.0)


def shown(n: float, var_n: float, k: int) -> bool:
    """Whether a noisy size may be shown: at least k, and three standard deviations of noise."""
    return n >= max(k, 3 * var_n**0.5) and n > 0


def break_down(conf: LiftConf, column: Column, counts: Counts, conversion: str) -> Breakdown:
    """Compare the arms at every level of `column` that is not suppressed."""
    levels = range(counts.theta.shape[1])
    kept = [
        i for i in levels if all(shown(*counts.size(arm, i), conf.k) for arm in (TEST, CONTROL))
    ]
    alpha = 1 - conf.level
    joint = 1 - alpha / max(len(kept), 1)
    found = {i: compare_rates(counts, conversion, joint, i) for i in kept}
    adjusted = dict(zip(kept, holm([found[i].p_value for i in kept]), strict=True))
    return Breakdown(
        column=column.name,
        level=conf.level,
        cells=tuple(_cell(column.labels[i], found.get(i), adjusted.get(i), alpha) for i in levels),
        interaction=interaction(list(found.values())),
    )


def compare_rates(counts: Counts, conversion: str, level: float, at: int = 0) -> Comparison:
    """The arms' conversion rates, at one level of a breakdown, with intervals at `level`."""
    test, control = (counts.rate(arm, conversion, level=at) for arm in (TEST, CONTROL))
    return compare(test, control, level=level, possible=RATES)


def _cell(label: str, found: Comparison | None, p: float | None, alpha: float) -> Cell:
    outcome = Verdict.INCONCLUSIVE
    if found is not None and p is not None:
        outcome = verdict(found.absolute.value, p, alpha)
    return Cell(level=label, comparison=found, p_holm=p, verdict=outcome)


def holm(p: Sequence[float]) -> NDArray[np.float64]:
    """Holm's step-down adjusted p-values, in the order given."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def interaction(found: Sequence[Comparison]) -> Interaction | None:
    """Cochran's Q over the levels' absolute lifts; None with fewer than two."""
    if len(found) < 2:
        return None
    lifts = np.array([c.absolute.value for c in found])
    weights = np.array([c.standard_error for c in found]) ** -2.0
    pooled = np.sum(weights * lifts) / np.sum(weights)
    q, df = float(np.sum(weights * (lifts - pooled) ** 2)), len(found) - 1
    return Interaction(q=q, df=df, p_value=float(chi2.sf(q, df)))
