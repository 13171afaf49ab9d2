"""Public rules between columns, of one party or of several: what follows, and what cannot be.

Rules are facts that everybody knows (a band of a score follows from it; no man is pregnant), and
are kept in synthetic rows at no cost in privacy. A rule speaks of rows that have all its columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import SchemaError
from twinweave.parsing import Parsed
from twinweave.tables.column import Column
from twinweave.tables.contingency import ABSENT

Levels = str | tuple[str, ...]
"""A level of a column, or several, by their labels."""

Impossible = dict[str, Levels]
"""By column, levels that no row has together."""


@dataclass(frozen=True, kw_only=True)
class Implies(Parsed):
    """What a column's level must be, by that of the column that it follows from.

    column: the one that follows.
    follows: the one that it follows from.
    levels: by a level of `follows`, the level of `column`, or several of which it is one. A level
    that is not named leaves the column free.
    """

    column: str
    follows: str
    levels: dict[str, Levels]


@dataclass(frozen=True, kw_only=True)
class Combination:
    """No row has one of these codes in every one of these columns."""

    columns: tuple[str, ...]
    codes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Derived:
    """codes: of `column`, by code of `follows`; ABSENT where it is free or has a choice."""

    column: str
    follows: str
    codes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Rules in codes. derived: a column comes after those that it follows from."""

    impossible: tuple[Combination, ...] = ()
    derived: tuple[Derived, ...] = ()

    def possible(self, names: Sequence[str], codes: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which rows break no rule: (n,). codes: (n, len(names)); rules of other columns are left
        aside."""
        kept = np.ones(len(codes), dtype=bool)
        for rule in self.impossible:
            if set(rule.columns) <= set(names):
                at = [names.index(name) for name in rule.columns]
                hit = [np.isin(codes[:, i], own) for i, own in zip(at, rule.codes, strict=True)]
                kept &= ~np.logical_and.reduce(hit)
        return kept

    def derive(self, names: Sequence[str], codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """The rows with what follows from their other columns: (n, len(names)).

        Absent columns stay absent.
        """
        out = codes.copy()
        for rule in self.derived:
            source, target = names.index(rule.follows), names.index(rule.column)
            told = np.append(rule.codes, ABSENT)[out[:, source]]
            held = (told != ABSENT) & (out[:, target] != ABSENT)
            out[held, target] = told[held]
        return out


def compiled(
    columns: Sequence[Column], implies: Sequence[Implies], impossible: Sequence[Impossible]
) -> Rules:
    """Raises SchemaError for columns and levels that there are not, and for contradictions."""
    known = {c.name: c for c in columns}
    combos = [_combination(known, told) for told in impossible]
    derived = {}
    for rule in implies:
        if rule.column == rule.follows:
            raise _error(f"{rule.column!r} follows from itself", "Name two columns.")
        if (rule.column, rule.follows) in derived:
            raise _error(
                f"{rule.column!r} follows from {rule.follows!r} twice", "Make one rule of them."
            )
        combos += _implied(known, rule)
        derived[rule.column, rule.follows] = _derived(known, rule)
    _check_consistent(known, combos)
    order = _order(implies)
    ordered = sorted(derived.values(), key=lambda rule: order.index(rule.column))
    return Rules(impossible=tuple(combos), derived=tuple(ordered))


def _combination(known: Mapping[str, Column], told: Impossible) -> Combination:
    if len(told) < 2:
        raise _error(
            "an impossible combination is of two columns or more",
            "Leave a level that cannot be out of its column.",
        )
    codes = tuple(_codes(known, name, levels) for name, levels in told.items())
    return Combination(columns=tuple(told), codes=codes)


def _implied(known: Mapping[str, Column], rule: Implies) -> list[Combination]:
    """Each level of what it follows from cannot be with any but the levels it implies."""
    found = []
    for level, levels in rule.levels.items():
        allowed = _codes(known, rule.column, levels)
        others = tuple(c for c in range(known[rule.column].size) if c not in allowed)
        own = _codes(known, rule.follows, level)
        if others:
            found.append(Combination(columns=(rule.follows, rule.column), codes=(own, others)))
    return found


def _derived(known: Mapping[str, Column], rule: Implies) -> Derived:
    codes = np.full(known[rule.follows].size, ABSENT)
    for level, levels in rule.levels.items():
        allowed = _codes(known, rule.column, levels)
        if len(allowed) == 1:
            codes[_codes(known, rule.follows, level)] = allowed[0]
    return Derived(column=rule.column, follows=rule.follows, codes=tuple(codes.tolist()))


def _codes(known: Mapping[str, Column], name: str, levels: Levels) -> tuple[int, ...]:
    if name not in known:
        raise _error(f"no column {name!r}", f"Columns: {', '.join(known)}.")
    labels = known[name].labels
    told = (levels,) if isinstance(levels, str) else levels
    if not told or not set(told) <= set(labels):
        raise _error(f"a level that {name!r} does not have", f"Its levels: {', '.join(labels)}.")
    return tuple(labels.index(level) for level in told)


def _check_consistent(known: Mapping[str, Column], combos: Sequence[Combination]) -> None:
    """Raise SchemaError where rules of two columns leave a level of one nothing of the other."""
    pairs: dict[tuple[str, ...], NDArray[np.bool_]] = {}
    for rule in combos:
        for a, b in combinations(sorted(rule.columns), 2):
            pairs.setdefault((a, b), np.ones((known[a].size, known[b].size), dtype=bool))
        if len(rule.columns) == 2:
            a, b = sorted(rule.columns)
            codes = dict(zip(rule.columns, rule.codes, strict=True))
            pairs[a, b][np.ix_(codes[a], codes[b])] = False
    for (a, b), allowed in pairs.items():
        for one, other, table in ((a, b, allowed), (b, a, allowed.T)):
            if len(bare := np.flatnonzero(~table.any(axis=1))):
                level = known[one].labels[bare[0]]
                raise _error(
                    f"they contradict each other: with {level!r} of {one!r} no level of {other!r} "
                    "is possible",
                    "Correct a rule, or take the level out of its column.",
                )


def _order(implies: Sequence[Implies]) -> list[str]:
    """The columns, each after those that it follows from."""
    graph: dict[str, set[str]] = {}
    for rule in implies:
        graph.setdefault(rule.column, set()).add(rule.follows)
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " from ".join(map(repr, reversed(error.args[1])))
    raise _error(f"columns follow from each other: {circle}", "Take one rule out.")


def _error(rule: str, remedy: str) -> SchemaError:
    return SchemaError(f"rules between columns (implies, impossible): {rule}. {remedy}")
