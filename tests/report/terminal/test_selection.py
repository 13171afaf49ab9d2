"""The selection's section: fits the page, shows uncertainty, says why a feature was dropped."""

from __future__ import annotations

from tests.report.selected import CHOICE, SCORES
from twinweave.report.terminal.selection import selection_section
from twinweave.report.terminal.text import WIDTH
from twinweave.workload.choice import Choice


def test_the_section_fits_the_page_and_says_everything() -> None:
    lines = selection_section(SCORES, CHOICE)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= WIDTH
    for part in (
        "2 of 20 features kept",
        "1.52 ± 0.30",
        "2 (1–5)",
        "and 15 more, dropped",
        "Kept without a score: arm",
        "Associated with arm by itself: none",
        "1,234 cells; 7 weaker",
        "no sign: other3",
        "and 9 more",
        "lost in the noise: rare",
    ):
        assert part in text, part


def test_nothing_to_select_is_no_table() -> None:
    empty = Choice(
        pinned=(), kept=(), by_target={}, pairs=(), three_way=(), dropped=(), cells=0, unmeasured=0
    )
    assert selection_section((), empty)
