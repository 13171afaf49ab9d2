"""Whatever stands where in a configuration: it is parsed, or an error names the field."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinweave.config import RunConf, compose
from twinweave.errors import AppError

PLAIN = compose([])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def places(data: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value, at any depth."""
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    found = []
    for key, value in inner:
        found.append((*above, key))
        if isinstance(value, dict | list):
            found += places(value, (*above, key))
    return found


def refused(data: dict[str, Any]) -> str | None:
    """The error's words, None where the configuration is taken."""
    try:
        RunConf.parse(data)
    except AppError as error:
        return str(error)
    return None


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(places(PLAIN)), VALUES)
def test_any_value_at_any_place_is_taken_or_refused_by_name(
    place: tuple[Any, ...], value: Any
) -> None:
    """An empty list where two bounds are due ended in a TypeError of the error's own making."""
    data = copy.deepcopy(PLAIN)
    *way, last = place
    at: Any = data
    for key in way:
        at = at[key]
    at[last] = value
    assert refused(data) != ""


@pytest.mark.parametrize("wrong", [[], [1], [1, 2, 3], {"low": 1}, "1 to 2"])
def test_bounds_that_are_no_pair_are_named(wrong: Any) -> None:
    data = copy.deepcopy(PLAIN)
    column = next(c for c in data["data"]["parties"][0]["columns"] if c.get("bounds"))
    column["bounds"] = wrong
    assert "bounds" in (refused(data) or "")


@pytest.mark.parametrize("wrong", ["none", None, [3]])
def test_a_field_of_several_kinds_is_named_without_them(wrong: Any) -> None:
    data = copy.deepcopy(PLAIN)
    data["data"]["lift"]["money"]["cost"] = wrong
    told = refused(data)
    assert told is not None
    assert "'data.lift.money.cost'" in told
    assert "cost.float" not in told
    assert "cost.dict" not in told
