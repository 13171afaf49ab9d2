"""A plan in the terminal: what can be found of the lift, and what the budget buys."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from twinweave.analysis.lift.design import Foreseen
from twinweave.analysis.lift.needed import REACH
from twinweave.foresight.foresight import Foresight, PlannedTable
from twinweave.foresight.search import Outlook
from twinweave.report.display import shown_epsilon
from twinweave.report.terminal.text import (
    WIDTH,
    Unit,
    paragraph,
    rule,
    shortened,
    table,
    unit_for,
    whole,
)

_NOISE = {"SharedBinomial": "coins", "DiscreteGaussian": "Gaussian"}
"""What mechanisms are called here; others by their own name."""


_NAME = 30
"""Characters of a table's name, so that a line fits."""


def foresight_text(found: Foresight) -> str:
    """The whole plan, lines of at most WIDTH characters (names may be longer)."""
    right = f"{found.data} · epsilon {found.epsilon:g}, delta {found.delta:g}"
    lines = [rule("═"), f" PLAN{right:>{WIDTH - 6}} ", rule("═")]
    for sentence in found.assumed:
        lines += paragraph(f"assumed: {sentence}", " ")
    for (outcome, arm, against), group in groupby(found.outlooks, lambda o: _pair(o.found)):
        levels = [f for f in found.by_level if _pair(f) == (outcome, arm, against)]
        lines += _outcome(list(group), levels)
    if found.outlooks:
        lines += ["", *paragraph(_READ, " ")]
    lines += _budget(found)
    return "\n".join([*lines, rule("═"), ""])


_READ = (
    "Lifts are absolute, over all users of the arms, found with 80 % power. Base: rate or mean as "
    "the report sees it. Ratio: noise over sampling error; at ½ the noise widens an interval by "
    "12 %. Rows: of the party of the arms, at this epsilon."
)


def _pair(found: Foreseen) -> tuple[str, str, str]:
    return found.outcome, found.arm, found.against


def _outcome(outlooks: Sequence[Outlook], levels: Sequence[Foreseen]) -> list[str]:
    """One outcome between two arms: a row a base rate, then the breakdowns in short."""
    first = outlooks[0].found
    users = " and ".join(whole(n) for n in first.users)
    lines = ["", rule()]
    lines += paragraph(f"{first.outcome}: {first.arm} against {first.against}, {users} users", " ")
    if first.sampling_error is None:
        unit = unit_for(first.noise_sd, scale=1.0, suffix="")
        lines += paragraph(
            f"Noise alone: {unit.plain(first.noise_sd)} in the lift, which hides a lift below "
            f"{unit.plain(first.smallest)}. What chance adds depends on the spread."
        )
        return lines
    head = ["base", "noise", "sampling", "ratio", "found", "without noise", "ε for ½", "rows for ½"]
    rows = [head, *(_row(o) for o in outlooks)]
    lines += table(rows)
    for told in outlooks:
        if told.lift is not None:
            lines += paragraph(_to_find(told))
    for column, group in groupby(levels, lambda f: f.column):
        lines += paragraph(_by_level(str(column), list(group)))
    return lines


def _unit(found: Foreseen) -> Unit:
    """Of its lift."""
    scale, suffix = (100.0, " pp") if found.rate else (1.0, "")
    return unit_for(found.sampling_error or found.noise_sd, scale=scale, suffix=suffix)


def _base(found: Foreseen) -> str:
    base = found.base or 0.0
    return f"{100 * base:.3g} %" if found.rate else f"{base:g}"


def _row(told: Outlook) -> list[str]:
    found, unit = told.found, _unit(told.found)
    return [
        _base(found),
        unit.plain(found.noise_sd),
        unit.plain(found.sampling_error or 0.0),
        f"{found.noise_ratio:.2f}",
        unit.plain(found.smallest) + unit.suffix,
        unit.plain(found.smallest_without_noise or 0.0) + unit.suffix,
        _epsilon(told.epsilon_for_half),
        _rows(told.users_for_half),
    ]


def _epsilon(epsilon: float | None) -> str:
    return f"none ≤ {REACH:g}" if epsilon is None else f"{epsilon:.2g}"


def _rows(rows: float | None) -> str:
    """To two digits."""
    return "" if rows is None else f"{float(f'{rows:.2g}'):,.0f}"


def _to_find(told: Outlook) -> str:
    """What would find the lift that was asked for."""
    found, unit = told.found, _unit(told.found)
    size = f"{unit.signed(told.lift or 0.0)}{unit.suffix}"
    if (found.smallest_without_noise or 0.0) >= abs(told.lift or 0.0):
        epsilon = "no epsilon finds it with these users, sampling alone hides it"
    elif told.epsilon_for_lift is None:
        epsilon = f"no epsilon up to {REACH:g} finds it with these users"
    else:
        epsilon = f"found from epsilon {told.epsilon_for_lift:.2g} with these users"
    return (
        f"A lift of {size} from {_base(found)}: {epsilon}; at this epsilon from "
        f"{_rows(told.users_for_lift)} rows."
    )


def _by_level(column: str, found: Sequence[Foreseen]) -> str:
    """In short: at the base rate in the middle."""
    one = found[len(found) // 2]
    unit = _unit(one)
    return (
        f"By {column}, {one.levels} levels of equal size, from {_base(one)}: ratio "
        f"{one.noise_ratio or 0.0:.2f}; found {unit.plain(one.smallest)}{unit.suffix} in one of "
        f"them, {unit.plain(one.smallest_without_noise or 0.0)} without noise."
    )


def _budget(found: Foresight) -> list[str]:
    """What the budget buys, stage by stage; priority tables one by one, the others together."""
    rows = [["what the budget buys", "cells", "noise sd", "by"]]
    for (stage, priority), group in groupby(found.tables, lambda t: (t.stage, t.priority)):
        tables = list(group)
        if priority:
            rows.append([f"{stage}, priority", _cells(tables), "", ""])
            rows += [_row_of(f"  {_name(t, found)}", [t]) for t in tables]
        else:
            rows.append(_row_of(f"{stage}, {_tables(tables)}", tables))
    lines = ["", rule(), *table(rows, indent=" ")]
    if found.training_share:
        lines += paragraph(f"training: {found.training_share.why}", " ")
    if found.training:
        noise = ", ".join(f"{party} {sigma:.2f}" for party, sigma in found.training.items())
        lines += paragraph(f"noise multiplier of DP-SGD: {noise}", " ")
    if found.cost is not None:
        lines += paragraph(found.cost.sentence, " ")
    stages = ", ".join(f"{stage} {shown_epsilon(e)}" for stage, e in found.spent_by_stage.items())
    spent = shown_epsilon(found.spent)
    return [*lines, *paragraph(f"epsilon in all {spent}; alone: {stages}", " ")]


def _row_of(name: str, tables: Sequence[PlannedTable]) -> list[str]:
    return [name, _cells(tables), _sd(tables), _by(tables)]


def _name(one: PlannedTable, found: Foresight) -> str:
    """Without the parties, which the names of columns tell."""
    name = one.name
    for party in found.rows:
        name = name.replace(f"{party}.", "")
    return shortened(name, _NAME)


def _tables(tables: Sequence[PlannedTable]) -> str:
    return shortened(tables[0].name, _NAME) if len(tables) == 1 else f"{len(tables)} tables"


def _cells(tables: Sequence[PlannedTable]) -> str:
    return f"{sum(t.cells for t in tables):,}"


def _sd(tables: Sequence[PlannedTable]) -> str:
    low, high = (_three_digits(f(t.noise_sd for t in tables)) for f in (min, max))
    return low if low == high else f"{low} to {high}"


def _three_digits(x: float) -> str:
    return f"{x:.3g}" if x < 1000 else f"{float(f'{x:.3g}'):,.0f}"


def _by(tables: Sequence[PlannedTable]) -> str:
    kinds = [_NOISE.get(t.noise, t.noise) for t in tables]
    if len(set(kinds)) == 1:
        return kinds[0]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
