"""A draft of a party's schema, read from its rows, for a person to review and correct."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinweave.errors import SourceError
from twinweave.tables.column import Normal
from twinweave.tables.delimited import sniffed_encoding, sniffed_separator
from twinweave.tables.drafts.columns import (
    NEARLY,
    ColumnDraft,
    codes,
    comma_signs,
    drafted,
    with_plain_signs,
)
from twinweave.tables.drafts.dates import date_form, with_iso_dates
from twinweave.tables.drafts.sensitive import sensitive_note
from twinweave.tables.dtypes import as_moments, as_numbers
from twinweave.tables.keys import normalise_key
from twinweave.tables.sources import Source, SourceKind, read_raw

if TYPE_CHECKING:
    import pandas as pd

SIGNS = ("decimal", "thousands")
_SOME = 0.2  # distinct ids a row, of a column that is called like an id
_CALLED_ID = re.compile(
    r"(^|[\W_\d]|user|customer|client|member|person|patient|account|household|device|[ug]?u)id$"
    r"|(?-i:[a-z]I[dD])$|(key|e-?mail|nbr|number|hash|msisdn)$"
    r"|(^|[\W_])(user|customer|client|member|person|patient|household|subscriber)$",
    re.IGNORECASE,
)
"""Not every word that ends in "id": amounts paid are no ids."""

_HEAD = """\
# Draft of a party's schema: CONFIRM every line before this file leaves the party.
# Levels and bounds below were read from the rows. Using them in a run publishes them: keep what
# is public anyway (a form's choices, a price list, an age limit), replace the rest by what is.
# Then: set roles (membership, conversion, value, sensitive, label), mark shared columns, and
# choose for each column what to do with missing and invalid cells (error, level, clip, drop).
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class TableFile:
    """A file as read for a draft: every column under its own name, and how to read it again."""

    file: Path
    source: Mapping[str, Any]
    frame: pd.DataFrame = field(repr=False)

    @cached_property
    def plain(self) -> pd.DataFrame:
        """The same with plain signs in columns of numbers, and dates as ISO writes them."""
        signs = {sign: self.source[sign] for sign in SIGNS if sign in self.source}
        plain = self.frame.apply(with_plain_signs, signs=signs) if signs else self.frame
        form = self.source.get("date_format")
        return plain.apply(with_iso_dates, form=form) if form else plain


@dataclass(frozen=True, kw_only=True)
class PartyDraft:
    """A party as a configuration has it, and what to confirm of it.

    key: the column of the common id; None where the row's number stands in for it. normalise:
    what does not tell two ids apart.
    """

    party: str
    source: Mapping[str, Any]
    key: str | None
    key_note: str
    columns: tuple[ColumnDraft, ...]
    normalise: tuple[Normal, ...] = ()

    @property
    def source_note(self) -> str:
        """A comment on the source where something of it was guessed, else nothing."""
        signs = [f"{name} {self.source[name]!r}" for name in SIGNS if name in self.source]
        told = [f"{' and '.join(signs)} in numbers"] if signs else []
        if "date_format" in self.source:
            told.append(f"dates are {self.source['date_format']}")
        if self.source.get("encoding") == "cp1252":
            told.append("cp1252: letters with accents look right")
        return f"  # CONFIRM: {'; '.join(told)}" if told else ""

    def lines(self) -> Iterator[str]:
        """The lines of `columns:`, without indentation."""
        key: dict[str, Any] = {"name": self.key or "row", "kind": "categorical", "role": "key"}
        key |= {"normalise": [rule.value for rule in self.normalise]} if self.normalise else {}
        yield item(key if self.key else {**key, "numbered": True}, self.key_note)
        for column in self.columns:
            if column.facts is None:
                yield f"# left out: {flow(column.name)}, {column.note}"
            else:
                yield item(column.facts, column.note)


def draft_schema(
    file: Path,
    *,
    party: str = "party",
    key: str | None = None,
    sep: str | None = None,
    encoding: str | None = None,
    escape: str | None = None,
) -> str:
    """The draft as YAML text: a party's name, source and columns. Raises SourceError.

    sep, encoding: of a CSV; the separator that splits the header into most names, and the
    encoding that its bytes look like, when not given. escape: as in `Source`.
    """
    table = read_table_file(file, sep=sep, encoding=encoding, escape=escape)
    draft = draft_party(table, party, key or likely_key(table))
    source = f"source: {flow(draft.source)}{draft.source_note}"
    lines = [f"name: {flow(draft.party)}", source, "columns:"]
    lines += [f"  {line}" for line in draft.lines()]
    if looks := sensitive_note(c.name for c in draft.columns):
        lines.append(f"# {looks}")
    return _HEAD + "\n".join(lines) + "\n"


def read_table_file(
    file: Path,
    *,
    sep: str | None = None,
    encoding: str | None = None,
    escape: str | None = None,
) -> TableFile:
    """Read a CSV or Parquet file, whatever separates and encodes its cells. Raises SourceError.

    The file is named by its full path: whoever reads it again does so in another folder.
    """
    path = str(file.expanduser().absolute())
    source = Source(kind=SourceKind.of(file), path=path, encoding=encoding or "utf-8")
    if source.kind is SourceKind.CSV:
        source = replace(source, encoding=encoding or sniffed_encoding(source))
        found, before = sniffed_separator(source)
        source = replace(source, separator=sep or found, skip_rows=before, escape=escape)
    frame = read_raw(source)
    frame.columns = frame.columns.map(str)
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise SourceError(
            f"{file.name}: two columns are called {repeated[0]!r}. Rename one in the header."
        )
    return TableFile(file=file, source=_told(source, frame), frame=frame)


def _told(source: Source, frame: pd.DataFrame) -> dict[str, Any]:
    """A source as a draft has it: of a CSV, what is not as usual, and signs and dates it has."""
    told: dict[str, Any] = {"kind": source.kind.value, "path": source.path}
    if source.kind is SourceKind.CSV:
        usual = Source(kind=source.kind, path=source.path)
        for name in ("separator", "skip_rows", "escape", "encoding"):
            if getattr(source, name) != getattr(usual, name):
                told[name] = getattr(source, name)
        told |= comma_signs(frame) | date_form(frame)
    return told


def draft_party(
    table: TableFile, party: str, key: str | None, normalise: tuple[Normal, ...] = ()
) -> PartyDraft:
    """Draft a party from its table; `key` None: the row's number. Raises SourceError."""
    frame, source = table.frame, dict(table.source)
    if key is None:
        note = "CONFIRM: no id found; right only if the parties' rows are in the same order"
    elif key not in frame.columns:
        raise SourceError(
            f"{table.file.name}: no column {key!r} in the file. Give --key a name of its header."
        )
    else:
        note, keep = _key_note(frame[key], key, normalise)
        source |= {"keep_first_by": key} if keep else {}
    columns = tuple(
        drafted(name, frame[name], table.plain[name]) for name in frame.columns if name != key
    )
    return PartyDraft(
        party=party,
        source=source,
        key=key,
        key_note=note,
        columns=columns,
        normalise=normalise,
    )


def likely_key(table: TableFile) -> str | None:
    """The column that looks most like an id, None where none does."""
    return next(iter(key_candidates(table)), None)


def key_candidates(table: TableFile, also: Collection[str] = ()) -> list[str]:
    """All columns that could be an id: with most distinct ids a row first, then by their names.

    A column that is called like an id is one even where its users have several rows each: that
    is for the party to mend, and row numbers would pair strangers. also: columns that count as
    called so where their ids are nearly distinct.
    """
    found: list[tuple[float, bool, str]] = []
    for name in table.frame.columns:
        if table.frame[name].nunique() < _SOME * len(table.frame):
            continue  # most columns, in passing
        ids, missing = normalise_key(table.frame[name])
        share = len(set(ids[~missing])) / len(ids)
        numbers, _ = as_numbers(table.plain[name])
        moments, _ = as_moments(table.frame[name])
        whole = not (np.isfinite(numbers) & (numbers != np.floor(numbers))).any()
        named = whole and _CALLED_ID.search(name) is not None
        words = bool(np.isnan(numbers).all() and np.isnan(moments).all()) or codes(ids[~missing])
        distinct = share >= NEARLY and (words or (whole and name in also))
        if distinct or (named and share >= _SOME):
            found.append((-share, not named, name))
    return [name for *_, name in sorted(found, key=lambda each: each[:2])]


def _key_note(cells: pd.Series, key: str, normalise: Sequence[Normal]) -> tuple[str, bool]:
    """(what to confirm of a key, with numbers and the remedy; whether to keep first rows).

    Few repeats are kept out by the draft itself. With many, the rows are something else than
    users (orders, visits), and a run stops until the party has aggregated them.
    """
    import pandas as pd

    ids, missing = normalise_key(cells, normalise)
    present = ids[~missing]
    repeated = int(pd.Series(present).duplicated().sum())
    few = 0 < repeated <= (1 - NEARLY) * len(present)
    told = "CONFIRM: the id that the parties have in common"
    told += ", and what does not tell two of them apart" if normalise else ""
    if few:
        told += f"; {repeated} rows repeat an id, `keep_first_by: {key}` keeps each one's first"
    elif repeated:
        told += (
            f"; {repeated} rows repeat an id: aggregate them, or add `keep_first_by: {key}` to "
            "the source"
        )
    if missing.any():
        told += f"; {int(missing.sum())} rows have none: fill in or remove them"
    return told, few


def item(facts: Mapping[str, Any], note: str) -> str:
    """One entry of a YAML list, on one line."""
    return f"- {flow(facts)}" + (f"  # {note}" if note else "")


def flow(value: Any) -> str:
    """A value as YAML: JSON is YAML, and quotes what must be quoted."""
    return json.dumps(value, ensure_ascii=False)
