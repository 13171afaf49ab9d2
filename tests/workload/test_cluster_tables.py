"""Random groups of clusters are asked for by arm and conversion, and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.analysis.lift.clustered import CONF, GROUPED, SCHEMA
from tests.security.without import without
from twinweave.errors import ConfigError
from twinweave.tables.column import GROUPS, Column, Kind, Role
from twinweave.tables.schema import JointSchema, Schema
from twinweave.workload.analyses import Analyses, check_lift
from twinweave.workload.priority import importance
from twinweave.workload.queries import Query, Side, cells_of, check
from twinweave.workload.tables import WorkloadConf, tables_to_measure

ALL = WorkloadConf(
    scope="all", one_way=True, pairs=True, three_way=True, max_pair_columns=9, max_cells=10_000
)


def test_clusters_are_in_one_table_a_conversion() -> None:
    asked = tables_to_measure(Analyses(schema=SCHEMA, lift=CONF), ALL)
    assert [q for q in asked if "household" in q.columns] == [GROUPED]
    ignorant = tables_to_measure(Analyses(schema=SCHEMA, lift=replace(CONF, cluster=None)), ALL)
    assert [q for q in asked if q != GROUPED] == list(ignorant)


def test_the_groups_get_about_the_budget_of_the_arms() -> None:
    """Precision is shared by importance * cells**(2/3)."""
    arms = next(q for q in tables_to_measure(Analyses(schema=SCHEMA, lift=CONF), ALL) if q.is_cross)

    def weight(query: Query) -> float:
        return importance(SCHEMA, query) * cells_of(SCHEMA, query).size ** (2 / 3)

    assert cells_of(SCHEMA, GROUPED).size > GROUPS * 5
    assert 0.7 < weight(GROUPED) / weight(arms) < 1.0


@pytest.mark.attack("clusters")
@pytest.mark.broken("clusters")
@pytest.mark.parametrize(
    "columns", [("household",), ("segment", "household", "region"), ("household", "region")]
)
def test_a_party_refuses_clusters_without_arms_or_with_more(
    columns: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SCHEMA.schemas[0]
    region = Column(name="region", kind=Kind.CATEGORICAL, levels=("n", "s"))
    schema = JointSchema(
        schemas=(replace(first, columns=(*first.columns, region)), *SCHEMA.schemas[1:])
    )
    asked = Query(sides=(Side(party="a", columns=columns),))
    check(schema, GROUPED)
    with pytest.raises(ConfigError, match="clusters of 'a'"):
        check(schema, asked)
    without(monkeypatch, check, "Role.CLUSTER in roles")
    check(schema, asked)


def test_the_cluster_is_a_cluster_column_of_the_memberships_party() -> None:
    check_lift(SCHEMA, CONF)
    with pytest.raises(ConfigError, match="there is no cluster column 'segment'"):
        check_lift(SCHEMA, replace(CONF, cluster="segment"))
    with pytest.raises(ConfigError, match=r"lift\.breakdowns"):
        check_lift(SCHEMA, replace(CONF, breakdowns=("household",)))
    elsewhere = Column(name="store", kind=Kind.CATEGORICAL, role=Role.CLUSTER)
    mine, theirs = SCHEMA.schemas
    other = Schema(party="b", columns=(*theirs.columns, elsewhere))
    with pytest.raises(ConfigError, match="is not at the party of 'segment'"):
        check_lift(JointSchema(schemas=(mine, other)), replace(CONF, cluster="store"))
