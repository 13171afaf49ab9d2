"""The terminal summary says everything and hides what is small."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.analysis.lift.lift_world import (
    CONF,
    SCHEMA,
    WORKLOAD,
    counted,
    exact,
    noisy,
    people,
)
from tests.report.facts import FACTS
from twinweave.analysis.finding import Finding
from twinweave.analysis.lift.analysis import analyse
from twinweave.analysis.lift.results import LiftReport, Relative
from twinweave.generators.earning import TrainingShare
from twinweave.report.contents import Contents
from twinweave.report.display import shown_relative
from twinweave.report.terminal.comparisons import Wording, relative_text, several_arms
from twinweave.report.terminal.summary import summary
from twinweave.report.terminal.text import WIDTH, Unit, level_text, p_is, unit_for
from twinweave.workload.analyses import Analyses
from twinweave.workload.priority import priority_tables

_POINTS = Unit(scale=100.0, decimals=2, suffix=" pp")
_WORDING = Wording(
    name="bought", what="users", total="sold", rate="rate", rates=_POINTS, points=_POINTS
)


@pytest.fixture(scope="module")
def report() -> LiftReport:
    rng = np.random.default_rng(2)
    users = people(3000, rng)
    return analyse(
        SCHEMA, [noisy(q, exact(users, q), 3.0, rng) for q in WORKLOAD], replace(CONF, ratio=8 / 7)
    )


def test_summary_says_what_the_training_was_given_and_why() -> None:
    training = TrainingShare(share=0.0, why="none, as asked")
    assert "training: none, as asked" in summary(Contents(facts=replace(FACTS, training=training)))
    assert "training:" not in summary(Contents(facts=FACTS))


def test_summary_says_what_must_be_said(report: LiftReport) -> None:
    text = summary(Contents(facts=FACTS, lift=report))
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
        "Matched at b: ",
        "Among matched users alone: ",
        "Sample ratio",
        "0.9987",
        "stage measurement",
        "guard: off (a)",
        "runs/4f2a/report.json",
    ):
        assert part in text, part
    assert max(len(line) for line in text.splitlines()) <= WIDTH


def test_summary_says_what_share_was_clipped(report: LiftReport) -> None:
    share = Finding(value=0.121, interval=(0.09, 0.15))
    clipped = replace(report.values[0], clipped_to=(0.0, 120.0), clipped_share=share)
    facts = replace(FACTS, clips={clipped.column: 120.0})
    text = summary(Contents(facts=facts, lift=replace(report, values=(clipped,))))
    assert "clipped to 0 to 120" in text
    told = "amounts clipped at 120 (12.1 % of amounts are above; 9.0 to 15.0 %): what is compared"
    assert told in " ".join(text.split())


def test_what_was_printed_before_the_training_is_not_printed_again(report: LiftReport) -> None:
    contents = Contents(facts=FACTS, lift=report)
    whole, rest = (summary(contents, told=told).splitlines() for told in (False, True))
    assert any("INCONCLUSIVE" in line or "LIFT" in line for line in whole)
    assert not any("INCONCLUSIVE" in line or "LIFT" in line for line in rest)
    assert set(rest) < set(whole)


def test_summary_of_a_hidden_arm_shows_no_figure_of_it(report: LiftReport) -> None:
    hidden = replace(report, conversions=(replace(report.conversions[0], overall=None),), values=())
    text = summary(Contents(facts=FACTS, lift=hidden))
    assert "bought: not shown" in text
    assert "with an amount" in text
    one = replace(hidden, hidden=("control",))
    assert "The control arm has fewer" in summary(Contents(facts=FACTS, lift=one))
    nobody = summary(Contents(facts=FACTS, lift=replace(hidden, hidden=("test", "control"))))
    assert "a larger epsilon or larger tables" in " ".join(nobody.split())
    assert "absolute lift" not in text


def test_arms_whose_names_begin_alike_keep_their_own_figures() -> None:
    """Each comparison has a name of its own, and arms stand in the order declared."""
    rng = np.random.default_rng(2)
    users = people(20_000, rng)
    arms: dict[str, tuple[str, ...]] = {
        "campaign north": ("t1",),
        "campaign south": ("t2",),
        "west": ("none",),
    }
    conf = replace(CONF, test=(), arms=arms, breakdowns=(), values=(), ratio=None)
    queries = priority_tables(Analyses(schema=SCHEMA, lift=conf))
    found = analyse(SCHEMA, [noisy(q, counted(users, q), 3.0, rng) for q in queries], conf)
    lines = several_arms(found.conversions, _WORDING, conf.level)
    relative = [line for line in lines if " vs " in line and "%" in line]
    for one, row in zip(found.conversions, relative, strict=True):
        assert one.overall is not None
        assert one.overall.relative is not None
        assert f"{100 * (one.overall.relative.value or 0):+.1f} %" in row
    at = [line.split()[0] for line in lines[5:9]]
    assert at == ["campaign…", "campaig…2", "west", "control"]
    assert found.conversions[0].overall is not None
    assert level_text(found.conversions[0].overall.level) in lines[4]  # Dunnett's, not 95%


@pytest.mark.parametrize(
    ("level", "text"), [(0.95, "95%"), (0.9737, "97.37%"), (0.995, "99.5%"), (0.99995, "99.995%")]
)
def test_a_level_is_never_rounded_to_certainty(level: float, text: str) -> None:
    assert level_text(level) == text


def test_several_arms_stand_side_by_side() -> None:
    rng = np.random.default_rng(2)
    users = people(20_000, rng)
    arms: dict[str, tuple[str, ...]] = {"the first of them": ("t1",), "second": ("t2",)}
    conf = replace(
        CONF,
        test=(),
        arms=arms,
        conversions=("bought", "visited"),
        breakdowns=("region", "channel"),
        ratio=None,
    )
    queries = priority_tables(Analyses(schema=SCHEMA, lift=conf))
    found = analyse(SCHEMA, [noisy(q, counted(users, q), 3.0, rng) for q in queries], conf)
    text = summary(Contents(facts=FACTS, lift=found))
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    flat = " ".join(text.split())
    for part in (
        "t1 (the first of them), t2 (second) against c (control)",
        "second vs control",
        "the firs… vs second",
        "adjusted",
        "for all 6 comparisons with the control (Dunnett over arms, Holm over outcomes)",
        "bought by channel (matched users of b)",
        "spend by region",
        "Lift of second between levels",
    ):
        assert part in flat, part
    hidden = analyse(
        SCHEMA,
        [noisy(q, counted(users, q), 3.0, rng) for q in queries],
        replace(conf, k=3000),
    )
    assert "vs second" not in summary(Contents(facts=FACTS, lift=hidden))


def test_summary_without_an_experiment_still_tells_the_cost() -> None:
    facts = replace(FACTS, ledger={"epsilon": None}, guards={"a": "on", "b": "on"})
    text = summary(Contents(facts=facts))
    assert "∞" in text
    assert "guard: on at every party" in text
    facts = replace(facts, guards={"a": "this run", "b": "this run"})
    facts = replace(facts, too_large=tuple(f"t{i}" for i in range(7)), max_cells=20_000)
    text = summary(Contents(facts=facts))
    assert "left out for more than 20,000 cells (workload.max_cells): t0, t1, t2, t3, t4" in text
    assert "and 2 more" in text
    assert "guard: this run only (a, b)" in summary(Contents(facts=facts))
    assert "workload=all" not in text
    assert "workload=all adds" in summary(Contents(facts=replace(facts, scope="priority")))


@pytest.mark.parametrize(
    ("value", "intervals", "text"),
    [
        (0.3, ((0.1, 0.5),), ("+30.0 %", "+10.0 % to +50.0 %")),
        (0.3, ((0.1, None),), ("+30.0 %", "+10.0 % or more")),
        (0.3, ((-1.0, None),), ("unknown", "not known: the control may be 0")),
        (None, ((0.1, None),), ("unknown", "+10.0 % or more")),
        (
            2.5,
            ((-1.0, -0.5), (2.0, None)),
            ("+250.0 %", "not known: the control may be 0; not -50.0 % to +200.0 %"),
        ),
        (-1.4, ((-1.0, -0.5),), ("-100.0 %", "-50.0 % or less")),
        (-1.4, (), ("-100.0 %", "-100.0 % to -100.0 %")),
        (None, (), ("unknown", "not known: the control may be 0")),
    ],
)
def test_a_relative_set_in_words(value: Any, intervals: Any, text: tuple[str, str]) -> None:
    assert relative_text(shown_relative(Relative(value=value, intervals=intervals))) == text


def test_numbers_have_the_places_their_error_calls_for() -> None:
    assert unit_for(0.0034, scale=100, suffix=" pp").signed(0.0766) == "+7.66"
    assert unit_for(12.3, scale=1, suffix="").signed(-0.01) == "+0.0"
    assert p_is(3e-120) == "p <1e-99"
    assert p_is(0.0213) == "p = 0.021"
