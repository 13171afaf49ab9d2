"""Ids: the one spelling that every party must arrive at, complete and unique; and odd forms.

Nobody can compare two parties' ids in clear. So what may differ between parties is taken away by
rules that both agreed on in the schema, and each party is told, in its own log alone, of forms
that such a rule is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ColumnError
from twinweave.tables.column import Column, Normal
from twinweave.tables.dtypes import UNREADABLE, as_text, without_point_zero

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]

_SCIENTIFIC = r"[+-]?\d(?:[.,]\d+)?[eE]\+\d+"
_INVISIBLE = "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]"
"""Soft hyphens, zero-width signs and marks of direction, as copying from a page leaves them."""

_SAMPLE = 50_000  # ids that are looked at for odd forms
_SOME = 0.01  # of the ids: fewer are no form of writing


def normalise_key(
    cells: pd.Series, rules: Sequence[Normal] = ()
) -> tuple[NDArray[np.object_], Mask]:
    """(ids as text, missing). What is always done: Unicode NFKC, no blanks around and nothing
    invisible, whole numbers without ".0", lower case where the id holds an "@" (an e-mail
    address). Nothing else is guessed: rules, from the key's schema, say what else.

    UNREADABLE where no id is left: a number in scientific notation, as spreadsheets write long
    ones, has lost digits; so may floats from 2**53 on; a rule may leave nothing.
    """
    import pandas as pd

    text, missing = as_text(cells)
    ids = pd.Series(text, dtype=object)
    present = ids[~missing]
    other = ~present.map(str.isascii).astype(bool)  # nothing to do for the rest
    plain = present[other].str.normalize("NFKC").str.replace(_INVISIBLE, "", regex=True)
    present[other] = plain.str.strip()
    mail = present.str.contains("@", regex=False)
    present = present.where(~mail, present.str.lower())
    point = present.str.endswith("0") & present.str.contains(".", regex=False)
    present[point] = present[point].map(without_point_zero)
    present = present.where(~present.str.fullmatch(_SCIENTIFIC), UNREADABLE)
    readable = present != UNREADABLE
    present[readable] = _by_rules(present[readable], rules)
    ids[~missing] = present.where(present != "", UNREADABLE)
    return ids.to_numpy(dtype=object), missing


def _by_rules(ids: pd.Series, rules: Sequence[Normal]) -> pd.Series:
    if Normal.CASEFOLD in rules:
        ids = ids.str.casefold()
    if Normal.LETTERS_AND_DIGITS in rules:
        ids = ids.str.replace(r"[\W_]+", "", regex=True)
    if Normal.DIGITS in rules:
        ids = ids.str.replace(r"[^0-9]+", "", regex=True)
    if Normal.STRIP_ZEROS in rules:
        ids = ids.str.replace(r"^0+(?=.)", "", regex=True)
    return ids


def check_ids(ids: NDArray[np.object_], key: Column) -> None:
    """Raise ColumnError unless normalised ids are complete and unique."""
    import pandas as pd

    if pd.isna(ids).any():
        raise ColumnError(key.name, "an id is missing", "Fill in or remove the rows without an id.")
    check_readable(ids, key)
    if pd.Index(ids).has_duplicates:
        raise ColumnError(
            key.name,
            "an id occurs more than once (spellings that `normalise` makes equal count as one, "
            "and so do upper and lower case in e-mails)",
            "Aggregate to one row a user, or set `keep_first_by` in the source.",
        )


def clean_clusters(cells: pd.Series, column: Column) -> NDArray[np.object_]:
    """Normalised ids of clusters, None where a user has none. Raises ColumnError."""
    ids, _ = normalise_key(cells, column.normalise)
    check_readable(ids, column)
    return ids


def check_readable(ids: NDArray[np.object_], column: Column) -> None:
    """Raise ColumnError where an id has no text."""
    if (ids == UNREADABLE).any():
        raise ColumnError(
            column.name,
            "an id is neither text nor a whole number with all its digits (a spreadsheet's "
            "4.91E+11 and floats from 2**53 on have lost some), or `normalise` leaves nothing",
            "Export the ids again as text.",
        )


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How ids are written, for the party's own eyes.

    told: one line, for two parties' people to compare: it holds no id. odd: forms that another
    party may write otherwise, a line each.
    """

    told: str
    odd: tuple[str, ...] = ()


def shape_of(ids: NDArray[np.object_], key: Column) -> Shape:
    """The shape of cleaned ids. A form that nearly all have, or hardly any, is not odd."""
    import pandas as pd

    sample = pd.Series(ids[:: max(1, len(ids) // _SAMPLE)], dtype=object)
    mail = sample.str.contains("@", regex=False)
    length = sample.str.len()
    told = [f"{key.name}: ids of {length.min()} to {length.max()} characters"]
    odd = []
    for form in _forms(sample[~mail]):
        share = float(form.ids.mean()) if len(form.ids) else 0.0
        told += [f"{share:.0%} {form.name}"] if share else []
        if form.rule not in key.normalise and form.tells and _SOME <= share <= 1 - _SOME:
            odd.append(
                f"{key.name}: {share:.0%} of the ids {form.name}, others do not. Where another "
                "party writes them otherwise they do not match: agree on "
                f"`normalise: [{form.rule}]`"
            )
    told += [f"{mail.mean():.0%} are e-mails"] if mail.any() else []
    return Shape(told=", ".join(told), odd=tuple(odd))


class _Form(NamedTuple):
    """A form of writing, which ids have it, the rule that takes it away; tells: whether having
    it or not can be a difference of writing alone."""

    name: str
    ids: pd.Series
    rule: Normal
    tells: bool = True


def _forms(ids: pd.Series) -> list[_Form]:
    upper, lower = ids.str.isupper(), ids.str.islower()
    mixed = ~upper & ~lower & ids.str.contains(r"[^\W\d_]", regex=True)
    number = ids.str.fullmatch(r"\+?[\d \-./()]+").astype(bool)
    marks = ids.str.contains(r"[\s\-./]", regex=True)
    return [
        # Random text of both cases has ids of one case by chance.
        _Form("are in upper case", upper, Normal.CASEFOLD, bool(lower.any() and not mixed.any())),
        _Form(
            "begin with a zero",
            ids.str.startswith("0") & number,
            Normal.STRIP_ZEROS,
            ids.str.len().nunique() > 1,  # else random digits, or padded alike
        ),
        _Form("have dashes, dots or blanks", marks, Normal.LETTERS_AND_DIGITS),
        _Form('begin with "+"', ids.str.startswith("+") & number, Normal.DIGITS),
    ]
