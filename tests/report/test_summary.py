"""The terminal summary and report.json say everything and hide what is small."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.lift.lift_world import CONF, SCHEMA, WORKLOAD, exact, noisy, people
from twinweave.analysis.lift import Relative, analyse
from twinweave.report.json import RunFacts, build_report
from twinweave.report.terminal.summary import render
from twinweave.report.terminal.text import WIDTH, p_is, relative_text, unit_for

FACTS = RunFacts(
    run="4f2a",
    data="campaign",
    sizes={"a": 2250, "b": 2300},
    epsilon=1.0,
    delta=1e-5,
    ledger={
        "epsilon": 0.9987,
        "epsilon_by_stage": {"measurement": 0.9987},
        "epsilon_by_party": {"a": 0.99, "b": 0.9},
        "notes": ["Stages do not add up."],
    },
    guards={"a": "off", "b": "on"},
    tables=5,
    cells=67,
    files={"report": "runs/4f2a/report.json"},
    seconds=12.0,
    truth={"bought": 0.06},
    truth_by={"bought": {"region": {"n": 0.06, "s": 0.06}}},
)


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(2)
    users = people(3000, rng)
    return analyse(
        SCHEMA, [noisy(q, exact(users, q), 3.0, rng) for q in WORKLOAD], replace(CONF, ratio=8 / 7)
    )


def test_summary_says_what_must_be_said(report):
    text = render(report, FACTS)
    for part in (
        "bought",
        "LIFT",
        "95% interval",
        "+6.0 pp",
        "inside",
        "relative lift",
        "incremental",
        "privacy noise",
        "80% power",
        "by region",
        "Suppressed",
        ": w.",
        "spend",
        "Sample ratio",
        "0.9987",
        "stage measurement",
        "guard: off (a)",
        "runs/4f2a/report.json",
    ):
        assert part in text, part
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_summary_of_a_hidden_arm_shows_no_figure_of_it(report):
    hidden = replace(report, conversions=(replace(report.conversions[0], overall=None),), values=())
    text = render(hidden, FACTS)
    assert "bought: not shown" in text
    assert "absolute lift" not in text


def test_summary_without_an_experiment_still_tells_the_cost():
    text = render(None, replace(FACTS, ledger={"epsilon": None}, guards={"a": "on", "b": "on"}))
    assert "infinite" in text
    assert "guard: on at every party" in text


def test_report_is_json_with_everything_in_it(report):
    plain = json.loads(json.dumps(build_report(report, FACTS), allow_nan=False))
    assert plain["version"] == 1
    assert plain["privacy"]["spent_by_stage"] == {"measurement": 0.9987}
    assert plain["lift"]["conversions"][0]["overall"]["verdict"] == "lift"
    assert plain["truth"]["absolute_lift"] == {"bought": 0.06}
    assert plain["who_sees_what"]
    assert build_report(None, FACTS)["lift"] is None


@pytest.mark.parametrize(
    ("intervals", "text"),
    [
        (((0.1, 0.5),), "+10.0 % to +50.0 %"),
        (((0.1, None),), "+10.0 % or more"),
        (((-1.0, None),), "anything"),
        (((-1.0, -0.5), (2.0, None)), "-50.0 % or less, or +200.0 % or more"),
        ((), "none possible"),
    ],
)
def test_a_relative_set_in_words(intervals, text):
    assert relative_text(Relative(value=None, intervals=intervals)) == text


def test_numbers_have_the_places_their_error_calls_for():
    assert unit_for(0.0034, scale=100, suffix=" pp").signed(0.0766) == "+7.66"
    assert unit_for(12.3, scale=1, suffix="").signed(-0.01) == "+0.0"
    assert p_is(3e-120) == "p <1e-99"
    assert p_is(0.0213) == "p = 0.021"
