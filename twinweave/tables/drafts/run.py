"""A draft of the data configuration that parties agree on, from a file of each of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from twinweave.errors import SourceError
from twinweave.names import check_name
from twinweave.tables.column import DEFAULT_BINS
from twinweave.tables.drafts.columns import ColumnDraft
from twinweave.tables.drafts.common import (
    SAME,
    agreement,
    alike_rules,
    match_notes,
    matching_keys,
    merged,
)
from twinweave.tables.drafts.party import PartyDraft, TableFile, draft_party, flow
from twinweave.tables.drafts.roles import Experiment, guessed_experiment
from twinweave.tables.drafts.sensitive import sensitive_note
from twinweave.tables.dtypes import as_text

_HEAD = """\
# Draft of a run's data configuration: CONFIRM every marked line, then agree on it.
# Levels and bounds below were read from the rows. Using them in a run publishes them: keep what
# is public anyway (a form's choices, a price list, an age limit), replace the rest by what is.
# Roles (membership, conversion, value) and `lift` are guesses from the columns' names. Add
# sensitive and label where they apply. For each column choose what to do with missing and
# invalid cells: error, level, clip, drop. Comments tell of the rows too: remove them at the end.
"""
_UNEQUAL = 4  # standard errors from equal arms


@dataclass(frozen=True, kw_only=True)
class RunDraft:
    """text: the configuration as YAML. notes: what whoever drafted it should know."""

    text: str
    notes: tuple[str, ...]


def draft_run(
    tables: Sequence[TableFile],
    parties: Sequence[str],
    keys: Sequence[str | None],
    name: str,
) -> RunDraft:
    """Draft the configuration of a run of these parties. keys: None where not settled.

    Raises SourceError where one file has an id and another has none.
    """
    found = matching_keys(tables, keys)
    if None in found and not _rows_in_step(tables, found):
        bare = tables[found.index(None)].file.name
        raise SourceError(
            f"{bare}: no column looks like an id, and row numbers would pair strangers. Name "
            "the id of every file with --key, in the files' order."
        )
    rules = alike_rules(tables, found)
    drafts = [
        draft_party(table, party, key, rules)
        for table, party, key in zip(tables, parties, found, strict=True)
    ]
    drafts, notes = _aligned(list(tables), drafts)
    guess = guessed_experiment([[*_facts(draft)] for draft in drafts])
    drafts = [_with_roles(draft, guess) for draft in drafts]
    notes += [
        f"{draft.party}: no column can be used as it is; declare the levels of one"
        for draft in drafts
        if not _facts(draft)
    ]
    looks = sensitive_note(dict.fromkeys(c["name"] for draft in drafts for c in _facts(draft)))
    notes += [looks] if looks else []
    text = _HEAD + "\n".join(_lines(tables, drafts, guess, name)) + "\n"
    return RunDraft(text=text, notes=(*match_notes(tables, found, rules), *notes))


def _rows_in_step(tables: Sequence[TableFile], keys: Sequence[str | None]) -> bool:
    """Whether row numbers could stand in for ids: there is none, and all files are as long."""
    return not any(keys) and len({len(table.frame) for table in tables}) == 1


def party_names(files: Sequence[Path], given: Sequence[str]) -> list[str]:
    """A name for each file: the given ones, else what the file is called."""
    names = list(given) or [re.sub(r"[^\w-]+", "-", f.name.split(".")[0]).strip("-") for f in files]
    if len(names) != len(files):
        raise SourceError(f"{len(files)} files, {len(names)} names. Give --party for each file.")
    for name in given:
        check_name("a party", name)
    if len(set(names)) == len(names) and all(names):
        return names
    if given:
        raise SourceError("two files have one party's name. Give each file a --party of its own.")
    return [f"party-{number}" for number in range(1, len(files) + 1)]


def _facts(draft: PartyDraft) -> list[dict[str, Any]]:
    return [dict(c.facts) for c in draft.columns if c.facts is not None]


def _aligned(
    tables: list[TableFile], drafts: list[PartyDraft]
) -> tuple[list[PartyDraft], list[str]]:
    """Columns of one name: shared where they say the same of the same people, else renamed."""
    notes: list[str] = []
    names = [c["name"] for draft in drafts for c in _facts(draft)]
    for name in dict.fromkeys(n for n in names if names.count(n) > 1):
        holders = [i for i, d in enumerate(drafts) if any(c["name"] == name for c in _facts(d))]
        first = holders[0]
        shared = {first: _column(drafts[first], name)}
        for other in holders[1:]:
            why = _differ(tables, drafts, first, other, name)
            facts = merged(shared[first].facts or {}, _column(drafts[other], name).facts or {})
            if why or facts is None:
                drafts[other] = _renamed(drafts[other], name, why or "another kind of column")
                notes.append(f"{name!r} of {drafts[other].party} is not that of the others")
                continue
            shared[other] = _column(drafts[other], name)
            shared = {i: replace(c, facts=facts) for i, c in shared.items()}
        if len(shared) > 1:
            for i, column in shared.items():
                drafts[i] = _with_column(drafts[i], name, _marked_shared(column))
    return drafts, notes


def _differ(
    tables: list[TableFile], drafts: list[PartyDraft], a: int, b: int, name: str
) -> str | None:
    """Why two columns of one name are not one; None where they are."""
    one, two = drafts[a].key, drafts[b].key
    if one is None or two is None:
        return None
    alike = agreement(tables[a], one, tables[b], two, name, drafts[a].normalise)
    if alike is None or alike >= SAME:
        return None
    return f"{1 - alike:.0%} of the common users have another cell at {drafts[a].party}"


def _column(draft: PartyDraft, name: str) -> ColumnDraft:
    return next(c for c in draft.columns if c.name == name)


def _with_column(draft: PartyDraft, name: str, column: ColumnDraft) -> PartyDraft:
    return replace(draft, columns=tuple(column if c.name == name else c for c in draft.columns))


def _marked_shared(column: ColumnDraft) -> ColumnDraft:
    facts = {**(column.facts or {}), "shared": True}
    return replace(column, facts=facts, note=_also(column.note, "CONFIRM shared"))


def _renamed(draft: PartyDraft, name: str, why: str) -> PartyDraft:
    column, new = _column(draft, name), f"{name}_{draft.party}"
    facts = {**(column.facts or {}), "name": new}
    note = _also(column.note, f"CONFIRM: called {name!r} in the file; {why}")
    source = {**draft.source, "rename": {**draft.source.get("rename", {}), name: new}}
    turned = _with_column(draft, name, ColumnDraft(name=new, facts=facts, note=note))
    return replace(turned, source=source)


def _with_roles(draft: PartyDraft, guess: Experiment | None) -> PartyDraft:
    for column in draft.columns:
        role = guess.role(column.name) if guess and column.facts else None
        if role is None:
            continue
        facts = {**(column.facts or {}), "role": role}
        if role == "value":  # a user without one counts as 0
            low, high = facts["bounds"]
            facts["bounds"] = [min(low, type(low)(0)), high]
            if low >= 0:
                facts = _with_value_bins(facts)
        note = _also(column.note, f"CONFIRM role {role}")
        draft = _with_column(draft, column.name, replace(column, facts=facts, note=note))
    return draft


_PARTS = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
"""Of a value's upper bound: amounts are many far below it, and few near it."""


def _with_value_bins(facts: dict[str, Any]) -> dict[str, Any]:
    """Bins that a clip can be chosen from, by the bounds alone: 0 by itself, then narrow ones.
    None of few whole numbers, each of which is a bin."""
    high, special = facts["bounds"][1], facts.get("special", [])
    if facts["kind"] != "integer":
        zero = () if 0 in special else (_PARTS[0] / 1000,)
        return {**facts, "bins": [float(f"{high * part:.6g}") for part in (*zero, *_PARTS)]}
    if high < DEFAULT_BINS:
        return facts
    bins = sorted({1, *(max(2, round(high * part)) for part in _PARTS)})
    told = {key: fact for key, fact in facts.items() if key != "special"}
    starts = [0, *bins]
    alone = [a for a, b in pairwise([*starts, high + 1]) if b == a + 1]
    if special := [v for v in special if v not in alone]:
        told["special"] = special
    return {**told, "bins": bins}


def _also(note: str, more: str) -> str:
    return f"{note}; {more}" if note else more


def _lines(
    tables: Sequence[TableFile], drafts: list[PartyDraft], guess: Experiment | None, name: str
) -> list[str]:
    folders = {Path(draft.source["path"]).parent for draft in drafts}
    root = str(folders.pop()) if len(folders) == 1 else None
    lines = [f"name: {flow(name)}", f"root: {_escaped(root or '.')}", "parties:"]
    for draft in drafts:
        source = dict(draft.source)
        path = Path(source.pop("path"))
        where = f'"${{data.root}}/{_escaped(path.name)[1:]}' if root else _escaped(str(path))
        kind = flow(source.pop("kind"))
        rest = "".join(f", {key}: {_escaped(value)}" for key, value in source.items())
        lines.append(f"  - name: {flow(draft.party)}")
        lines.append(f"    source: {{kind: {kind}, path: {where}{rest}}}{draft.source_note}")
        lines.append("    columns:")
        lines += [f"      {_unresolved(line)}" for line in draft.lines()]
    lines += _lift(tables, drafts, guess)
    return [*lines, "fairness: null", "holdout: null"]


def _lift(
    tables: Sequence[TableFile], drafts: list[PartyDraft], guess: Experiment | None
) -> list[str]:
    if guess is None:
        return ["lift: null  # CONFIRM: no arm with an outcome. docs/data.example.yaml has one"]
    lines = [
        "lift:",
        f"  membership: {_escaped(guess.membership)}  # CONFIRM",
        f"  test: {_escaped(guess.test)}  # CONFIRM",
        f"  control: {_escaped(guess.control)}  # CONFIRM",
        f"  conversions: {_escaped(guess.conversions)}  # CONFIRM",
        f"  values: {_escaped(guess.values)}  # CONFIRM",
        f"  breakdowns: {_escaped(guess.breakdowns)}  # CONFIRM",
    ]
    home = next(i for i, d in enumerate(drafts) if guess.membership in [c.name for c in d.columns])
    renamed = {new: old for old, new in drafts[home].source.get("rename", {}).items()}
    arm = renamed.get(guess.membership, guess.membership)
    arms = as_text(tables[home].frame[arm])[0]
    test, control = (int(np.isin(arms, v).sum()) for v in (guess.test, guess.control))
    if abs(test - control) > _UNEQUAL * (test + control) ** 0.5 and test and control:
        lines.append(
            f"  # ratio: {test / control:.3g}  # CONFIRM: the planned number of test users for "
            "each control; 1 where this is left out"
        )
    return [*lines, "  k: ${privacy.k}"]


def _escaped(value: Any) -> str:
    """JSON in whose values OmegaConf finds nothing to replace; keys it leaves alone."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{flow(k)}: {_escaped(v)}' for k, v in value.items())}}}"
    return _unresolved(flow(value))


def _unresolved(text: str) -> str:
    return text.replace("${", "\\\\${")
