"""The synthetic data in report and summary: everything is said, and nothing overlong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.lift.lift_world import (
    CONF,
    SCHEMA,
    WORKLOAD,
    a,
    b,
    cross,
    exact,
    noisy,
    people,
    union,
)
from tests.report.facts import FACTS
from twinweave.analysis.examine import SyntheticFindings, examine
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.results import LiftReport
from twinweave.report.contents import Contents
from twinweave.report.readme import synthetic_readme
from twinweave.report.record import report_record
from twinweave.report.terminal.summary import summary
from twinweave.report.terminal.synthetic import synthetic_section
from twinweave.report.terminal.text import WIDTH
from twinweave.synthesis.decode import decode_rows
from twinweave.synthesis.draw import Source
from twinweave.synthesis.population import population
from twinweave.synthesis.synthesise import SynthesisResult
from twinweave.workload.analyses import FairnessConf

FAIRNESS = FairnessConf(sensitive=("region", "age"), label="bought", positive="1")


@pytest.fixture(scope="module")
def found() -> tuple[LiftReport, SyntheticFindings]:
    rng = np.random.default_rng(2)
    users = people(3000, rng)
    queries = (*WORKLOAD, cross(a("age"), b("bought")))
    measured = [noisy(q, exact(users, q), 3.0, rng) for q in queries]
    rows = union(users)
    sizes = dict(zip(SCHEMA.parties, rows.presence.sum(axis=0).tolist(), strict=True))
    result = SynthesisResult(
        rows=rows,
        population=population(SCHEMA.parties, sizes, measured),
        effective=2800.0,
        misfit={},
        trace=(),
        source=Source(),
    )
    lift = analyse(SCHEMA, measured, CONF)
    return lift, examine(
        result,
        decode_rows(SCHEMA, rows, seed=1),
        measured,
        generator="tvae",
        seed=1,
        k=20,
        lift=lift,
        lift_conf=CONF,
        fairness_conf=FAIRNESS,
    )


def test_summary_says_what_must_be_said(found: tuple[LiftReport, SyntheticFindings]) -> None:
    lift, synthetic = found
    text = summary(Contents(facts=FACTS, lift=lift, synthetic=synthetic))
    for part in (
        "Synthetic data by tvae",
        "3,000 rows",
        "They are no people",
        "run.infer",
        "agree as far as",
        "of 1 column",
        "Largest misfit",
        "synthetic tables say",
        "inside",
        "by region",
        "Fairness of bought = 1",
        "real data, noisy tables",
        "model without sensitive",
        "region x age",
        "Left out (fewer than 20 people): w",
        "synthetic joint",
        "joint.parquet",
    ):
        assert part in " ".join(text.split()), part
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert text.index("Synthetic data") < text.index("privacy, per user")


def test_rows_that_were_suppressed_are_counted_wherever_the_tables_are_told_of(
    found: tuple[LiftReport, SyntheticFindings],
) -> None:
    lift, synthetic = found
    other = replace(synthetic, suppressed=17)
    text = summary(Contents(facts=FACTS, lift=lift, synthetic=other))
    for told in (text, synthetic_readme(other)):
        assert "17 rows are left out" in " ".join(told.split())
    assert "left out" not in synthetic_readme(synthetic)


def test_summary_says_when_tables_tell_another_story(
    found: tuple[LiftReport, SyntheticFindings],
) -> None:
    _, synthetic = found
    assert synthetic.lift
    overall = replace(synthetic.lift.outcomes[0].overall, lift=0.5, inside=False)
    outcome = replace(synthetic.lift.outcomes[0], overall=overall)
    other = replace(
        synthetic,
        fidelity=replace(synthetic.fidelity, chi2=4.0),
        lift=replace(synthetic.lift, outcomes=(outcome,)),
    )
    text = "\n".join(synthetic_section(other))
    assert "OUTSIDE" in text
    assert "DIFFER by more than the noise" in text


def test_a_priority_table_that_is_not_met_is_named(
    found: tuple[LiftReport, SyntheticFindings],
) -> None:
    _, synthetic = found
    name = synthetic.fidelity.tables[0].name
    other = replace(synthetic, fidelity=replace(synthetic.fidelity, unmet=(name,)))
    text = " ".join("\n".join(synthetic_section(other)).split())
    assert f"PRIORITY TABLE NOT MET: {name}" in text
    assert "agree as far" not in text
    assert f"do not meet: `{name}`" in synthetic_readme(other)


def test_columns_whose_lift_nobody_measured_are_named(
    found: tuple[LiftReport, SyntheticFindings],
) -> None:
    lift, synthetic = found
    told = {one.outcome: one.columns for one in synthetic.unmeasured}
    by = {x.column for c in lift.conversions for x in c.breakdowns}
    outcomes = {o.name for o in synthetic.lift.outcomes} if synthetic.lift else set()
    for outcome in CONF.conversions:
        assert set(told[outcome]) == set(SCHEMA.names) - by - outcomes - {CONF.membership}
    text = " ".join("\n".join(synthetic_section(synthetic)).split())
    assert "was not measured, or in a few groups at most: what the rows show" in text
    assert all(name in synthetic_readme(synthetic) for names in told.values() for name in names)


def test_summary_without_experiment_and_audit(found: tuple[LiftReport, SyntheticFindings]) -> None:
    _, synthetic = found
    bare = replace(synthetic, lift=None, fairness=None)
    text = summary(Contents(facts=FACTS, synthetic=bare))
    assert "Fairness" not in text
    assert "synthetic tables say" not in text
    assert "Synthetic data" not in summary(Contents(facts=FACTS))


def test_report_has_it_all_and_is_json(found: tuple[LiftReport, SyntheticFindings]) -> None:
    lift, synthetic = found
    contents = Contents(facts=FACTS, lift=lift, synthetic=synthetic)
    plain = json.loads(json.dumps(report_record(contents), allow_nan=False))
    told = plain["synthetic"]
    assert told["rows"] == 3000
    assert told["lift"]["outcomes"][0]["overall"]["inside"] is True
    assert told["fidelity"]["by_ways"][0]["ways"] == 1
    assert told["fairness"]["audits"][0]["measured_parity"]["interval"]
    assert told["tables"] == FACTS.synthetic
    assert report_record(replace(contents, synthetic=None))["synthetic"] is None
