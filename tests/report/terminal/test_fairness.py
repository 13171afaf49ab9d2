"""The summary says what was made fair, what it costs, and whom nothing was enforced for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from twinweave.analysis.fairness.audit import FairnessReport
from twinweave.analysis.fairness.look_alikes import LookAlike
from twinweave.analysis.fairness.trade import Judged, Trade
from twinweave.analysis.finding import Finding
from twinweave.report.terminal.fairness import enforced_lines, fairness_lines
from twinweave.report.terminal.text import WIDTH
from twinweave.synthesis.fairness.enforce import Enforced, GroupDifference

ENFORCED = Enforced(
    constraint="conditional_parity",
    way="decode",
    strength=0.5,
    label="credit",
    positive="yes",
    admissible=("work",),
    tolerance=0.01,
    changed=0.0432,
    differences=(
        GroupDifference(
            columns=("sex", "town"),
            before=0.31,
            aimed=0.155,
            reached=0.157,
            missed=0.002,
            pooled=("f, c", "m, c"),
            left_out=tuple(f"group {i}" for i in range(9)),
        ),
    ),
    met=True,
)
AUDITED = FairnessReport(
    label="credit",
    positive="yes",
    rows=900,
    k=20,
    level=0.95,
    model="a model",
    auc={},
    audits=(),
    notes=("No model was trained: too few rows, or one label only.",),
    look_alikes=(
        LookAlike(column="job", trait=None, of="sex", strength=0.412),
        LookAlike(column="race", trait="race or ethnicity", of=None, strength=None),
    ),
)


def judged(parity: float, odds: float | None) -> Judged:
    def found(value: float | None) -> Finding | None:
        return None if value is None else Finding(value=value, interval=(0.0, 0.5))

    return Judged(columns=("sex", "town"), parity=found(parity), odds=found(odds), opportunity=None)


COST = Trade(
    rows=4321,
    accuracy_before=0.812,
    accuracy_after=0.791,
    before=(judged(0.222, 0.111),),
    after=(judged(0.033, None),),
)


def said(lines: list[str]) -> str:
    assert all(len(line) <= WIDTH for line in lines)
    return " ".join(" ".join(lines).split())


def test_what_was_made_fair_and_at_what_cost() -> None:
    text = said(enforced_lines(ENFORCED, COST))
    for part in (
        "conditional parity of credit = yes given work, strength 0.5, by decode; 4.3% of labels",
        "sex x town 0.310 0.155 0.157",
        "Put together as one group, being small: f, c; m, c.",
        "Nothing is enforced for these, being too small: group 0;",
        "and 3 more",
        "accuracy 81.2% 79.1%",
        "parity by sex x town 0.222 0.033",
        "odds by sex x town 0.111 not shown",
        "4,321 rows",
    ):
        assert part in text, part
    assert "NOT MET" not in text


@pytest.mark.parametrize(
    ("rule", "why"), [("equalized_odds", "One threshold"), ("demographic_parity", "too few")]
)
def test_a_strength_that_is_not_met_is_said_with_why(rule: str, why: str) -> None:
    missed = replace(ENFORCED, constraint=rule, admissible=(), met=False)  # type: ignore[arg-type]
    text = said(enforced_lines(missed, None))
    assert "NOT MET: strength 0.5" in text
    assert why in text.split("NOT MET")[1]
    assert "accuracy" not in text


def test_columns_that_look_sensitive_are_to_be_confirmed() -> None:
    text = said(fairness_lines(AUDITED))
    assert "confirm: job (V 0.41 with sex), race (race or ethnicity)." in text
    assert "No model was trained" in text
    assert "confirm" not in said(fairness_lines(replace(AUDITED, look_alikes=())))
