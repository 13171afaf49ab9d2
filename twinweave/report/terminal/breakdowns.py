"""An outcome's lift by the levels of a column, in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twinweave.analysis.lift.results import Breakdown, Cell, Comparison, ConversionLift, ValueLift
from twinweave.report.display import shown_comparison
from twinweave.report.terminal.text import (
    Unit,
    level_text,
    p_is,
    p_text,
    paragraph,
    shortened,
    table,
    told_apart,
    unit_for,
)

_LEVEL = 18
"""Characters of a level's name where arms stand beside it."""

Truth = Mapping[str, Mapping[str, float]]
"""True absolute lift by column and level, where it is known."""

CORRECTED = (
    "Breakdowns: intervals hold for all levels of a table at once (Bonferroni); p and verdict are "
    "corrected for their number (Holm), not for the number of tables. A level at another party "
    "counts matched users alone, and is valid only if it was fixed before the treatment."
)


def breakdown_tables(
    every: Sequence[ConversionLift | ValueLift], name: str, k: int, truth: Truth
) -> list[str]:
    """Every column's table. every: the outcome's comparisons to show, one, or of several arms."""
    lines = []
    for column in dict.fromkeys(b.column for one in every for b in one.breakdowns):
        found = {one.arm: b for one in every for b in one.breakdowns if b.column == column}
        scale = 100.0 if isinstance(every[0], ConversionLift) else 1.0
        lines += _column(found, name, k, scale, truth.get(column, {}))
    return lines


def _column(
    found: Mapping[str, Breakdown], name: str, k: int, scale: float, truth: Mapping[str, float]
) -> list[str]:
    """found: by arm, each against the same other one."""
    first = next(iter(found.values()))
    among = f" (matched users of {first.among})" if first.among else ""
    lines = ["", f"  {name} by {first.column}{among}"]
    errors = [c.comparison.standard_error for b in found.values() for c in b.cells if c.comparison]
    if errors:
        suffix = " pp" if scale == 100 else ""
        unit = unit_for(max(errors), scale=scale, suffix=suffix)
        interval = f"{level_text(first.level)} interval"
        if len(found) == 1:
            lines += _one_arm(first, unit, interval, truth)
        else:
            lines += _several(found, unit, interval)
    if hidden := _hidden(found):
        lines += paragraph(
            f"Suppressed (fewer than {k} users in an arm, or lost in the noise): "
            f"{', '.join(hidden)}."
        )
    for arm, own in found.items():
        if own.interaction is not None:
            test = own.interaction
            says = "differs" if test.differs(own.level) else "no evidence that it differs"
            whose = f" of {arm}" if len(found) > 1 else ""
            lines += paragraph(
                f"Lift{whose} between levels: {says} "
                f"(Q = {test.q:.1f} on {test.df}, {p_is(test.p_value)})."
            )
    return lines


def _one_arm(found: Breakdown, unit: Unit, interval: str, truth: Mapping[str, float]) -> list[str]:
    head = [found.column, "test", "control", "lift", interval, "p", "verdict"]
    rows = [_level(c, c.comparison, unit, truth) for c in found.cells if c.comparison is not None]
    return table([[*head, "truth"] if truth else head, *rows])


def _level(cell: Cell, found: Comparison, unit: Unit, truth: Mapping[str, float]) -> list[str]:
    told = shown_comparison(found)
    rate = " %" if unit.suffix else ""
    row = [
        shortened(cell.level),
        unit.plain(told.test.rate.value) + rate,
        unit.plain(told.control.rate.value) + rate,
        *_lift(cell, found, unit),
    ]
    if truth:
        row.append(unit.signed(truth[cell.level]) if cell.level in truth else "")
    return row


def _several(found: Mapping[str, Breakdown], unit: Unit, interval: str) -> list[str]:
    """A row for each level and arm, all against the same other one."""
    column = next(iter(found.values())).column
    short = told_apart(list(found), 12)
    rows = [[column, "arm", "lift", interval, "p", "verdict"]]
    for cells in zip(*(b.cells for b in found.values()), strict=True):
        shown = [(a, c) for a, c in zip(found, cells, strict=True) if c.comparison is not None]
        for place, (arm, cell) in enumerate(shown):
            assert cell.comparison is not None
            level = "" if place else shortened(cell.level, _LEVEL)
            rows.append([level, short[arm], *_lift(cell, cell.comparison, unit)])
    return table(rows, left=2)


def _lift(cell: Cell, found: Comparison, unit: Unit) -> list[str]:
    absolute = shown_comparison(found).absolute
    return [
        unit.signed(absolute.value) + unit.suffix,
        unit.between(absolute.interval),
        "" if cell.p_holm is None else p_text(cell.p_holm),
        cell.verdict.value,
    ]


def _hidden(found: Mapping[str, Breakdown]) -> list[str]:
    """Levels that are shown of no arm, or with the arm's name where others are shown."""
    named = []
    for cells in zip(*(b.cells for b in found.values()), strict=True):
        arms = [arm for arm, cell in zip(found, cells, strict=True) if cell.comparison is None]
        if arms:
            whose = f" ({', '.join(arms)})" if len(arms) < len(found) else ""
            named.append(f"{shortened(cells[0].level)}{whose}")
    return named
