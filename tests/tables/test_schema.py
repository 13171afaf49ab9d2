"""Schemas side by side: what two parties must not say."""

from __future__ import annotations

import pytest

from twinweave.errors import SchemaError
from twinweave.parsing import parse
from twinweave.tables.schema import JointSchema, Schema


def party(name: str, *, numbered: bool) -> Schema:
    columns = [
        {"name": "id", "kind": "categorical", "role": "key", "numbered": numbered},
        {"name": f"of_{name}", "kind": "boolean"},
    ]
    return parse(Schema, {"party": name, "columns": columns})


@pytest.mark.parametrize("numbered", [(True, False), (False, True), (False, False, True)])
def test_row_numbers_against_ids_are_refused(numbered: tuple[bool, ...]) -> None:
    schemas = tuple(party(f"p{i}", numbered=n) for i, n in enumerate(numbered))
    with pytest.raises(SchemaError, match=r"strangers would be paired.*numbered: true"):
        JointSchema(schemas=schemas)


@pytest.mark.parametrize("numbered", [True, False])
def test_ids_everywhere_or_row_numbers_everywhere(numbered: bool) -> None:
    joint = JointSchema(schemas=tuple(party(n, numbered=numbered) for n in ("a", "b")))
    assert joint.names == ("of_a", "of_b")


def test_only_the_key_is_numbered() -> None:
    columns = [
        {"name": "id", "kind": "categorical", "role": "key"},
        {"name": "flag", "kind": "boolean", "numbered": True},
    ]
    with pytest.raises(SchemaError, match="only the key"):
        parse(Schema, {"party": "a", "columns": columns})


@pytest.mark.parametrize("bounds", [[0, float("inf")], [-1.5e308, 1.5e308], [1, 1], [2, 1]])
def test_bounds_leave_a_distance_that_can_be_computed(bounds: list[float]) -> None:
    """A share of an infinite one is no number, and a sum of such would be no sum."""
    spend = {"name": "spend", "kind": "continuous", "role": "value", "bounds": bounds}
    with pytest.raises(SchemaError, match="distance must be finite, low before high"):
        parse(
            Schema,
            {
                "party": "a",
                "columns": [{"name": "id", "kind": "categorical", "role": "key"}, spend],
            },
        )
