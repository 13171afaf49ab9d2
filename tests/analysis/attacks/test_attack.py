"""Attacks find generators that remember rows, and nothing of one that never saw them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.analysis.attacks.leaking import (
    COLUMNS,
    Generator,
    copies,
    exposed,
    fifth,
    overfitted,
    people,
    safe,
)
from twinweave.analysis.attacks.attack import EFFORTS, LEAST, Attacks, attack
from twinweave.analysis.attacks.rows import Exposed
from twinweave.errors import SchemaError

THRESHOLD = 0.1
DOMIAS, GEN_LRA = "DOMIAS, area under the curve", "Gen-LRA, area under the curve"
FEW = "at 2.0% false alarms"


def quick(generator: Generator, seed: int, **sizes: int) -> Attacks:
    found = exposed(generator, seed, **sizes)
    return attack(found, EFFORTS["quick"], threshold=THRESHOLD, seed=seed)


@pytest.mark.parametrize("generator", [copies, overfitted])
def test_each_attack_finds_a_generator_that_remembers(generator: Generator) -> None:
    found = quick(generator, 1)
    assert {f.name for f in found.findings if f.exceeds} == {
        DOMIAS,
        GEN_LRA,
        f"DOMIAS, {FEW}",
        f"Gen-LRA, {FEW}",
        "rare values",
    }
    assert not found.left_out


def test_copies_among_other_rows_are_found_at_few_false_alarms() -> None:
    """Where areas under the curve stay below the threshold: most people are safe, some are not."""
    found = {f.name: f for f in quick(fifth, 1).findings}
    assert found[f"DOMIAS, {FEW}"].exceeds
    assert found[f"Gen-LRA, {FEW}"].exceeds
    assert not found[DOMIAS].exceeds


def test_both_attacks_beat_the_closest_record() -> None:
    """On rows that are nearly remembered; distances are told, and judged by nobody."""
    found = quick(overfitted, 2, n=3000, control=2000)
    areas = {f.name: f.success for f in found.findings}
    assert found.closest is not None
    assert min(areas[DOMIAS], areas[GEN_LRA]) > found.closest.area + 0.01
    assert not [name for name in areas if "closest" in name]


def test_nothing_is_found_of_a_generator_that_never_saw_the_rows() -> None:
    """No attack of 120 worlds is above its threshold, and intervals lie wholly above 0 as often
    as they may: 2.5 % of 120; 12 or more are an alarm, chance 1e-4 an attack were the worlds
    not seeded. Intervals of half the width are one."""
    above, narrow = Counter[str](), Counter[str]()
    for seed in range(120):
        for found in quick(safe, seed, n=600, control=400).findings:
            assert not found.exceeds, (seed, found.name)
            low, high = found.interval
            above[found.name] += low > 0
            narrow[found.name] += low + (high - low) / 4 > 0
    most = int(stats.binom.isf(1e-4, 120, 0.025))
    assert max(above.values()) <= most < max(narrow.values())


def test_the_same_seed_finds_the_same() -> None:
    assert quick(overfitted, 3, n=300, control=200) == quick(overfitted, 3, n=300, control=200)


def test_too_few_rows_are_not_attacked_and_that_is_said() -> None:
    found = quick(copies, 1, n=300, control=LEAST - 1)
    assert not found.findings
    assert "audit.holdout" in found.left_out[0]


def test_full_says_where_the_package_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinweave.analysis.attacks.anonymeter.installed", lambda: False)
    found = attack(
        exposed(copies, 1, n=200, control=200), EFFORTS["full"], threshold=THRESHOLD, seed=1
    )
    assert found.findings
    assert "pip install 'twinweave[audit]'" in " ".join(found.left_out)


@pytest.mark.parametrize("part", ["members", "control", "synthetic"])
def test_rows_that_are_not_of_the_columns_are_refused(part: str) -> None:
    good = people(5, np.random.default_rng(0))
    rows = Exposed(columns=COLUMNS, members=good, control=good, synthetic=good)
    for bad in (good[:, 1:], good + 99, good - 2):
        wrong: dict[str, Any] = {part: bad}
        with pytest.raises(SchemaError, match=part):
            replace(rows, **wrong)
