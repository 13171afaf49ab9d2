"""The gate is a function of findings, and withholds for what it says it does, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from twinweave.analysis.audit.gate import CANARIES, decide
from twinweave.analysis.audit.rates import finding_of_hits, hit_table
from twinweave.analysis.audit.report import audit_report
from twinweave.analysis.audit.results import AttackFinding, LowerBound
from twinweave.workload.audit import AuditPlan

LEAKS = AttackFinding(name="copies", success=0.6, control=0.2, interval=(0.31, 0.49), threshold=0.3)
UNSURE = AttackFinding(
    name="copies", success=0.6, control=0.2, interval=(0.29, 0.51), threshold=0.3
)


def bound(value: float) -> LowerBound:
    return LowerBound(path="tables", claimed=1.0, bound=value, ceiling=0.9, confidence=0.99)


def test_an_attack_withholds_where_its_whole_interval_beats_the_threshold() -> None:
    assert LEAKS.exceeds
    assert not UNSURE.exceeds
    assert not decide({"a": [UNSURE]}).withheld
    gate = decide({"a": [UNSURE], "b": [LEAKS]})
    assert gate.withheld
    (reason,) = gate.reasons
    assert reason.source == "b"
    assert "+40.0%" in reason.what
    assert reason.remedy


def test_a_lower_bound_above_the_claim_withholds() -> None:
    assert not decide({}, [bound(1.0)]).withheld
    (reason,) = decide({}, [bound(0.8), bound(1.2)]).reasons
    assert reason.source == CANARIES
    assert "1.2" in reason.what


def test_a_partys_word_withholds_and_what_was_not_seen_does_not() -> None:
    assert decide({}, refused=["a"]).reasons[0].source == "a"
    gate = decide({}, unseen=["b did not answer."])
    assert gate.state == "open"
    assert gate.unseen == ("b did not answer.",)


@pytest.mark.parametrize("gate", ["off", "counts", "parties"])
def test_nothing_opens_for_a_training_without_noise(gate: str) -> None:
    plan = AuditPlan(
        mode="quick",
        holdout=0.1,
        threshold=0.1,
        counted=(),
        noise_multiplier=None,
        verdict=gate == "parties",
        quasi_identifiers=(),
        k=5,
    )
    assert not audit_report(plan, gate, ["a"], {}).gate.withheld
    (reason,) = (found := audit_report(plan, gate, ["a"], {}, unsafe=True).gate).reasons
    assert found.withheld
    assert "without noise" in reason.what


# --- rates ---------------------------------------------------------------------------------


def finding(table: list[int], variance: float = 0.0) -> AttackFinding | None:
    cells = np.array(table, dtype=np.int64)
    return finding_of_hits("x", cells, threshold=0.1, variance=variance)


def test_hits_become_rates_of_their_own_group() -> None:
    used, aside = np.array([True, True, False]), np.array([False, True])
    assert hit_table(used, aside).tolist() == [2, 1, 1, 1]
    found = finding([300, 700, 10, 90])
    assert found is not None
    assert (found.success, found.control) == (0.3, 0.1)
    assert (found.used, found.aside) == (1000, 100)
    assert found.interval[0] < 0.2 < found.interval[1]


def test_too_few_rows_beside_the_noise_say_nothing() -> None:
    assert finding([300, 700, 10, 10]) is None
    assert finding([300, 700, 10, 90], variance=1000.0) is None
    assert finding([300, 700, -10, 9000], variance=100.0) is not None


@pytest.mark.parametrize("sd", [0.0, 20.0])
def test_the_interval_holds_the_truth_as_often_as_it_says(sd: float) -> None:
    """2,000 draws at level .95: below .93 or above .98 has a chance under 1e-4. Noise is rounded
    Gaussian of the variance stated; leaving that out of the interval is seen."""
    rng, n = np.random.default_rng(5), 2000
    used, aside = rng.binomial(4000, 0.3, n), rng.binomial(1000, 0.2, n)
    exact = np.stack([used, 4000 - used, aside, 1000 - aside], axis=1)
    noisy = exact + np.rint(sd * rng.standard_normal(exact.shape)).astype(np.int64)

    def held(variance: float) -> float:
        found = [finding_of_hits("x", t, threshold=0.1, variance=variance) for t in noisy]
        inside = [f.interval[0] <= 0.1 <= f.interval[1] for f in found if f is not None]
        assert len(inside) == n
        return float(np.mean(inside))

    assert 0.93 < held(sd**2) < 0.98
    if sd:
        assert held(0.0) < 0.9
