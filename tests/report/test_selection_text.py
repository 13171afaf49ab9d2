"""The selection's section: fits the page, shows uncertainty, says why a feature was dropped."""

from __future__ import annotations

import json

from twinweave.report.terminal.selection import selection_facts, selection_section
from twinweave.report.terminal.text import WIDTH
from twinweave.workload.association import Association
from twinweave.workload.choice import Choice, Dropped
from twinweave.workload.selection import FeatureScore


def scored(rank, column, z, df=3):
    found = Association(
        target="converted_within_thirty_days",
        information=0.00152 / rank,
        standard_error=0.0003,
        z=z,
        p_value=0.001,
        df=df,
        users=60_000.4,
    )
    return FeatureScore(
        column=column,
        parties=("publisher", "advertiser"),
        associations=(found,),
        z=z,
        p_value=0.002,
        rank=rank,
        ranks=(max(1, rank - 1), rank + 3),
    )


SCORES = (
    scored(1, "a_feature_with_a_very_long_name", 123.4),
    scored(2, "age", 3.0),
    *(scored(i, f"other{i}", 0.1) for i in range(3, 20)),
    scored(20, "rare", 0.0, df=0),
)
CHOICE = Choice(
    pinned=("arm", "converted_within_thirty_days"),
    kept=("a_feature_with_a_very_long_name", "age"),
    by_target={"arm": (), "converted_within_thirty_days": ("age",)},
    pairs=(("age", "arm"),),
    threes=(("arm", "age", "converted_within_thirty_days"),),
    dropped=(
        *(Dropped(column=f"other{i}", reason="no sign") for i in range(3, 20)),
        Dropped(column="rare", reason="lost in the noise"),
    ),
    cells=1234,
    unmeasured=7,
)


def test_the_section_fits_the_page_and_says_everything():
    lines = selection_section(SCORES, CHOICE)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= WIDTH
    for part in (
        "2 of 20 features kept",
        "1.52 ± 0.30",
        "2 (1–5)",
        "and 15 more, dropped",
        "Kept without a score: arm",
        "With arm by itself: none",
        "1,234 cells; 7 weaker",
        "no sign: other3",
        "and 9 more",
        "lost in the noise: rare",
    ):
        assert part in text, part


def test_the_facts_are_json():
    facts = json.loads(json.dumps(selection_facts(SCORES, CHOICE), allow_nan=False))
    assert facts["scores"][0]["associations"][0]["users"] == 60_000.4
    assert facts["choice"]["dropped"][0] == {"column": "other3", "reason": "no sign"}


def test_nothing_to_select_is_no_table():
    empty = Choice(
        pinned=(), kept=(), by_target={}, pairs=(), threes=(), dropped=(), cells=0, unmeasured=0
    )
    assert selection_section((), empty)
