"""Corrections for looking at several comparisons at once.

Several arms against one control share its errors: Dunnett (1955, JASA 50) gives the level at
which all their intervals hold at once, exactly for the correlation that follows (Hsu 1996,
Multiple Comparisons, 3.3). Everything else is Holm (1979, Scandinavian Journal of Statistics 6)
for p-values and Bonferroni for intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm

from twinweave.analysis.lift.intervals import quantile

_NODES = np.linspace(-9.0, 9.0, 361)
"""At which the control's error is integrated over: the trapezoid rule is exact to 1e-12 here."""

_WEIGHTS = norm.pdf(_NODES) * (_NODES[1] - _NODES[0])

_MOST = 1 - 1e-9
"""Of a probability, whose logarithm is taken."""

_STEEPEST = 0.999
"""Of a loading: nearer to 1 the integrand has steps between the nodes. Less is on the safe side."""

_FAR = 6.0
"""Beyond this quantile a control's error that decides lies outside the nodes, and the sum of all
tails (Bonferroni) is next to exact, or on the safe side."""


def loading(own: float, common: float) -> float:
    """The control's error in a comparison's: two of them have the product of theirs for
    correlation. own, common: variances of the arm's mean and of the control's."""
    return float(min((common / (own + common)) ** 0.5, _STEEPEST)) if common else 0.0


def dunnett_p(p: float, loadings: Sequence[float]) -> float:
    """Probability that the largest of several comparisons has a p as small, without effects.

    p: two-sided, of one comparison. loadings: of all of them.
    """
    z = float(norm.isf(p / 2))
    if len(loadings) == 1 or z > _FAR:
        return min(p * len(loadings), 1.0)
    return max(_tail(z, np.asarray(loadings)), p)


def dunnett_level(level: float, loadings: Sequence[float]) -> float:
    """Level of each interval at which all hold at once with probability `level`."""
    if len(loadings) == 1:
        return level
    each = np.asarray(loadings)
    low, high = quantile(level), quantile(1 - (1 - level) / len(loadings))
    z = brentq(lambda z: _tail(z, each) - (1 - level), low, high + 1e-6, xtol=1e-10)
    return float(1 - 2 * norm.sf(z))


def _tail(z: float, loadings: NDArray[np.float64]) -> float:
    """P(max |Z_i| > z), Z_i = loading_i C + sqrt(1 - loading_i**2) E_i, all standard normal."""
    own = np.sqrt(1 - loadings**2)[:, None]
    shared = loadings[:, None] * _NODES
    outside = ndtr((shared - z) / own) + ndtr((-shared - z) / own)
    # 1 - prod(1 - outside) without cancellation: a small p stays exact.
    return float(min(_WEIGHTS @ -np.expm1(np.log1p(-np.minimum(outside, _MOST)).sum(axis=0)), 1.0))


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A comparison to correct. family: those of one family are corrected for each other by
    Dunnett, by their loadings; families for each other by Holm."""

    family: str
    p: float
    loading: float = 0.0


def adjusted(compared: Sequence[Compared]) -> list[float]:
    """p-values that hold for all comparisons at once, in the order given.

    With one family Dunnett's single-step p, with families of one Holm's. In between closed
    testing (Marcus, Peritz & Gabriel 1976) by the smallest p within its family, times the number
    of families that are left.
    """
    loadings: dict[str, list[float]] = {}
    for one in compared:
        loadings.setdefault(one.family, []).append(one.loading)
    within = [dunnett_p(one.p, loadings[one.family]) for one in compared]
    found, running = [0.0] * len(compared), 0.0
    left = sorted(range(len(compared)), key=lambda i: within[i])
    while left:
        families = len({compared[i].family for i in left})
        first, *left = left
        running = max(running, min(families * within[first], 1.0))
        found[first] = running
    return found


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    return adjusted([Compared(family=str(i), p=one) for i, one in enumerate(p)])
