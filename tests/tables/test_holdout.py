"""Who is set aside: the same users at every party, in every run, and unforeseen without the key."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from tests.statistics import plausible
from twinweave.errors import ConfigError, SourceError
from twinweave.tables.column import Column, Kind, Role
from twinweave.tables.encoding import EncodedTable
from twinweave.tables.holdout import check_key, divide, is_aside, simulated_key
from twinweave.tables.schema import Schema

KEY = bytes(range(32))
IDS = np.array([f"user{i}" for i in range(20_000)], dtype=object)


def test_a_user_is_set_aside_at_every_party_or_at_none() -> None:
    order = np.random.default_rng(1).permutation(len(IDS))[:5000]
    assert (is_aside(IDS, KEY, 0.1)[order] == is_aside(IDS[order], KEY, 0.1)).all()


def test_the_part_is_the_part_and_depends_on_the_key_alone() -> None:
    one, other = is_aside(IDS, KEY, 0.1), is_aside(IDS, KEY[::-1], 0.1)
    for aside, part in ((one, 0.1), (other, 0.1), (one & other, 0.01)):
        assert plausible(binomtest(int(aside.sum()), len(IDS), part).pvalue)
    assert not (one & ~is_aside(IDS, KEY, 0.3)).any()  # a larger part has all of a smaller one


def table(n: int) -> EncodedTable:
    columns = (
        Column(name="id", kind=Kind.CATEGORICAL, role=Role.KEY),
        Column(name="x", kind=Kind.CATEGORICAL, levels=("a", "b")),
    )
    codes = np.zeros((n, 1), dtype=np.int32)
    return EncodedTable(
        schema=Schema(party="p", columns=columns), ids=IDS[:n], codes=codes, amounts={}
    )


def test_a_table_is_divided_whole() -> None:
    used, aside = divide(table(1000), KEY, 0.2)
    assert sorted([*used.ids, *aside.ids]) == sorted(IDS[:1000])
    assert is_aside(aside.ids, KEY, 0.2).all()
    assert len(divide(table(1000), KEY, 0.0)[1]) == len(divide(table(1000), None, 0.2)[1]) == 0


def test_a_table_of_nobody_left_is_refused() -> None:
    n = int(np.flatnonzero(is_aside(IDS, KEY, 0.5))[0])
    alone = table(n + 1).take(np.arange(n + 1) == n)
    with pytest.raises(SourceError, match="set aside for the audit"):
        divide(alone, KEY, 0.5)


@pytest.mark.parametrize("key", ["", "ab", "z" * 64, "0" * 63])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="64 hex digits"):
        check_key("site.holdout_key", key)


def test_a_simulation_has_a_key_of_its_dataset() -> None:
    check_key("", simulated_key("campaign"))
    assert simulated_key("campaign") != simulated_key("adult")
