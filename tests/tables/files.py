"""Generated tables, and files of them as people and programs write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import strategies as st

WORDS = (("0", "1"), ("no", "yes"), ("N", "Y"), ("f", "t"), ("False", "True"), ("0.0", "1.0"))
NAMES: tuple[str, ...] = (
    "index",
    "level_0",
    "values",
    "T",
    "name",
    "None",
    "nan",
    "a,b",
    'q"t',
    "Größe 日本",
)
NAMES += ("__index_level_0__", "present_shop", "(missing)", "\U0001f600", "a;b|c", "x'y", "_")
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).map(str.strip).filter(bool)
WILD = st.one_of(
    TEXT, st.sampled_from(["1", "1.0", "01", "nan", "NA", 'a"b', "a\\", "a\nb", "a,b;c"])
)
EARLY = datetime(1, 1, 2, tzinfo=UTC)
LATE = datetime(9999, 12, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Drawn:
    """One column. cells: what the table means, None where missing, as `clean` types it.
    written: the same cells as they stand in the file (text in CSV, a dtype in Parquet)."""

    facts: dict[str, Any]
    cells: list[Any]
    text: list[str | None]
    typed: pd.Series


def _gappy(draw: st.DrawFn, cells: Sequence[Any]) -> list[Any]:
    return [None if draw(st.integers(0, 5)) == 0 else cell for cell in cells]


def _texts(draw: st.DrawFn, n: int) -> Drawn:
    levels = draw(st.lists(WILD, min_size=2, max_size=4, unique=True))
    cells = _gappy(draw, [draw(st.sampled_from(levels)) for _ in range(n)])
    dtype = draw(st.sampled_from(["object", "string", "category"]))
    return Drawn(
        {"kind": "categorical", "levels": levels}, cells, cells, pd.Series(cells, dtype=dtype)
    )


def _codes(draw: st.DrawFn, n: int) -> Drawn:
    """Whole numbers as codes, beyond 2**53 too."""
    levels = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=4, unique=True))
    cells = _gappy(draw, [draw(st.sampled_from(levels)) for _ in range(n)])
    told = [None if c is None else str(c) for c in cells]
    facts = {"kind": "categorical", "levels": [str(v) for v in levels]}
    return Drawn(facts, told, told, pd.Series(pd.array(cells, dtype="Int64")))


def _integers(draw: st.DrawFn, n: int) -> Drawn:
    top = 2**53 - 1
    cells = _gappy(draw, draw(st.lists(st.integers(-top, top), min_size=n, max_size=n)))
    point = draw(st.sampled_from(["", ".0", ".00"]))
    text = [None if c is None else f"{c}{point}" for c in cells]
    dtype = draw(st.sampled_from(["Int64", "float64", "object"]))
    typed = pd.Series(pd.array(cells, dtype="Int64"))
    typed = (
        typed if dtype == "Int64" else pd.Series(text if dtype == "object" else cells, dtype=dtype)
    )
    return Drawn({"kind": "integer", "bounds": [-top, top]}, cells, text, typed)


def _floats(draw: st.DrawFn, n: int) -> Drawn:
    cells = _gappy(draw, draw(st.lists(st.floats(-1e9, 1e9), min_size=n, max_size=n)))
    text = [None if c is None else repr(c) for c in cells]
    typed = pd.Series(cells, dtype=draw(st.sampled_from(["float64", "Float64"])))
    return Drawn({"kind": "continuous", "bounds": [-1e9, 1e9]}, cells, text, typed)


def _dates(draw: st.DrawFn, n: int) -> Drawn:
    """Moments of any year, in zones of any offset; text of several ISO forms in one column."""
    moments = st.datetimes(EARLY.replace(tzinfo=None), LATE.replace(tzinfo=None)).map(
        lambda m: m.replace(microsecond=0)  # floats of seconds are exact to those in any year
    )
    drawn = _gappy(draw, draw(st.lists(moments, min_size=n, max_size=n)))
    text = [None if m is None else draw(_iso(m.replace(tzinfo=UTC))) for m in drawn]
    cells = [None if m is None else pd.Timestamp(m).as_unit("us") for m in drawn]
    typed: pd.Series[Any] = pd.Series(text, dtype=object)
    if draw(st.booleans()):
        typed = pd.Series(pd.array(drawn, dtype="datetime64[us]"))
        zone = draw(st.sampled_from([None, "UTC", "Asia/Kolkata"]))
        typed = typed if zone is None else typed.dt.tz_localize("UTC").dt.tz_convert(zone)
    bounds = ["0001-01-01", "9999-12-31"]
    return Drawn({"kind": "datetime", "bounds": bounds}, cells, text, typed)


@st.composite
def _iso(draw: st.DrawFn, moment: datetime) -> str:
    offset = draw(st.sampled_from([0, 0, 5.5, -8]))
    there = moment.astimezone(timezone(timedelta(hours=offset)))
    sign = draw(st.sampled_from(["T", " "]))
    if offset:
        return there.isoformat(sign)
    naive = there.replace(tzinfo=None).isoformat(sign)
    return draw(st.sampled_from([naive, f"{naive}Z", f"{naive}+00:00"]))


def _booleans(draw: st.DrawFn, n: int) -> Drawn:
    levels = draw(st.sampled_from([("0", "1"), ("no", "yes"), ("False", "True")]))
    drawn = _gappy(draw, draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    words = draw(st.sampled_from(WORDS))
    cells = [None if c is None else levels[c] for c in drawn]
    text = [None if c is None else words[c] for c in drawn]
    dtype = draw(st.sampled_from(["boolean", "Int64", "float64", "object"]))
    typed = pd.Series(text if dtype == "object" else drawn, dtype=dtype)
    return Drawn({"kind": "boolean", "levels": levels}, cells, text, typed)


def _empty(draw: st.DrawFn, n: int) -> Drawn:
    gone: list[Any] = [None] * n
    return Drawn(
        {"kind": "categorical", "levels": ["a", "b"]}, gone, gone, pd.Series(gone, dtype=object)
    )


def _constant(draw: st.DrawFn, n: int) -> Drawn:
    cells: list[Any] = [draw(st.sampled_from(["a", "1"]))] * n
    facts = {"kind": "categorical", "levels": ["a", "1"]}
    return Drawn(facts, cells, cells, pd.Series(cells, dtype="category"))


COLUMNS: tuple[Callable[[st.DrawFn, int], Drawn], ...] = (
    *(_texts, _codes, _integers, _floats, _dates, _booleans, _empty, _constant),
)


@dataclass(frozen=True)
class Table:
    ids: list[str]
    columns: dict[str, Drawn]

    @property
    def schema(self) -> dict[str, Any]:
        key = {"name": "id", "kind": "categorical", "role": "key"}
        own = [{"name": n, "missing": "level", **c.facts} for n, c in self.columns.items()]
        return {"party": "shop", "columns": [key, *own]}


@st.composite
def tables(draw: st.DrawFn) -> Table:
    n = draw(st.integers(1, 4))
    form = draw(st.sampled_from(["{}", "0{}", "u{}", "U-{}", " u{}\t", "u{}@Mail.example"]))
    names = draw(
        st.lists(st.one_of(st.sampled_from(NAMES), TEXT), min_size=1, max_size=4, unique=True)
    )
    columns = {name: draw(st.sampled_from(COLUMNS))(draw, n) for name in names}
    return Table([form.format(i) for i in range(n)], columns)


@dataclass(frozen=True)
class Written:
    """How a CSV is written, and what its source says of that."""

    separator: str
    encoding: str
    end: str
    quoted: bool
    before: str  # the header
    after: str  # each cell's text, before the line's end
    blank: str  # after separators

    @property
    def source(self) -> dict[str, Any]:
        return {"separator": self.separator, "encoding": self.encoding, "escape": ""}


WAYS = st.builds(
    Written,
    separator=st.sampled_from([",", ";", "\t", "|", "||", "§"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    end=st.sampled_from(["\n", "\r\n"]),
    quoted=st.booleans(),
    before=st.sampled_from(["", "", "\n", "\r\n\n"]),
    after=st.sampled_from(["", "", "separator"]),
    blank=st.sampled_from(["", "", " "]),
)


def write_csv(path: Path, table: Table, way: Written) -> None:
    """Raises UnicodeEncodeError where the encoding has no such sign."""
    rows = [["id", *table.columns]]
    rows += [
        list(row) for row in zip(table.ids, *(c.text for c in table.columns.values()), strict=True)
    ]
    special = (way.separator, way.separator[0], '"', "\n", "\r", " ", "\t")

    def cell(text: str | None) -> str:
        if text is None:
            return ""
        if way.quoted or any(sign in text for sign in special):
            return '"' + text.replace('"', '""') + '"'
        return text

    joined = (f"{way.separator}{way.blank}".join(map(cell, row)) for row in rows)
    after = way.separator if way.after else ""
    text = way.before + "".join(f"{line}{after}{way.end}" for line in joined)
    path.write_bytes(text.encode(way.encoding))


def write_parquet(path: Path, table: Table, *, index: bool) -> None:
    frame = pd.DataFrame({"id": table.ids, **{n: c.typed for n, c in table.columns.items()}})
    (frame.set_index("id") if index else frame).to_parquet(path)
