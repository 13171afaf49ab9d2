"""What the files of several parties have in common: ids that match, columns that say the same.

For drafting alone: it takes all files in one hand, as whoever tries a run out has them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from twinweave.tables.cleaning import TRUTH
from twinweave.tables.column import Normal
from twinweave.tables.drafts.columns import MAX_LEVELS
from twinweave.tables.drafts.party import TableFile, key_candidates
from twinweave.tables.dtypes import as_numbers, as_text
from twinweave.tables.keys import normalise_key

if TYPE_CHECKING:
    import pandas as pd

SAME = 0.9
"""Of the people in both files: so many must agree for two columns of one name to be one."""

_MANY_MORE = 1.2  # times the matches

_RULES: tuple[tuple[Normal, ...], ...] = (
    (Normal.CASEFOLD,),
    (Normal.STRIP_ZEROS,),
    (Normal.DIGITS,),
    (Normal.DIGITS, Normal.STRIP_ZEROS),
    (Normal.CASEFOLD, Normal.LETTERS_AND_DIGITS),
    (Normal.CASEFOLD, Normal.LETTERS_AND_DIGITS, Normal.STRIP_ZEROS),
)
"""That a draft tries, the mildest first."""


def matching_keys(tables: Sequence[TableFile], given: Sequence[str | None]) -> list[str | None]:
    """The id column of each file: the ones that share most ids with those of the first file.

    given: what is settled already. None: nothing in that file is like an id. A file that shares
    no id with the first gets what looks most like one.
    """
    names = [set(map(str, table.frame.columns)) for table in tables]
    common = set.intersection(*names)
    choices = [
        [name] if name else key_candidates(table, common)
        for table, name in zip(tables, given, strict=True)
    ]
    ids = [
        {name: _ids(t.frame[name]) for name in own if name in t.frame.columns}
        for t, own in zip(tables, choices, strict=True)
    ]
    best: tuple[int, list[str | None]] = (-1, [])
    for first, held in ids[0].items() if ids[0] else [(None, set[str]())]:
        shared = [{name: len(held & other) for name, other in own.items()} for own in ids[1:]]
        rest = [max(own, key=own.__getitem__, default=None) for own in shared]
        total = sum(max(own.values(), default=0) for own in shared)
        best = max(best, (total, [first, *rest]), key=lambda found: found[0])
    return best[1]


def alike_rules(tables: Sequence[TableFile], keys: Sequence[str | None]) -> tuple[Normal, ...]:
    """What to take away from the ids of all files for many more of them to match; () for nothing.

    The first of _RULES by which nearly as many match as by any. None that makes two ids of one
    file equal counts, nor digits alone of ids that have letters: u17 and o17 are not one.
    """
    cells = [t.frame[key] for t, key in zip(tables, keys, strict=True) if key is not None]
    if len(cells) < len(tables):
        return ()
    plain = [_ids(c) for c in cells]
    now = _matches(plain)
    if sum(min(len(a), len(b)) for a, b in pairwise(plain)) <= _MANY_MORE * now:
        return ()
    letters = any(re.search(r"[^\W\d_]", each) for ids in plain for each in ids)
    found = {}
    for rules in _RULES:
        if Normal.DIGITS in rules and letters:
            continue
        ids = [_ids(c, rules) for c in cells]
        if all(len(a) == len(b) for a, b in zip(ids, plain, strict=True)):
            found[rules] = _matches(ids)
    best = max(found.values(), default=0)
    if best <= _MANY_MORE * now:
        return ()
    return next(rules for rules, both in found.items() if both >= SAME * best)


def _matches(ids: Sequence[set[str]]) -> int:
    return sum(len(a & b) for a, b in pairwise(ids))


def match_notes(
    tables: Sequence[TableFile], keys: Sequence[str | None], rules: Sequence[Normal] = ()
) -> list[str]:
    """How many ids each file shares with the one before, and what would make it many more.

    rules: what the draft takes away from all ids.
    """
    notes = []
    if rules:
        written = ", ".join(rules)
        notes.append(
            f"ids are compared by `normalise: [{written}]`, which the draft declares at each key: "
            "as they are written, hardly any or many fewer match"
        )
    for (a, x), (b, y) in pairwise(zip(tables, keys, strict=True)):
        if x is None or y is None:
            continue
        one, two = _ids(a.frame[x], rules), _ids(b.frame[y], rules)
        both = len(one & two)
        notes.append(
            f"{both:,} ids in common, of {len(one):,} in {a.file.name} and {len(two):,} in "
            f"{b.file.name}"
        )
        if both == 0:
            notes.append(f"no id is in both: are {x!r} and {y!r} the same kind of id?")
        alike = len(_bare(one) & _bare(two))
        if alike > _MANY_MORE * both:
            notes.append(
                f"{alike:,} would be with case, leading zeros and signs left out: write the ids "
                "alike in both files"
            )
    return notes


def _ids(cells: pd.Series, rules: Sequence[Normal] = ()) -> set[str]:
    found, missing = normalise_key(cells, rules)
    return set(found[~missing])


def _bare(ids: set[str]) -> set[str]:
    """Without case, signs and leading zeros."""
    import pandas as pd

    letters = pd.Series(list(ids), dtype=object).str.replace(r"[\W_]+", "", regex=True)
    return set(letters.str.casefold().str.lstrip("0"))


def agreement(
    a: TableFile, x: str, b: TableFile, y: str, name: str, rules: Sequence[Normal] = ()
) -> float | None:
    """Share of the people in both files whose cells of column `name` say the same.

    x, y: the files' id columns, compared by `rules`. None where nobody is in both with a cell in
    each.
    """
    mine, yours = (
        _said(t.plain[name]).set_axis(normalise_key(t.frame[k], rules)[0])
        for t, k in ((a, x), (b, y))
    )
    mine, yours = (s[s.index.notna() & ~s.index.duplicated()].dropna() for s in (mine, yours))
    both = mine.index.intersection(yours.index)
    if not len(both):
        return None
    return float((mine[both] == yours[both]).mean())


def _said(cells: pd.Series) -> pd.Series:
    """Cells in one spelling: numbers as floats, words of TRUTH as 0 and 1, else in lower case."""
    import pandas as pd

    words = pd.Series(as_text(cells)[0], dtype=object).str.casefold()
    numbers = pd.Series(as_numbers(cells)[0]).astype(object)
    meant = numbers.where(numbers.notna(), words.map(TRUTH))
    return meant.where(meant.notna(), words)


def merged(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any] | None:
    """One declaration that fits both columns; None where there is none."""
    kinds = {a["kind"], b["kind"]}
    if len(kinds) > 1 and kinds != {"integer", "continuous"}:
        return None
    facts: dict[str, Any] = {"name": a["name"], "kind": max(kinds, key="continuous".__eq__)}
    if "bounds" in a:
        (low, high), (other_low, other_high) = a["bounds"], b["bounds"]
        facts["bounds"] = [min(low, other_low), max(high, other_high)]
        if special := sorted({*a.get("special", ()), *b.get("special", ())}):
            facts["special"] = special
    elif facts["kind"] == "categorical":
        facts["levels"] = sorted({*a["levels"], *b["levels"]})
        if len(facts["levels"]) > MAX_LEVELS:
            return None
    elif a.get("levels") == b.get("levels") and "levels" in a:
        facts["levels"] = a["levels"]
    facts |= {rule: "level" for rule in ("missing", "invalid") if rule in a or rule in b}
    return facts
