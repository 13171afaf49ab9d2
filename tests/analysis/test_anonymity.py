"""k, l and t against brute force, and suppression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.attacks.leaking import COLUMNS, people
from twinweave.analysis.anonymity import anonymity, classes_of, kept
from twinweave.errors import ConfigError
from twinweave.tables.column import Column, Kind
from twinweave.tables.contingency import ABSENT

QUASI = ("town", "gender")


def test_k_l_and_t_by_brute_force() -> None:
    codes = people(400, np.random.default_rng(2))
    codes[::7, 1] = ABSENT
    found = anonymity(COLUMNS, codes, QUASI, ("plan", "age"), wanted=5)
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(codes[:, [1, 3]]):
        groups.setdefault(tuple(row.tolist()), []).append(i)
    sizes = [len(g) for g in groups.values()]
    assert (found.k, found.classes, found.rows) == (min(sizes), len(sizes), 400)
    assert found.below == sum(s for s in sizes if s < 5)
    plan, age = found.diversity
    whole = np.bincount(codes[:, 5], minlength=6) / 400
    least, entropies, apart = 99, [], []
    for own in groups.values():
        shares = np.bincount(codes[own, 5], minlength=6) / len(own)
        least = min(least, int((shares > 0).sum()))
        entropies.append(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
        apart.append(np.abs(shares - whole).sum() / 2)
    assert plan.l == least
    assert plan.entropy_l == pytest.approx(np.exp(min(entropies)))
    assert plan.t == pytest.approx(max(apart))
    assert age.column == "age"


def test_t_of_ordered_bins_is_li_et_als_example() -> None:
    """Li et al. (2007), section 4.3: of salaries 3k to 11k, {3, 4, 5} is .375 from all, and
    {6, 8, 11} is .167."""
    salary = Column(name="salary", kind=Kind.INTEGER, bounds=(3.0, 11.0), bins=9)
    group = Column(name="group", kind=Kind.CATEGORICAL, levels=("a", "b", "c"))

    def t(first: list[int]) -> float:
        rest = [s for s in range(9) if s not in first]
        codes = np.array([[0, s] for s in first] + [[1, s] for s in rest], dtype=np.int32)
        # The rest lies nearer to the whole than a class of a third of it.
        return anonymity((group, salary), codes, ["group"], ["salary"]).diversity[0].t

    assert t([0, 1, 2]) == pytest.approx(0.375)
    assert t([3, 5, 8]) == pytest.approx(1 / 6)


@given(st.integers(1, 8), st.integers(0, 2**31 - 1))
def test_what_is_kept_is_k_anonymous(k: int, seed: int) -> None:
    codes = people(80, np.random.default_rng(seed))[:, [2, 3, 7]]
    stay = kept(codes, k)
    assert not stay.any() or np.bincount(classes_of(codes[stay])).min() >= k
    # No class that is large enough goes.
    _, at, sizes = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    assert (stay == (sizes[at.reshape(-1)] >= k)).all()


def test_many_columns_do_not_overflow() -> None:
    codes = np.random.default_rng(0).integers(0, 10_000, (50, 40))
    assert len(np.unique(classes_of(codes))) == 50


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="'height'"):
        anonymity(COLUMNS, people(5, np.random.default_rng(0)), ["height"])
