"""Texts as tries: every path ends in one code, and every code has one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinweave.generators.pretrained.template import ColumnText

END = 9
VALUES = st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=8, unique_by=tuple)


@given(VALUES)
def test_choices_lead_to_every_code_and_to_nothing_else(values: list[list[int]]) -> None:
    """Walk the trie by brute force: whatever is chosen among what is allowed, a code is left."""
    ended = [(*value, END) for value in values]
    text = ColumnText.written((7, 7), ended)
    reached: set[int] = set()
    frontier = [frozenset(range(len(values)))]
    for at in range(text.values):
        parted: set[frozenset[int]] = set()
        for alive in frontier:
            allowed = {frozenset(np.flatnonzero(text.allowed[code, at])) for code in alive}
            assert len(allowed) == 1  # the codes that are left share a node
            for token in next(iter(allowed)):
                parted.add(frozenset(c for c in alive if text.chosen[c, at] == token))
            assert at in text.choices or len(next(iter(allowed))) == 1
        assert frozenset() not in parted
        frontier = list(parted)
    for alive in frontier:
        assert len(alive) == 1
        reached |= alive
    assert reached == set(range(len(values)))


@given(VALUES)
def test_tokens_are_those_of_the_text(values: list[list[int]]) -> None:
    ended = [(*value, END) for value in values]
    text = ColumnText.written((7, 7), ended)
    for code, value in enumerate(ended):
        assert tuple(text.tokens[code, text.mask[code]]) == (7, 7, *value)
        chosen = text.alphabet[text.chosen[code, : len(value)]]
        assert tuple(chosen) == value
    assert not text.mask[-1].any()


def test_a_value_that_another_begins_with_is_refused() -> None:
    with pytest.raises(ValueError, match="begins"):
        ColumnText.written((7,), [(1, 2), (1, 2, 3)])
    ColumnText.written((7,), [(1, 2, END), (1, 2, 3, END)])
