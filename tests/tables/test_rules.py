"""Rules between columns: in codes, and refused by name where they contradict each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from twinweave.errors import SchemaError
from twinweave.parsing import parse
from twinweave.tables.contingency import ABSENT
from twinweave.tables.schema import JointSchema

KEY = {"name": "id", "kind": "categorical", "role": "key"}
SCORE = {"name": "score", "kind": "integer", "bounds": [1, 4], "bins": 4}
BAND = {"name": "band", "kind": "categorical", "levels": ["low", "mid", "high"], "missing": "level"}
SEX = {"name": "sex", "kind": "categorical", "levels": ["f", "m"]}
PREGNANT = {"name": "pregnant", "kind": "boolean"}

FOLLOWS = {
    "column": "band",
    "follows": "score",
    "levels": {"1": "low", "2": "low", "3": ["mid", "high"]},
}
CANNOT = {"sex": "m", "pregnant": "1"}


def schema(**rules: Any) -> JointSchema:
    """score and sex at one party, band and pregnant at the other."""
    parties = [
        {"party": "court", "columns": [KEY, SCORE, SEX]},
        {"party": "clinic", "columns": [KEY, BAND, PREGNANT]},
    ]
    return parse(JointSchema, {"schemas": parties, **rules})


def test_rules_hold_across_parties_where_all_columns_are_there() -> None:
    joint = schema(implies=[FOLLOWS], impossible=[CANNOT])
    names, rules = joint.names, joint.rules
    assert names == ("score", "sex", "band", "pregnant")
    codes = np.array(
        [[0, 1, 2, 0], [2, 0, 0, 1], [3, 1, 3, 0], [1, 1, ABSENT, ABSENT], [3, 1, 2, 1]],
        dtype=np.int32,
    )
    assert rules.possible(names, codes).tolist() == [False, False, True, True, False]
    derived = rules.derive(names, codes)
    assert derived[:, 2].tolist() == [0, 0, 3, ABSENT, 2]
    assert np.array_equal(derived[:, [0, 1, 3]], codes[:, [0, 1, 3]])
    assert rules.possible(names, derived).tolist() == [True, False, True, True, False]
    assert rules.possible(("sex",), codes[:, 1:2]).all()


def test_what_follows_from_what_follows_is_derived_in_order() -> None:
    back = {"column": "sex", "follows": "pregnant", "levels": {"1": "f"}}
    chain = {"column": "pregnant", "follows": "band", "levels": {"high": "1"}}
    band = {"column": "band", "follows": "score", "levels": {"4": "high"}}
    joint = schema(implies=[back, chain, band])
    derived = joint.rules.derive(joint.names, np.array([[3, 1, 0, 0]], dtype=np.int32))
    assert derived.tolist() == [[3, 0, 2, 1]]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"impossible": [{"sex": "m", "gone": "x"}]}, "no column 'gone'"),
        ({"impossible": [{"sex": "m", "pregnant": "yes"}]}, "'pregnant' does not have"),
        ({"impossible": [{"sex": "m"}]}, "two columns or more"),
        ({"implies": [{**FOLLOWS, "levels": {"9": "low"}}]}, "'score' does not have"),
        ({"implies": [{**FOLLOWS, "follows": "band"}]}, "follows from itself"),
        ({"implies": [FOLLOWS, FOLLOWS]}, "twice"),
        (
            {"implies": [FOLLOWS, {"column": "score", "follows": "band", "levels": {}}]},
            "from each other: 'score' from 'band' from 'score'|'band' from 'score' from 'band'",
        ),
        (
            {"implies": [FOLLOWS], "impossible": [{"score": ["1", "3"], "band": "low"}]},
            "with '1' of 'score' no level of 'band'",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(rules: dict[str, Any], told: str) -> None:
    with pytest.raises(SchemaError, match=told):
        schema(**rules)
