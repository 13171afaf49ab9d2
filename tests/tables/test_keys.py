"""Ids that differ in writing alone: rules that both parties agree on, and what a party is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from twinweave.errors import ColumnError, ConfigError, SchemaError
from twinweave.parsing import parse
from twinweave.tables.column import Column, Normal
from twinweave.tables.keys import check_ids, normalise_key, shape_of
from twinweave.tables.loading import load_party
from twinweave.tables.schema import JointSchema, Schema
from twinweave.tables.sources import Source, SourceKind


def key(*rules: str) -> Column:
    facts = {"name": "id", "kind": "categorical", "role": "key", "normalise": list(rules)}
    return parse(Column, facts)


def ids(*cells: Any, rules: tuple[str, ...] = ()) -> list[Any]:
    return normalise_key(pd.Series(cells, dtype=object), key(*rules).normalise)[0].tolist()


def test_what_never_tells_two_ids_apart() -> None:
    assert ids("\ufeffa1", "b\u200b2", "\uff23\uff13", "\u00a0d\u00ad4 ") == [
        "a1",
        "b2",
        "C3",
        "d4",
    ]
    assert ids("007", "AB-1", "ab-1", "+49 171") == ["007", "AB-1", "ab-1", "+49 171"]


@pytest.mark.parametrize(
    ("rules", "one", "other"),
    [
        (("casefold",), "AB-1", "ab-1"),
        (("strip_zeros",), "00042", "42"),
        (("strip_zeros",), "000", "0"),
        (("letters_and_digits",), "8F14-E45F", "8F14E45F"),
        (("casefold", "letters_and_digits"), "Kd. 12/b", "KD12B"),
        (("digits", "strip_zeros"), "+49 (171) 55-0", "0049171550"),
    ],
)
def test_rules_make_two_ways_of_writing_one(rules: tuple[str, ...], one: str, other: str) -> None:
    first, second = ids(one, other, rules=rules)
    assert first == second
    for left_out in rules:
        fewer = tuple(r for r in rules if r != left_out)
        assert len(set(ids(one, other, rules=fewer))) == 2  # else the rule did nothing


def test_ids_that_a_rule_makes_equal_or_empty_are_refused() -> None:
    own = key("casefold", "letters_and_digits")
    for cells, rule in ((["a1", "A1"], "more than once"), (["-", "a1"], "leaves nothing")):
        with pytest.raises(ColumnError, match=rule):
            check_ids(normalise_key(pd.Series(cells), own.normalise)[0], own)


def test_both_parties_apply_the_same_rules() -> None:
    def schema(party: str, *rules: str) -> dict[str, Any]:
        other = {"name": f"of {party}", "kind": "boolean"}
        return {
            "party": party,
            "columns": [
                {"name": "id", "kind": "categorical", "role": "key", "normalise": rules},
                other,
            ],
        }

    parse(JointSchema, {"schemas": [schema("a", "digits"), schema("b", "digits")]})
    with pytest.raises(SchemaError, match=r"'a' and 'b' disagree on `normalise`"):
        parse(JointSchema, {"schemas": [schema("a", "digits"), schema("b")]})
    with pytest.raises(SchemaError, match="Move `normalise` to the key"):
        parse(Column, {"name": "x", "kind": "boolean", "normalise": ["digits"]})
    with pytest.raises(ConfigError):
        key("lower")


@pytest.mark.parametrize(
    ("odd", "rule"),
    [
        (["KD1", "kd2"], "casefold"),
        (["00123", "4567"], "strip_zeros"),
        (["12-34", "1234"], "letters_and_digits"),
        (["+49171", "0049172"], "digits"),
    ],
)
def test_a_party_is_told_of_forms_that_another_may_write_otherwise(
    odd: list[str], rule: str
) -> None:
    cells = np.array([*odd * 5, "a@b.example"], dtype=object)
    shape = shape_of(cells, key())
    assert any(f"`normalise: [{rule}]`" in line for line in shape.odd)
    assert not any(f"[{rule}]" in line for line in shape_of(cells, key(rule)).odd)
    assert not any(cell in shape.told + "".join(shape.odd) for cell in cells)


def test_ids_of_one_form_are_not_odd() -> None:
    rng = np.random.default_rng(1)
    for cells in (
        [f"u{i:06d}" for i in range(500)],
        [f"{i}" for i in range(1, 500)],
        [f"{i:09d}" for i in rng.integers(0, 10**9, 500)],
        ["".join(rng.choice(list("abcXYZ019"), 8)) for _ in range(500)],
        [f"Ann.{i}@mail.example" for i in range(500)],
        ["x"],
    ):
        shape = shape_of(np.array(cells, dtype=object), key())
        assert shape.odd == ()
        assert "characters" in shape.told
    assert set(Normal) == {"casefold", "letters_and_digits", "digits", "strip_zeros"}


def test_two_parties_tables_have_the_same_people(tmp_path: Path) -> None:
    """From file to the ids that are blinded; without the rules nobody is at both."""

    def people(written: str, rules: list[str]) -> set[str]:
        path = tmp_path / "t.csv"
        path.write_text("phone,c\n" + "".join(f'"{written.format(i)}",0\n' for i in range(9)))
        columns = [
            {"name": "phone", "kind": "categorical", "role": "key", "normalise": rules},
            {"name": "c", "kind": "boolean"},
        ]
        schema = parse(Schema, {"party": "a", "columns": columns})
        return set(load_party(Source(kind=SourceKind.CSV, path=str(path)), schema, "a").ids)

    ways = ("+49 (171) 55-{}", "004917155{}")
    agreed, guessed = (
        [people(way, rules) for way in ways] for rules in (["digits", "strip_zeros"], [])
    )
    assert agreed[0] == agreed[1]
    assert len(agreed[0]) == 9
    assert not guessed[0] & guessed[1]
