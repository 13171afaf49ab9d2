"""report.json has everything in it, as plain JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from tests.analysis.lift.lift_world import CONF, SCHEMA, WORKLOAD, exact, noisy, people
from tests.report.facts import FACTS
from tests.report.selected import CHOICE, SCORES
from twinweave.analysis.lift.analysis import analyse
from twinweave.report.contents import Contents
from twinweave.report.record import report_record


def test_the_record_is_json_with_everything_in_it() -> None:
    rng = np.random.default_rng(2)
    users = people(3000, rng)
    lift = analyse(SCHEMA, [noisy(q, exact(users, q), 3.0, rng) for q in WORKLOAD], CONF)
    contents = Contents(facts=FACTS, lift=lift, scores=SCORES, choice=CHOICE)
    plain = json.loads(json.dumps(report_record(contents), allow_nan=False))
    assert plain["version"] == 1
    assert plain["privacy"]["spent_by_stage"] == {"measurement": 0.9987}
    assert plain["lift"]["conversions"][0]["overall"]["verdict"] == "lift"
    assert plain["selection"]["scores"][0]["associations"][0]["users"] == 60_000.4
    assert plain["selection"]["choice"]["dropped"][0] == {"column": "other3", "reason": "no sign"}
    assert plain["truth"]["absolute_lift"] == {"bought": 0.06}
    assert plain["who_sees_what"]
    nothing = report_record(replace(contents, lift=None, choice=None))
    assert nothing["lift"] is nothing["selection"] is None
