"""Relations with the lift that nobody measured are named, and no others."""

from __future__ import annotations

import numpy as np

from tests.analysis.lift.lift_world import CONF, SCHEMA, a, b, cross
from twinweave.analysis.fidelity.evidence import unmeasured
from twinweave.workload.measurement import Measurement
from twinweave.workload.queries import Query, Side, cells_of


def told(*queries: Query) -> dict[str, tuple[str, ...]]:
    tables = [
        Measurement(query=q, values=np.zeros(cells_of(SCHEMA, q).shape), variance=1.0)
        for q in queries
    ]
    return {one.outcome: one.columns for one in unmeasured(SCHEMA, CONF, tables)}


def test_a_count_or_a_sum_of_all_three_is_evidence() -> None:
    counts = cross(a("arm", "region"), b("bought"))
    sums = cross(a("arm", "age"), Side(party="b", weight="spend"))
    pairs = cross(a("arm"), b("bought")), cross(a("region"), b("bought")), cross(a("arm", "age"))
    found = told(counts, sums, *pairs)
    assert found["bought"] == ("age", "visited", "channel")
    assert found["spend"] == ("region", "visited", "channel")


def test_nothing_is_named_where_all_was_measured() -> None:
    names = [n for n in SCHEMA.names if n not in ("arm", "bought", "spend")]
    at_a = tuple(n for n in names if n in SCHEMA.schema("a").names)
    at_b = tuple(n for n in names if n in SCHEMA.schema("b").names)
    both = cross(a("arm", *at_a), b("bought", *at_b))
    value = cross(a("arm", *at_a), Side(party="b", columns=at_b, weight="spend"))
    assert told(both, value) == {}
