"""The summary's section on feature selection: the ranking with its uncertainty, and the choice."""

from __future__ import annotations

from collections.abc import Sequence

from twinweave.report.terminal.text import headline, paragraph, shortened, table
from twinweave.workload.association import Association
from twinweave.workload.choice import Choice, Dropped
from twinweave.workload.selection import LEVEL, FeatureScore

_NEXT = 3
"""Dropped features that are shown below the kept ones."""

_NAMED = 8
"""Names in a list before it ends in "and 12 more"."""


def selection_section(scores: Sequence[FeatureScore], choice: Choice) -> list[str]:
    """Lines of at most WIDTH characters."""
    return [
        *headline("Feature selection", f"{len(choice.kept)} of {len(scores)} features kept"),
        *_ranking(scores, choice),
        *_kept(choice),
        *_dropped(choice.dropped),
    ]


def _ranking(scores: Sequence[FeatureScore], choice: Choice) -> list[str]:
    if not scores:
        return []
    chosen = [s for s in scores if s.column in choice.kept]
    others = [s for s in scores if s.column not in choice.kept]
    rows = [["kept", "at", "with", "rank", "information", "z"], *map(_row, chosen)]
    if others:
        rows += [[], ["dropped"], *map(_row, others[:_NEXT])]
    hidden = len(others) - _NEXT
    return [
        *(line.rstrip() for line in table(rows, left=3)),
        *(paragraph(f"and {hidden} more, dropped.") if hidden > 0 else []),
        "",
        *paragraph(
            f"Rank: with its {LEVEL:.0%} interval. Information: mutual information with the target "
            "named, in thousandths of a nat, free of the noise's bias (so nothing may come out "
            "below zero), and its standard error. z: evidence of an association with any target; "
            "without one, standard normal."
        ),
    ]


def _row(score: FeatureScore) -> list[str]:
    low, high = score.ranks
    best = score.strongest
    return [
        shortened(score.column, 18),
        shortened(", ".join(score.parties), 10),
        "" if best is None else shortened(best.target, 12),
        f"{score.rank} ({low}–{high})",
        _information(best),
        f"{score.z:.1f}",
    ]


def _information(found: Association | None) -> str:
    if found is None:
        return "lost in noise"
    return f"{1e3 * found.information:.2f} ± {1e3 * found.standard_error:.2f}"


def _kept(choice: Choice) -> list[str]:
    lines = [""]
    if choice.pinned:
        lines += paragraph(f"Kept without a score: {_names(choice.pinned)}.")
    for target, columns in choice.by_target.items():
        lines += paragraph(f"Associated with {target} by itself: {_names(columns)}.")
    text = (
        f"Measured together: {len(choice.pairs)} two-way and {len(choice.three_way)} three-way "
        f"tables, {choice.cells:,} cells"
    )
    if choice.unmeasured:
        text += f"; {choice.unmeasured} weaker ones did not fit (selection.max_cells)"
    return [*lines, *paragraph(text + ".")]


def _dropped(dropped: Sequence[Dropped]) -> list[str]:
    lines: list[str] = []
    for reason in dict.fromkeys(d.reason for d in dropped):
        names = [d.column for d in dropped if d.reason == reason]
        lines += paragraph(f"Not measured with other columns, {reason}: {_names(names)}.")
    return lines


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(shortened(n) for n in names[:_NAMED])
    more = len(names) - _NAMED
    return (shown or "none") + (f" and {more} more" if more > 0 else "")
