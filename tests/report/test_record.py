"""report.json has everything in it, as plain JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.lift.lift_world import CONF, SCHEMA, WORKLOAD, exact, noisy, people
from tests.report.facts import FACTS
from tests.report.selected import CHOICE, SCORES
from twinweave.analysis.lift.analysis import analyse
from twinweave.generators.earning import TrainingShare
from twinweave.privacy.events import Event, NonPrivate, Stage
from twinweave.privacy.ledger import Ledger
from twinweave.report.contents import Contents, RunFacts
from twinweave.report.record import WHO_SEES_WHAT, WITHOUT_NOISE, report_record


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


BARE = Event(
    label="training",
    stage=Stage.TRAINING,
    parties=("a",),
    mechanism=NonPrivate(reason="test"),
)


@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, training=TrainingShare(share=0.0, why="", unsafe=True)),
        replace(FACTS, training=None, ledger=Ledger(events=(BARE,)).report(1e-5)),
    ],
    ids=["before its first round", "ended without its generator"],
)
def test_a_run_without_noise_does_not_say_that_all_it_tells_has_noise(facts: RunFacts) -> None:
    said = report_record(Contents(facts=facts, lift=None))["who_sees_what"]
    assert WITHOUT_NOISE in said
    assert WHO_SEES_WHAT[0] not in said
    assert WITHOUT_NOISE not in report_record(Contents(facts=FACTS, lift=None))["who_sees_what"]
