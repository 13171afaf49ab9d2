"""Clusters of users: never a column of anyone's row; whole clusters share a random group."""

from __future__ import annotations

import pandas as pd
import pytest
from scipy.stats import binom

from tests.statistics import p_levels, plausible
from tests.tables.conftest import COLUMNS
from twinweave.errors import ColumnError, SchemaError
from twinweave.parsing import parse
from twinweave.tables.cleaning import clean
from twinweave.tables.column import GROUPS, Column
from twinweave.tables.encoding import EncodedTable, cluster_groups, encode
from twinweave.tables.schema import JointSchema, Schema

HOUSEHOLD = {"name": "household", "kind": "categorical", "role": "cluster"}
SCHEMA = parse(Schema, {"party": "shop", "columns": [*COLUMNS, HOUSEHOLD]})


def encoded(good: pd.DataFrame, households: list[object]) -> EncodedTable:
    return encode(clean(good.assign(household=pd.Series(households, dtype=object)), SCHEMA))


def test_a_cluster_is_in_one_group_however_it_is_spelled(good: pd.DataFrame) -> None:
    spelled = ["7", " 7 ", 7, 7.0, "h-1", "H@x.example", "h@X.example"]
    groups = encoded(good.iloc[:7], spelled).column("household")
    assert len(set(groups[:4])) == 1
    assert groups[5] == groups[6]
    assert groups.tolist() == encoded(good.iloc[:7], spelled).column("household").tolist()


def test_groups_are_even_and_users_without_a_cluster_are_alone() -> None:
    named = pd.Series([f"house {i}" for i in range(20_000)], dtype=object)
    ids = named.to_numpy(dtype=object)
    nobody = pd.Series([None] * 20_000, dtype=object)
    for groups in (cluster_groups(named, ids), cluster_groups(nobody, ids)):
        assert plausible(p_levels(groups, GROUPS))
    # The id of a user is no cluster's: the two have nothing to do with each other.
    same = (cluster_groups(named, ids) == cluster_groups(nobody, ids)).sum()
    assert binom.sf(same, 20_000, 1 / GROUPS) > 1e-9


def test_no_row_has_the_cluster(good: pd.DataFrame) -> None:
    table = encoded(good, ["x"] * len(good))
    assert "household" not in SCHEMA.names
    assert table.codes.shape == (len(good), len(SCHEMA.names) + 1)
    joint = JointSchema(schemas=(SCHEMA,))
    assert "household" not in joint.names
    assert joint.holders("household") == ("shop",)
    assert joint.column("household").size == GROUPS


@pytest.mark.parametrize(
    "facts",
    [
        {"levels": ["a", "b"]},
        {"shared": True},
        {"missing": "level"},
        {"invalid": "drop"},
        {"kind": "integer", "bounds": [0, 9]},
    ],
)
def test_what_a_cluster_column_cannot_be(facts: dict[str, object]) -> None:
    with pytest.raises(SchemaError, match="household"):
        parse(Column, {**HOUSEHOLD, **facts})


def test_a_table_of_clusters_alone_and_clusters_at_two_parties_are_refused() -> None:
    key = COLUMNS[0]
    with pytest.raises(SchemaError, match="no column beside"):
        parse(Schema, {"party": "shop", "columns": [key, HOUSEHOLD]})
    mine = parse(Schema, {"party": "mine", "columns": [key, COLUMNS[1], HOUSEHOLD]})
    yours = parse(Schema, {"party": "yours", "columns": [key, COLUMNS[2], HOUSEHOLD]})
    with pytest.raises(SchemaError, match="cluster column 'household': another party"):
        JointSchema(schemas=(mine, yours))


def test_ids_of_clusters_that_lost_digits_are_refused(good: pd.DataFrame) -> None:
    with pytest.raises(ColumnError, match="household"):
        encoded(good.iloc[:2], ["4.91E+11", "4.92E+11"])
