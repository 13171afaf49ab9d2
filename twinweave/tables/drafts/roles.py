"""Which columns look like an experiment's: arm, conversions, amounts. Guesses, for a person."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Facts = Mapping[str, Any]
"""A column as a configuration has it."""

_ARMS = re.compile(
    r"(^|[\W_])(arms?|groups?|treat\w*|variants?|cells?|expos\w*|experiment\w*|bucket|"
    r"assign\w*|membership)($|[\W_])",
    re.IGNORECASE,
)
_CONTROL = re.compile(
    r"control|hold.?out|ghost|placebo|psa|untreated|unexposed|not.?exposed|no.?e.?mail|baseline|"
    r"(^|\W)(c|no|none|0|false)$",
    re.IGNORECASE,
)
_NEITHER = re.compile(r"neither|excluded|other|unknown|not.?in", re.IGNORECASE)
_CONVERTED = re.compile(
    r"conver|purchas|bought|buy|order(ed)?$|visit|click|sign(ed)?.?up|subscri|install|sale|sold|"
    r"redeem|responded|response",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"spen[dt]|revenue|amount|turnover|sales|gmv|paid|basket|value", re.IGNORECASE)
_MOST_ARMS = 6
_MOST_LEVELS = 10  # of a breakdown
_MOST_BREAKDOWNS = 2


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A guess at what is compared: the fields of `lift` that name columns and levels."""

    membership: str
    test: tuple[str, ...]
    control: tuple[str, ...]
    conversions: tuple[str, ...]
    values: tuple[str, ...]
    breakdowns: tuple[str, ...]

    def role(self, name: str) -> str | None:
        """Of a column, where the experiment gives it one."""
        if name == self.membership:
            return "membership"
        if name in self.conversions:
            return "conversion"
        return "value" if name in self.values else None


def guessed_experiment(parties: Sequence[Sequence[Facts]]) -> Experiment | None:
    """The experiment that columns and levels are called after; None where there is no sign of one.

    parties: the columns of each party.
    """
    arms = [(home, column) for home, columns in enumerate(parties) for column in columns]
    arms = [(home, column) for home, column in arms if _is_arm(column)]
    if not arms:
        return None
    # With several, the one whose levels say so as well.
    home, arm = max(arms, key=lambda found: any(map(_CONTROL.search, _levels(found[1]))))
    control, test = _split(arm)
    # An outcome is usually elsewhere; at the arm's own party only where nobody else has one.
    rest = [[c for c in columns if c["name"] != arm["name"]] for columns in parties]
    elsewhere = [
        column
        for party, columns in enumerate(rest)
        for column in columns
        if party != home and not column.get("shared")
    ]
    outcomes = _conversions(elsewhere) or _conversions(rest[home])
    values = _values(elsewhere) or _values(rest[home])
    if not outcomes and not values:
        return None
    by = [
        c["name"]
        for c in rest[home]
        if c["name"] not in outcomes
        and c["kind"] in ("categorical", "boolean")
        and len(_levels(c)) <= _MOST_LEVELS
    ]
    return Experiment(
        membership=arm["name"],
        test=tuple(test),
        control=tuple(control),
        conversions=tuple(outcomes),
        values=tuple(values),
        breakdowns=tuple(by[:_MOST_BREAKDOWNS]),
    )


def _is_arm(column: Facts) -> bool:
    few = 2 <= len(_levels(column)) <= _MOST_ARMS
    return few and _ARMS.search(column["name"]) is not None


def _levels(column: Facts) -> list[str]:
    if column["kind"] == "boolean":
        return list(column.get("levels") or ("0", "1"))
    return list(column.get("levels") or ())


def _split(arm: Facts) -> tuple[list[str], list[str]]:
    """(control, test): levels called like a control, else the first; the others are the test."""
    levels = [v for v in _levels(arm) if not _NEITHER.search(v)]
    levels = levels if len(levels) > 1 else _levels(arm)
    control = [v for v in levels if _CONTROL.search(v)]
    control = control if 0 < len(control) < len(levels) else levels[:1]
    return control, [v for v in levels if v not in control]


def _conversions(columns: list[Facts]) -> list[str]:
    """Flags that are called like an outcome, else the only flag there is."""
    flags = [c["name"] for c in columns if c["kind"] == "boolean"]
    called = [name for name in flags if _CONVERTED.search(name)]
    return called or (flags if len(flags) == 1 else [])


def _values(columns: list[Facts]) -> list[str]:
    numbers = (c for c in columns if c["kind"] in ("integer", "continuous"))
    return [c["name"] for c in numbers if _AMOUNT.search(c["name"]) and c["bounds"][1] > 0]
