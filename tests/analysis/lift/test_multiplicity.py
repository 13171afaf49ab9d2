"""Several arms and outcomes: Dunnett's published values, Holm's, and the error rate of both."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, multivariate_normal, norm

from twinweave.analysis.lift.intervals import quantile
from twinweave.analysis.lift.multiplicity import (
    Compared,
    adjusted,
    dunnett_level,
    dunnett_p,
    loading,
)

EQUAL = loading(1.0, 1.0)
"""Of arms as precise as the control: comparisons correlate by a half."""

ALPHA, REPLICATES = 0.05, 400


@pytest.mark.parametrize(("arms", "value"), [(1, 1.96), (2, 2.21), (3, 2.35), (4, 2.44), (5, 2.51)])
def test_critical_values_are_dunnetts(arms: int, value: float) -> None:
    """Dunnett 1964 (Biometrics 20), table II, two-sided, 95 %, infinite degrees of freedom."""
    assert quantile(dunnett_level(0.95, [EQUAL] * arms)) == pytest.approx(value, abs=0.005)


def test_unequal_arms_have_their_own_correlation() -> None:
    loadings = [loading(*v) for v in ((1.0, 2.0), (3.0, 2.0), (0.2, 2.0))]
    z = quantile(dunnett_level(0.9, loadings))
    cov = np.outer(loadings, loadings)
    np.fill_diagonal(cov, 1.0)
    inside = multivariate_normal(cov=cov).cdf(np.full(3, z), lower_limit=np.full(3, -z))
    assert inside == pytest.approx(0.9, abs=1e-4)
    assert dunnett_p(2 * norm.sf(z), loadings) == pytest.approx(0.1, abs=1e-9)


def test_small_p_values_stay_exact() -> None:
    assert dunnett_p(1e-12, [EQUAL] * 2) == pytest.approx(2e-12, rel=0.01, abs=0)
    assert dunnett_p(1e-60, [EQUAL] * 2) == pytest.approx(2e-60, rel=0.01, abs=0)


@pytest.mark.parametrize("common", [0.0, 1.0, 20.0, 1e6])
@pytest.mark.parametrize("p", [1e-200, 1e-30, 1e-9, 1e-4, 0.05, 0.5, 0.999])
def test_an_adjusted_p_is_between_the_plain_one_and_bonferronis(p: float, common: float) -> None:
    """Whatever the control's precision: a tiny control makes all comparisons nearly one."""
    found = dunnett_p(p, [loading(1.0, common)] * 3)
    assert p <= found <= min(3 * p * (1 + 1e-9), 1)


def test_what_needs_no_correction() -> None:
    assert dunnett_p(0.0, [EQUAL] * 2) == 0
    assert dunnett_p(1.0, [EQUAL] * 2) == pytest.approx(1)


def test_one_family_is_dunnett_and_families_of_one_are_holm() -> None:
    one = [Compared(family="visit", p=p, loading=EQUAL) for p in (0.03, 0.2)]
    assert adjusted(one) == pytest.approx([dunnett_p(p, [EQUAL] * 2) for p in (0.03, 0.2)])
    many = [Compared(family=str(i), p=p) for i, p in enumerate((0.01, 0.04, 0.03, 0.005))]
    assert adjusted(many) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjusted([Compared(family="visit", p=0.04)]) == [0.04]


def errors(true: NDArray[np.float64], rng: np.random.Generator, *, correct: bool = True) -> int:
    """Experiments, of REPLICATES, with a verdict where there is no effect.

    true: effect over its standard error, (outcomes, arms).
    """
    wrong = 0
    for _ in range(REPLICATES):
        control = rng.normal(size=(len(true), 1))
        z = true + (rng.normal(size=true.shape) - control) / np.sqrt(2)
        p = 2 * norm.sf(np.abs(z))
        if correct:
            one = [
                Compared(family=str(o), p=float(p[o, a]), loading=EQUAL)
                for o in range(true.shape[0])
                for a in range(true.shape[1])
            ]
            p = np.array(adjusted(one)).reshape(true.shape)
        wrong += bool(np.any((p < ALPHA) & (true == 0)))
    return wrong


@pytest.mark.parametrize(
    "true",
    [np.zeros((3, 2)), np.array([[9.0, 9.0], [0.0, 0.0]])],
    ids=["no effect", "one outcome has one"],
)
def test_a_wrong_verdict_anywhere_is_as_rare_as_is_said(true: NDArray[np.float64]) -> None:
    """More have probability 1e-6 in each case."""
    assert errors(true, np.random.default_rng(7)) <= binom.isf(1e-6, REPLICATES, ALPHA)


def test_without_correction_it_is_not() -> None:
    """The broken variant."""
    rng = np.random.default_rng(7)
    assert errors(np.zeros((3, 2)), rng, correct=False) > binom.isf(1e-6, REPLICATES, ALPHA)
