"""Users in common, from noisy tables: near the truth, and a warning where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from tests.analysis.lift.lift_world import SCHEMA, WORKLOAD, counted, noisy, people
from tests.report.facts import FACTS
from twinweave.analysis.overlap import overlaps_found
from twinweave.report.contents import Contents
from twinweave.report.record import report_record
from twinweave.report.terminal.summary import summary


@pytest.mark.parametrize("matched", [True, False])
def test_the_overlap_is_told_and_none_is_a_warning(matched: bool) -> None:
    """40 draws of the noise: fewer than 32 covered at 95 % have probability 2e-4."""
    rng = np.random.default_rng(3)
    users = people(3000, rng)
    if not matched:
        users["at_b"] = ~users["at_a"]
    sizes = {p: int(users[f"at_{p}"].sum()) for p in SCHEMA.parties}
    truth, covered = int((users["at_a"] & users["at_b"]).sum()), 0
    for _ in range(40):
        tables = [noisy(q, counted(users, q), 5.0, rng) for q in WORKLOAD]
        (found,) = overlaps_found(SCHEMA.parties, sizes, tables)
        covered += found.users.covers(truth)
    assert covered >= 32
    assert found.hardly_any != matched
    contents = Contents(facts=FACTS, overlaps=(found,))
    assert ("HARDLY ANY" in summary(contents)) != matched
    assert "a and b: about " in summary(contents)
    assert report_record(contents)["in_common"][0]["hardly_any"] != matched
