"""The summary says what a design effect is from, and how sure it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.analysis.lift.clustered import CONF, IGNORANT, PAIRS, SCHEMA, Design, tables, users
from tests.report.facts import FACTS
from twinweave.analysis.lift.analysis import analyse
from twinweave.report.contents import Contents
from twinweave.report.record import report_record
from twinweave.report.terminal.summary import summary
from twinweave.report.terminal.text import WIDTH
from twinweave.workload.analyses import LiftConf

COUPLES = Design(name="couples", clusters=3000, sizes=PAIRS, icc=0.5)


def told(conf: LiftConf, sigma: float) -> str:
    rng = np.random.default_rng(1)
    lift = analyse(SCHEMA, tables(users(COUPLES, rng), sigma, rng), conf)
    text = summary(Contents(facts=FACTS, lift=lift))
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    return " ".join(text.split())


def test_measured_bounded_declared_or_none() -> None:
    assert "users of one household are alike" in told(CONF, 2.0)
    assert "its error counts too" in told(CONF, 2.0)
    assert "the bound: the noise leaves" in told(CONF, 60.0)
    assert "declared as 1.4" in told(replace(IGNORANT, design_effect=1.4), 2.0)
    assert "alike" not in told(IGNORANT, 2.0)


def test_the_record_has_what_was_measured_and_what_was_used() -> None:
    rng = np.random.default_rng(1)
    lift = analyse(SCHEMA, tables(users(COUPLES, rng), 2.0, rng), CONF)
    record = report_record(Contents(facts=FACTS, lift=lift))["lift"]["clusters"]
    assert record["column"] == "household"
    assert set(record["size"]) == {"value", "standard_error", "used"}
    assert [e["outcome"] for e in record["effects"]] == ["converted", "held by b"]
    assert set(record["effects"][0]) == {"outcome", "estimate", "standard_error", "used", "basis"}
