"""Declared transformations of a source's columns: data, not code, so that both sides can read them.

They run on the text of the cells, before cleaning, and never look at more than one cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinweave.errors import ConfigError
from twinweave.parsing import Parsed
from twinweave.tables.dtypes import as_numbers, as_text, without_point_zero

if TYPE_CHECKING:
    import pandas as pd


class Transform(StrEnum):
    """Named transformations, for what no table of values can say."""

    ICD9_CHAPTER = "icd9_chapter"


@dataclass(frozen=True, kw_only=True)
class Derived(Parsed):
    """A schema column made from one column of the source.

    source: that column.
    values: {text in the source: text in the table}; other cells stay as they are, or become
        `otherwise`.
    otherwise: what cells become that `values` does not name; missing cells stay missing.
    at_least: "1" where the number is at least this, else "0"; what is not a number stays text.
    transform: one of Transform.
    """

    source: str
    values: Mapping[str, str] = field(default_factory=dict)
    otherwise: str | None = None
    at_least: float | None = None
    transform: Transform | None = None

    def __post_init__(self) -> None:
        mapped = bool(self.values) or self.otherwise is not None
        if mapped + (self.at_least is not None) + (self.transform is not None) != 1:
            raise ConfigError(
                "source.derive",
                "needs one of values, at_least, transform",
                "Use `rename` to keep a column as it is.",
            )

    def apply(self, cells: pd.Series) -> pd.Series:
        """The derived column: text, None where the source's cell is missing; same index."""
        import pandas as pd

        text, missing = as_text(cells)
        if self.at_least is not None:
            number, _ = as_numbers(cells)
            flag = np.where(number >= self.at_least, "1", "0").astype(object)
            result = np.where(np.isnan(number), text, flag)
        elif self.transform is not None:
            result = _each_distinct(text, _TRANSFORMS[self.transform])
        else:
            result = _each_distinct(text, self._mapped)
        result[missing] = None
        return pd.Series(result, index=cells.index, dtype=object)

    def _mapped(self, text: str) -> str:
        plain = text if text in self.values else without_point_zero(text)
        return self.values.get(plain, text if self.otherwise is None else self.otherwise)


_ICD9_RANGES = (
    (390, 459, "circulatory"),
    (785, 785, "circulatory"),
    (460, 519, "respiratory"),
    (786, 786, "respiratory"),
    (520, 579, "digestive"),
    (787, 787, "digestive"),
    (250, 250, "diabetes"),
    (800, 999, "injury"),
    (710, 739, "musculoskeletal"),
    (580, 629, "genitourinary"),
    (788, 788, "genitourinary"),
    (140, 239, "neoplasms"),
)


def icd9_chapter(code: str) -> str:
    """The group of an ICD-9 code such as "250.83", "V27" or "E909", one of nine.

    Groups: Strack et al. 2014, doi:10.1155/2014/781670, table 2.
    """
    whole = code.split(".")[0]
    if whole.isdecimal():
        number = int(whole) if len(whole) <= 3 else -1
        for first, last, chapter in _ICD9_RANGES:
            if first <= number <= last:
                return chapter
    return "other"


_TRANSFORMS: dict[Transform, Callable[[str], str]] = {Transform.ICD9_CHAPTER: icd9_chapter}


def _each_distinct(
    text: NDArray[np.object_], function: Callable[[str], str]
) -> NDArray[np.object_]:
    """Apply to every distinct text once; missing cells (None) stay as they are."""
    import pandas as pd

    codes, distinct = pd.factorize(text)
    image = np.array([*map(function, distinct), None], dtype=object)
    return np.asarray(image[codes], dtype=object)
