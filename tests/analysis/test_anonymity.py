"""k, l and t against brute force, and suppression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.attacks.leaking import COLUMNS, people
from tests.analysis.synthetic_world import rows, schema
from twinweave.analysis.anonymity import JOINT, anonymity, of_tables
from twinweave.errors import ConfigError
from twinweave.generators.union import Rows
from twinweave.synthesis.draw import Source
from twinweave.synthesis.population import population
from twinweave.synthesis.suppress import classes_of, suppressed
from twinweave.synthesis.synthesise import SynthesisResult
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
def test_what_is_left_is_k_anonymous_in_every_table(k: int, seed: int) -> None:
    joint = schema()
    quasi = ("age", "region", "bought")
    made = rows(joint, 200, seed)
    left = suppressed(made, joint.names, quasi, k)
    if len(left):
        found = of_tables(joint, left, quasi, k)
        assert {JOINT, *joint.parties} >= set(found)
        assert all(table.k >= k and not table.below for table in found.values())
    # No class that is large enough goes.
    at = [joint.names.index(name) for name in quasi]
    keys = np.concatenate([made.codes[:, at], made.presence], axis=1)
    _, classes, sizes = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    assert len(left) == int((sizes[classes.reshape(-1)] >= k).sum())


def test_without_presence_a_partys_table_falls_below_k() -> None:
    """Broken: classes over the quasi-identifiers alone; some of those alike are elsewhere."""
    joint = schema()
    made = rows(joint, 400, 1)
    everywhere = Rows(codes=made.codes, presence=np.ones_like(made.presence))
    sizes = np.bincount(classes_of(everywhere.codes[:, [joint.names.index("region")]]))
    k = int(sizes.min())
    assert len(suppressed(everywhere, joint.names, ("region",), k)) == 400
    assert of_tables(joint, made, ("region",), k)["shop"].k < k


def test_a_result_says_how_many_rows_went_and_refuses_to_lose_all() -> None:
    joint = schema()
    made = rows(joint, 300, 2)
    sizes = dict(zip(joint.parties, made.presence.sum(axis=0).tolist(), strict=True))
    result = SynthesisResult(
        rows=made,
        population=population(joint.parties, sizes, ()),
        effective=300.0,
        misfit={},
        trace=(),
        source=Source(),
    )
    left = result.anonymous(joint.names, ("age", "region"), 4)
    assert 0 < left.suppressed == 300 - len(left.rows) < 300
    with pytest.raises(ConfigError, match=r"audit\.k"):
        result.anonymous(joint.names, ("age",), 301)


def test_many_columns_do_not_overflow() -> None:
    codes = np.random.default_rng(0).integers(0, 10_000, (50, 40))
    assert len(np.unique(classes_of(codes))) == 50


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="'height'"):
        anonymity(COLUMNS, people(5, np.random.default_rng(0)), ["height"])
